//! Command line of the daemon.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::hold_options::HoldOptions;
use crate::restraints::HoldChange;
use crate::status::{Form, HistoryForm};
use fence_virt::fence::{Operation, Rights, did_you_mean};

/// Default path of the configuration.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/fence_virt.conf";

/// Program that the command line selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Invocation {
    Run(Options),
    Check { config: PathBuf, pid_file: PathBuf, is_lenient: bool },
    Status { config: PathBuf, output: StatusOutput },
    History { config: PathBuf, form: HistoryForm, vm: Option<String> },
    Reload(PathBuf),
    Explain { config: PathBuf, requester: String, vm: String, operation: Option<Operation> },
    Hold { config: PathBuf, change: HoldChange },
    Doctor { config: PathBuf, pid_file: PathBuf, is_json: bool, errors_only: bool },
    AddKey { config: PathBuf, pid_file: PathBuf, vm: String, uuid: Option<String> },
    SelfTest { config: PathBuf, key: Option<PathBuf>, vm: Option<String>, is_confirmed: bool },
    Setup(PathBuf),
    List,
    Version,
    Help,
}

/// Output of `--status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StatusOutput {
    /// Printed once.
    Once(Form),
    /// Printed again and again.
    Watch(Form),
    /// OpenMetrics, written to a file.
    Textfile(PathBuf),
}

/// Options of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) config: PathBuf,
    pub(crate) foreground: bool,
    pub(crate) debug: Option<u32>,
    pub(crate) wait_for_init: bool,
    pub(crate) pid_file: PathBuf,
    pub(crate) is_json: bool,
}

/// Command line: what it selects, and what is odd about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DaemonCommand {
    pub(crate) invocation: Invocation,
    /// A sentence for an option of which only the last value counts.
    pub(crate) warning: Option<String>,
}

/// Program other than the daemon. A command line selects at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Setup,
    Check,
    AddKey,
    Doctor,
    Explain,
    Status,
    History,
    SelfTest,
    Reload,
    Hold,
    Release,
    List,
}

impl Program {
    /// Option that selects it, as messages name it.
    fn option(self) -> &'static str {
        match self {
            Program::Setup => "--configure (-c)",
            Program::Check => "--check (-t)",
            Program::AddKey => "--add-key",
            Program::Doctor => "--doctor",
            Program::Explain => "--explain",
            Program::Status => "--status",
            Program::History => "--history",
            Program::SelfTest => "--self-test",
            Program::Reload => "--reload",
            Program::Hold => "--hold",
            Program::Release => "--release",
            Program::List => "--list (-l)",
        }
    }
}

/// Option that changes what a program does, with the programs that know it.
struct Modifier(&'static str, &'static [Program]);

const LENIENT: Modifier = Modifier("--lenient", &[Program::Check]);
const VM: Modifier = Modifier("--vm", &[Program::History]);
const OPERATION: Modifier = Modifier("--operation", &[Program::Explain]);
const JSON: Modifier = Modifier("--json", &[Program::Status, Program::History, Program::Doctor]);
const OPENMETRICS: Modifier = Modifier("--openmetrics", &[Program::Status]);
const ERRORS_ONLY: Modifier = Modifier("--errors-only", &[Program::Doctor]);
const UUID: Modifier = Modifier("--uuid", &[Program::AddKey]);
const KEY: Modifier = Modifier("--key", &[Program::SelfTest]);
const FENCE: Modifier = Modifier("--fence", &[Program::SelfTest]);
const YES: Modifier = Modifier("--yes", &[Program::SelfTest]);
const FOR: Modifier = Modifier("--for", &[Program::Hold]);
const REASON: Modifier = Modifier("--reason", &[Program::Hold]);
const WATCH: Modifier = Modifier("--watch", &[Program::Status]);
const TEXTFILE: Modifier = Modifier("--textfile", &[Program::Status]);
/// Modifiers that exclude each other. A text file is always OpenMetrics.
const EXCLUSIVE: [(&Modifier, &Modifier); 4] =
    [(&JSON, &OPENMETRICS), (&WATCH, &OPENMETRICS), (&TEXTFILE, &WATCH), (&TEXTFILE, &JSON)];

/// Selected programs and modifiers in the order of the command line, with their values.
#[derive(Default)]
struct Selection {
    programs: Vec<Program>,
    modifiers: Vec<Modifier>,
    vm: Option<String>,
    textfile: Option<PathBuf>,
    /// VM of `--add-key`, and its UUID.
    added: (Option<String>, Option<String>),
    key: Option<PathBuf>,
    /// VM of `--fence`.
    fence: Option<String>,
    /// Requester and VM of `--explain`.
    pair: Option<(String, String)>,
    operation: Option<Operation>,
    /// Values of `--hold` and `--release`.
    hold: HoldOptions,
}

