//! `fence_virtd -c`: asks for the settings and writes them into the
//! configuration file.
//!
//! 1. `files` reads the file that is there and finds out where to write.
//! 2. `interview` asks, through a `dialog`, what `questions` makes of the table
//!    of keys, and changes the text (`config::Editable`) answer by answer.
//! 3. `keys` offers to make key files that are missing.
//! 4. What changes is shown (`diff`), and written if the last answer is yes.
//!
//! Nothing on disk is changed before that answer.

mod dialog;
mod diff;
mod draft;
mod files;
mod interview;
mod keys;
mod questions;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use dialog::Dialog;
use files::Place;
use interview::Interview;

use crate::args::DEFAULT_CONFIG;
use fence_virt::config::{self, Config, Editable};

/// Sets the configuration up, with answers from stdin and questions on stdout.
///
/// # Errors
///
/// A sentence: the file cannot be read or written, an answer is wrong and
/// stdin is no terminal, stdin ended early, or the last answer was no.
pub(crate) fn run(path: &Path) -> Result<(), String> {
    let stdin = io::stdin();
    let is_terminal = stdin.is_terminal();
    set_up(path, &mut Dialog::new(stdin.lock(), io::stdout().lock(), is_terminal))
}

const INTRODUCTION: &str = "\
Enter keeps what stands in brackets, \"-\" goes back to the default, \"?\" explains.
Nothing is written before the last question.
";

const WRITE_HELP: &str = "\
y replaces the file by the new one, in one step, and makes the key files that you asked for;
n or Enter leaves everything as it is.";

fn set_up(path: &Path, dialog: &mut Dialog<impl BufRead, impl Write>) -> Result<(), String> {
    let place = Place::find(path)?;
    let old = place.read()?;
    let name = path.display();
    dialog.say(&format!("Setting up {name}.\n{INTRODUCTION}"))?;
    let editable = match &old {
        None => {
            dialog.say("\nThere is no such file yet; it will be made.\n")?;
            Some(Editable::default())
        }
        Some(bytes) => examine(path, bytes, &place, dialog)?,
    };
    let starts_anew = editable.is_none();
    let mut interview = Interview::new(editable.unwrap_or_default());
    interview.ask(dialog)?;
    let text = interview.into_text();
    let config = judge(path, &text, dialog)?;
    let missing = keys::ask(config.as_ref(), dialog)?;
    let changes = old.as_deref() != Some(text.as_bytes());
    if !changes {
        dialog.say(&format!("\nNothing changes in {name}.\n"))?;
    } else {
        let before = String::from_utf8_lossy(old.as_deref().unwrap_or_default());
        dialog.say(&format!("\nWhat changes:\n\n{}", diff::unified(&name.to_string(), &before, &text)))?;
        if !dialog.confirm("\nWrite it? [y/N] ", WRITE_HELP)? {
            return Err("as you say: nothing was written".to_string());
        }
        if starts_anew {
            dialog.say(&format!("The old file is kept as {}.\n", place.back_up()?.display()))?;
        }
    }
    keys::make(&missing, dialog)?;
    if changes {
        place.write(old.as_deref(), text.as_bytes())?;
        dialog.say(&format!("{name} is written.\n"))?;
    }
    dialog.say(&next_steps(path))
}

/// Says what is wrong with the file that is there. What breaks the grammar
/// cannot be changed in its place: then there is none.
fn examine(
    path: &Path,
    bytes: &[u8],
    place: &Place,
    dialog: &mut Dialog<impl BufRead, impl Write>,
) -> Result<Option<Editable>, String> {
    let outcome = config::parse(path, bytes);
    if outcome.config.is_none() {
        dialog.say(&format!("\nThe file as it is:\n\n{}", outcome.diagnostics.render(true)))?;
    }
    if let Some(editable) = Editable::new(bytes) {
        return Ok(Some(editable));
    }
    dialog.say(&format!(
        "\nThis cannot be read, so all starts from the defaults. If the result is written, the old file is\nkept \
         as {}.\n",
        place.backup_name().display()
    ))?;
    Ok(None)
}

/// Shows what would run with the new text, and what is wrong in it.
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
        dialog.say(&format!("\nAbout the new file:\n\n{}", outcome.diagnostics.render(true)))?;
    }
    if outcome.config.is_none() {
        dialog.say("\nfence_virtd does not start with it before these errors are corrected by hand.\n")?;
    }
    Ok(outcome.config)
}

fn next_steps(path: &Path) -> String {
    let option = match path == Path::new(DEFAULT_CONFIG) {
        true => String::new(),
        false => format!(" -f {}", path.display()),
    };
    format!(
        "\nNow check it, keys and interfaces included, with\n\n    fence_virtd --check{option}\n\nand start or restart \
         the daemon, as with `systemctl restart fence_virtd`.\nFor another key, hash or \
         auth alone a reload is enough: SIGHUP.\n"
    )
}
