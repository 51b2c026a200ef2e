//! Output of reports, and the exit codes.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use super::ask::{DaemonReport, NoReport, ask};
use super::textfile;
use crate::args::StatusOutput;
use crate::console::{Palette, complain, is_screen, print, print_coloured};
use crate::restraints::HoldChange;
use crate::status::{Form, Query, down};
use fence_virt::sys::error_text;

/// Interval of `--watch`.
const INTERVAL: Duration = Duration::from_secs(2);
/// Exit code for a report with problems.
const PROBLEMS: u8 = 2;
/// Control sequences that move to the top left corner and clear what follows (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Prints the last power operations. Exit code 0: they are printed, 1: no answer.
pub(crate) fn history(config: &Path, query: &Query) -> ExitCode {
    printed(config, query)
}

/// Prints the reply. Exit code 0: it is printed, 1: no answer, or a refusal.
fn printed(config: &Path, query: &Query) -> ExitCode {
    match ask(config, query) {
        Ok(report) => print(&report.text),
        Err(NoReport { reason, .. }) => complain(&format!("fence_virtd: {reason}\n")),
    }
}

/// Has the daemon that runs with this configuration read it again, and prints the changes. Exit code 0: they are
/// in force; 1: refused, or no answer.
pub(crate) fn reload(config: &Path) -> ExitCode {
    ordered(config, Query::Reload)
}

/// Has the daemon that runs with this configuration place or release a hold, and prints the result. Exit code 0: it
/// is in force; 1: refused, or no answer.
pub(crate) fn hold(config: &Path, change: HoldChange) -> ExitCode {
    ordered(config, |config| Query::Hold { change, config })
}

/// Sends an order with the absolute path of the configuration.
fn ordered(config: &Path, order: impl FnOnce(PathBuf) -> Query) -> ExitCode {
    match std::path::absolute(config).map(PathBuf::into_os_string).map(OsString::into_string) {
        Ok(Ok(absolute)) if !absolute.contains('\n') => printed(config, &order(absolute.into())),
        _ => complain("fence_virtd: the path of the configuration is not text of one line\n"),
    }
}

/// Prints the status, or writes it to a file. Exit code 0: no problems, 2: problems, 1: no answer, or the report
/// cannot be written.
pub(crate) fn status(config: &Path, output: &StatusOutput) -> ExitCode {
    match output {
        StatusOutput::Once(form) => once(config, *form),
        StatusOutput::Watch(form) => watch(config, for_stdout(*form)),
        StatusOutput::Textfile(path) => write(config, path),
    }
}

/// Returns the format of a report on stdout: text for a terminal has a table.
fn for_stdout(form: Form) -> Form {
    if form == Form::Text && io::stdout().is_terminal() { Form::Table } else { form }
}

fn once(config: &Path, form: Form) -> ExitCode {
    match ask(config, &Query::Status(for_stdout(form))) {
        Ok(DaemonReport { text, is_well }) => {
            after(print_coloured(&text, palette(form)), if is_well { 0 } else { PROBLEMS })
        }
        Err(NoReport { reason, .. }) => {
            // Programs read stdout, whatever the state.
            if matches!(form, Form::Json | Form::OpenMetrics) {
                print(&down(form, &reason));
            }
            complain(&format!("fence_virtd: {reason}\n"))
        }
    }
}

/// Prints the status again and again, until stdout is closed.
fn watch(config: &Path, form: Form) -> ExitCode {
    let mut is_first = true;
    loop {
        let report = ask(config, &Query::Status(form))
            .map_or_else(|none| down(form, &none.reason), |report| report.text);
        let between = match (form, is_screen()) {
            (Form::Text | Form::Table, true) => CLEAR,
            (Form::Text | Form::Table, false) if !is_first => "\n",
            _ => "",
        };
        is_first = false;
        if io::stdout().write_all(between.as_bytes()).is_err()
            || print_coloured(&report, palette(form)) != ExitCode::SUCCESS
            || io::stdout().flush().is_err()
        {
            return ExitCode::FAILURE;
        }
        thread::park_timeout(INTERVAL);
    }
}

fn write(config: &Path, path: &Path) -> ExitCode {
    let (text, code) = match ask(config, &Query::Status(Form::OpenMetrics)) {
        Ok(DaemonReport { text, is_well }) => (text, if is_well { 0 } else { PROBLEMS }),
        Err(NoReport { reason, .. }) => {
            complain(&format!("fence_virtd: {reason}\n"));
            (down(Form::OpenMetrics, &reason), 1)
        }
    };
    match textfile::replace(path, &text) {
        Ok(()) => ExitCode::from(code),
        Err(error) => {
            complain(&format!("fence_virtd: cannot write {}: {}\n", path.display(), error_text(&error)))
        }
    }
}

fn palette(form: Form) -> Palette {
    if matches!(form, Form::Text | Form::Table) { Palette::of_stdout() } else { Palette::default() }
}

/// Returns the exit code after an output: a failure of the output counts more than the state.
fn after(printed: ExitCode, code: u8) -> ExitCode {
    if printed == ExitCode::SUCCESS { ExitCode::from(code) } else { printed }
}