/// Parses the command line, without the program's name.
/// Errors: a sentence about the first wrong argument.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<DaemonCommand, String> {
    let mut options = Options {
        config: DEFAULT_CONFIG.into(),
        foreground: false,
        debug: None,
        wait_for_init: false,
        pid_file: crate::pid_file::DEFAULT.into(),
        is_json: false,
    };
    let mut selection = Selection::default();
    let mut configs: Vec<PathBuf> = Vec::new();
    let mut parser = lexopt::Parser::from_args(args);
    let explain = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(explain)? {
        match argument {
            Short('F') | Long("foreground") => options.foreground = true,
            Short('f') | Long("config") => configs.push(parser.value().map_err(explain)?.into()),
            Short('d') | Long("debug") => {
                let level = parser.value().map_err(explain)?;
                let level = level.to_str().and_then(|text| text.parse().ok());
                options.debug = Some(level.ok_or("the debug level (-d) must be a number, 0 or more")?);
            }
            Short('w') | Long("wait-for-init") => options.wait_for_init = true,
            Short('p') | Long("pid-file") => options.pid_file = parser.value().map_err(explain)?.into(),
            Long("log") => options.is_json = is_json(&parser.value().map_err(explain)?)?,
            Short('c') | Long("configure") => selection.programs.push(Program::Setup),
            Short('t') | Long("check") => selection.programs.push(Program::Check),
            Long("lenient") => selection.modifiers.push(LENIENT),
            Long("add-key") => {
                selection.added.0 = Some(text(parser.value().map_err(explain)?)?);
                selection.programs.push(Program::AddKey);
            }
            Long("uuid") => {
                selection.added.1 = Some(text(parser.value().map_err(explain)?)?);
                selection.modifiers.push(UUID);
            }
            Long("doctor") => selection.programs.push(Program::Doctor),
            Long("explain") => {
                let requester = text(parser.value().map_err(explain)?)?;
                let missing = |_| "--explain needs a requester and a VM".to_owned();
                selection.pair = Some((requester, text(parser.value().map_err(missing)?)?));
                selection.programs.push(Program::Explain);
            }
            Long("operation") => {
                selection.operation = Some(operation(&parser.value().map_err(explain)?)?);
                selection.modifiers.push(OPERATION);
            }
            Long("status") => selection.programs.push(Program::Status),
            Long("openmetrics") => selection.modifiers.push(OPENMETRICS),
            Long("watch") => selection.modifiers.push(WATCH),
            Long("textfile") => {
                selection.textfile = Some(parser.value().map_err(explain)?.into());
                selection.modifiers.push(TEXTFILE);
            }
            Long("reload") => selection.programs.push(Program::Reload),
            Long(option @ ("hold" | "release" | "for" | "reason")) => {
                let option = option.to_owned();
                match option.as_str() {
                    "hold" => selection.programs.push(Program::Hold),
                    "release" => selection.programs.push(Program::Release),
                    "for" => selection.modifiers.push(FOR),
                    _ => selection.modifiers.push(REASON),
                }
                selection.hold.take(&option, parser.value().map_err(explain)?)?;
            }
            Long("history") => selection.programs.push(Program::History),
            Long("vm") => {
                selection.vm = Some(text(parser.value().map_err(explain)?)?);
                selection.modifiers.push(VM);
            }
            Long("json") => selection.modifiers.push(JSON),
            Long("errors-only") => selection.modifiers.push(ERRORS_ONLY),
            Long("self-test") => selection.programs.push(Program::SelfTest),
            Long("key") => {
                selection.key = Some(parser.value().map_err(explain)?.into());
                selection.modifiers.push(KEY);
            }
            Long("fence") => {
                selection.fence = Some(text(parser.value().map_err(explain)?)?);
                selection.modifiers.push(FENCE);
            }
            Long("yes") => selection.modifiers.push(YES),
            Short('l') | Long("list") => selection.programs.push(Program::List),
            Short('V') | Long("version") => return Ok(Invocation::Version.into()),
            Short('h' | '?') | Long("help") => return Ok(Invocation::Help.into()),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let warning = warning(&configs);
    options.config = configs.pop().unwrap_or(options.config);
    Ok(DaemonCommand { invocation: selection.invocation(options)?, warning })
}

impl From<Invocation> for DaemonCommand {
    fn from(invocation: Invocation) -> DaemonCommand {
        DaemonCommand { invocation, warning: None }
    }
}

/// Warning about several configurations.
fn warning(configs: &[PathBuf]) -> Option<String> {
    let (last, ignored) = configs.split_last()?;
    let ignored: Vec<String> = ignored.iter().map(|path| path.display().to_string()).collect();
    let names = ignored.join(", ");
    (!ignored.is_empty())
        .then(|| format!("--config (-f) is given more than once: {} is read, not {names}", last.display()))
}

/// Returns an argument as text that fits one line.
fn text(argument: OsString) -> Result<String, String> {
    let text = argument.into_string().ok().filter(|text| !text.contains(['\n', '\0']));
    text.ok_or_else(|| "the name of a VM or requester is not text of one line".into())
}

fn operation(argument: &OsStr) -> Result<Operation, String> {
    let word = argument.to_string_lossy();
    Rights::operation_of(&word).ok_or_else(|| {
        let hint = did_you_mean(&word, Rights::words());
        format!("unknown operation {word:?}; expected one of: {}{hint}", Rights::all())
    })
}

fn is_json(format: &OsStr) -> Result<bool, String> {
    match format.to_str() {
        Some("text") => Ok(false),
        Some("json") => Ok(true),
        _ => Err("the log format (--log) must be text or json".into()),
    }
}

impl Selection {
    /// Returns the selected program; none for the daemon.
    /// Errors: a sentence about options that do not go together.
    fn program(&self) -> Result<Option<Program>, String> {
        let first = self.programs.first().copied();
        if let (Some(first), Some(other)) =
            (first, self.programs.iter().find(|&&program| Some(program) != first))
        {
            return Err(format!("{} and {} cannot be combined", first.option(), other.option()));
        }
        for Modifier(option, programs) in &self.modifiers {
            if !first.is_some_and(|program| programs.contains(&program)) {
                let programs: Vec<&str> = programs.iter().map(|program| program.option()).collect();
                return Err(format!("{option} requires {}", programs.join(" or ")));
            }
        }
        let excluded = EXCLUSIVE.iter().find(|(one, other)| self.has(one) && self.has(other));
        if let Some((Modifier(one, _), Modifier(other, _))) = excluded {
            return Err(format!("{one} and {other} cannot be combined"));
        }
        if self.has(&YES) && !self.has(&FENCE) {
            return Err("--yes requires --fence".to_owned());
        }
        Ok(first)
    }

    fn has(&self, modifier: &Modifier) -> bool {
        self.modifiers.iter().any(|given| given.0 == modifier.0)
    }

    fn invocation(self, options: Options) -> Result<Invocation, String> {
        let program = self.program()?;
        let (errors_only, is_confirmed) = (self.has(&ERRORS_ONLY), self.has(&YES));
        let (is_json, is_lenient, is_watch) = (self.has(&JSON), self.has(&LENIENT), self.has(&WATCH));
        let form = match self.has(&OPENMETRICS) {
            true => Form::OpenMetrics,
            false if is_json => Form::Json,
            false => Form::Text,
        };
        let Options { config, pid_file, .. } = options;
        Ok(match (program, self.pair) {
            (Some(Program::Setup), _) => Invocation::Setup(config),
            (Some(Program::Check), _) => Invocation::Check { config, pid_file, is_lenient },
            (Some(Program::Doctor), _) => Invocation::Doctor { config, pid_file, is_json, errors_only },
            (Some(Program::AddKey), _) => {
                let (vm, uuid) = self.added;
                Invocation::AddKey { config, pid_file, vm: vm.unwrap_or_default(), uuid }
            }
            (Some(Program::SelfTest), _) => {
                Invocation::SelfTest { config, key: self.key, vm: self.fence, is_confirmed }
            }
            (Some(Program::Explain), Some((requester, vm))) => {
                Invocation::Explain { config, requester, vm, operation: self.operation }
            }
            (Some(Program::Status), _) => {
                let output = match self.textfile {
                    Some(path) => StatusOutput::Textfile(path),
                    None if is_watch => StatusOutput::Watch(form),
                    None => StatusOutput::Once(form),
                };
                Invocation::Status { config, output }
            }
            (Some(Program::History), _) => {
                let form = if is_json { HistoryForm::Json } else { HistoryForm::Text };
                Invocation::History { config, form, vm: self.vm }
            }
            (Some(Program::Reload), _) => Invocation::Reload(config),
            (Some(Program::Hold), _) => Invocation::Hold { config, change: self.hold.change(false)? },
            (Some(Program::Release), _) => Invocation::Hold { config, change: self.hold.change(true)? },
            (Some(Program::List), _) => Invocation::List,
            // --explain comes with its pair.
            (None | Some(Program::Explain), _) => Invocation::Run(Options { config, pid_file, ..options }),
        })
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
