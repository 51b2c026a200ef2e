//! The run of `-c`, from the old file to the new one.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use super::dialog::Dialog;
use super::interview::Interview;
use super::target_file::TargetFile;
use super::{diff, keys};
use crate::args::DEFAULT_CONFIG;
use crate::console::complain;
use fence_virt::config::{self, Config, Editable};

/// Sets up the configuration, with answers from stdin and questions on stdout. Exit code 1:
/// the file cannot be read or written, an answer is wrong and stdin is not a terminal,
/// stdin ended early, or the last answer was no.
pub(crate) fn run(path: &Path) -> ExitCode {
    let stdin = io::stdin();
    let is_terminal = stdin.is_terminal();
    match set_up(path, &mut Dialog::new(stdin.lock(), io::stdout().lock(), is_terminal)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => complain(&format!("fence_virtd: {reason}\n")),
    }
}

const INTRODUCTION: &str = "\
Enter keeps the value in brackets, \"-\" restores the default, \"?\" shows help.
Nothing is written before the last question.
";

const WRITE_HELP: &str = "\
y replaces the file and creates the key files that you asked for;
n or Enter leaves everything unchanged.";

fn set_up(path: &Path, dialog: &mut Dialog<impl BufRead, impl Write>) -> Result<(), String> {
    let target = TargetFile::find(path)?;
    let old = target.read()?;
    let name = path.display();
    dialog.say(&format!("Setting up {name}.\n{INTRODUCTION}"))?;
    let editable = match &old {
        None => {
            dialog.say("\nThe file does not exist yet; it will be created.\n")?;
            Some(Editable::default())
        }
        Some(bytes) => examine(path, bytes, &target, dialog)?,
    };
    let starts_anew = editable.is_none();
    let mut interview = Interview::new(editable.unwrap_or_default());
    interview.ask(dialog)?;
    let text = interview.into_text();
    let config = judge(path, &text, dialog)?;
    let missing = keys::ask(config.as_ref(), dialog)?;
    let changes = old.as_deref() != Some(text.as_bytes());
    if !changes {
        dialog.say(&format!("\nNo changes to {name}.\n"))?;
    } else {
        let before = String::from_utf8_lossy(old.as_deref().unwrap_or_default());
        dialog.say(&format!("\nChanges:\n\n{}", diff::unified(&name.to_string(), &before, &text)))?;
        if !dialog.confirm("\nWrite it? [y/N] ", WRITE_HELP)? {
            return Err("nothing was written".to_string());
        }
        if starts_anew {
            dialog.say(&format!("The old file is kept as {}.\n", target.back_up()?.display()))?;
        }
    }
    keys::create_all(&missing, dialog)?;
    if changes {
        target.write(old.as_deref(), text.as_bytes())?;
        dialog.say(&format!("Wrote {name}.\n"))?;
    }
    dialog.say(&next_steps(path))
}

/// Prints what is wrong with the existing file. Returns none if it has syntax errors, which
/// prevent changes in place.
fn examine(
    path: &Path,
    bytes: &[u8],
    target: &TargetFile,
    dialog: &mut Dialog<impl BufRead, impl Write>,
) -> Result<Option<Editable>, String> {
    let outcome = config::parse(path, bytes);
    if outcome.config.is_none() {
        dialog.say(&format!("\nThe current file:\n\n{}", outcome.diagnostics.render(true)))?;
    }
    if let Some(editable) = Editable::new(bytes) {
        return Ok(Some(editable));
    }
    dialog.say(&format!(
        "\nIt cannot be parsed, so the questions start from the defaults. If the result is written, the old\nfile \
         is kept as {}.\n",
        target.backup_name().display()
    ))?;
    Ok(None)
}

/// Prints what would run with the new text, and what is wrong with it.
fn judge(
    path: &Path,
    text: &str,
    dialog: &mut Dialog<impl BufRead, impl Write>,
) -> Result<Option<Config>, String> {
    let outcome = config::parse(path, text.as_bytes());
    if let Some(config) = &outcome.config {
        dialog.say(&format!("\nWhat would run:\n\n{}", config.summary()))?;
    }
    if !outcome.diagnostics.is_empty() {
        dialog.say(&format!("\nProblems in the new file:\n\n{}", outcome.diagnostics.render(true)))?;
    }
    if outcome.config.is_none() {
        dialog.say("\nfence_virtd will not start until these errors are fixed by hand.\n")?;
    }
    Ok(outcome.config)
}

fn next_steps(path: &Path) -> String {
    let option = match path == Path::new(DEFAULT_CONFIG) {
        true => String::new(),
        false => format!(" -f {}", path.display()),
    };
    format!(
        "\nNow check it, including keys and interfaces, with\n\n    fence_virtd --check{option}\n\nand start or \
         restart the daemon, for example with `systemctl restart fence_virtd`.\nIf only a key, hash or auth \
         changed, a reload (SIGHUP) is enough.\n"
    )
}
