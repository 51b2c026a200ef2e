//! Command line of the daemon.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::status::{Form, HistoryForm};

/// Default path of the configuration.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/fence_virt.conf";

/// Output of `-h`.
pub(crate) const USAGE: &str = "\
Usage: fence_virtd [options]

  -F, --foreground         stay in the foreground, log to stderr
  -f, --config <file>      read <file> instead of /etc/fence_virt.conf
  -d, --debug <level>      0: normal, 1 to 4: debug, 5 and more: trace
  -w, --wait-for-init      wait for libvirt, addresses and interfaces that are
                           not available yet, instead of failing
  -p, --pid-file <file>    record the process id in <file> instead of
                           /var/run/fence_virtd.pid
      --log <format>       text, or json: on stdout, one object a line
  -c, --configure          ask for the settings, write the configuration, exit
  -t, --check              check the configuration, print what would run, exit
      --lenient            with --check: only problems that prevent the start
                           are errors
      --status             print the status of the running daemon. Exit code 0:
                           no problems, 2: problems, 1: no answer
      --history            print the last power operations of the running daemon,
                           the newest one last. Exit code 1: no answer
      --vm <name>          with --history: only those on this VM, by the name or
                           UUID that the requests had
      --json               with --status, --history or --doctor: as JSON
      --openmetrics        with --status: as OpenMetrics, for a textfile collector
      --doctor             check this host against the configuration, print
                           problems and remedies, exit. Exit code 0: no problems,
                           1: warnings, 2: errors
      --errors-only        with --doctor: print errors alone, and the counts
      --self-test          ask the running daemon over each of its network
                           listeners, as an agent does, for monitor and list.
                           Exit code 0: all answered, 1: some did not, 2: it
                           could not be tried
      --fence <vm>         with --self-test: reboot this VM too, after a question
      --yes                with --fence: reboot without the question
      --explain <requester> <vm>
                           say by which groups of the configuration this
                           requester (an address, a CID, or a VM) may fence this
                           VM. Exit code 0: allowed, 1: denied, 2: not known
  -l, --list               list the listeners and backends
  -V, --version            print the version
  -h, --help               print this help

See fence_virt.conf.example for the configuration.
";

/// Program that the command line selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Invocation {
    Run(Options),
    Check { config: PathBuf, pid_file: PathBuf, is_lenient: bool },
    Status(PathBuf, Form),
    History { config: PathBuf, form: HistoryForm, vm: Option<String> },
    Explain { config: PathBuf, requester: String, vm: String },
    Doctor { config: PathBuf, pid_file: PathBuf, is_json: bool, errors_only: bool },
    SelfTest { config: PathBuf, vm: Option<String>, is_confirmed: bool },
    Setup(PathBuf),
    List,
    Version,
    Help,
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

/// Options that select another program than the daemon, or change its output.
#[derive(Default)]
struct Selection {
    is_setup: bool,
    is_check: bool,
    is_lenient: bool,
    is_doctor: bool,
    errors_only: bool,
    is_self_test: bool,
    /// VM of `--fence`.
    fence: Option<String>,
    is_confirmed: bool,
    is_status: bool,
    is_history: bool,
    vm: Option<String>,
    /// Requester and VM of `--explain`.
    pair: Option<(String, String)>,
    form: Option<Form>,
}

/// Parses the command line, without the program's name.
/// Errors: a sentence about the first wrong argument.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, String> {
    let mut options = Options {
        config: DEFAULT_CONFIG.into(),
        foreground: false,
        debug: None,
        wait_for_init: false,
        pid_file: crate::pid_file::DEFAULT.into(),
        is_json: false,
    };
    let mut selection = Selection::default();
    let mut parser = lexopt::Parser::from_args(args);
    let explain = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(explain)? {
        match argument {
            Short('F') | Long("foreground") => options.foreground = true,
            Short('f') | Long("config") => options.config = parser.value().map_err(explain)?.into(),
            Short('d') | Long("debug") => {
                let level = parser.value().map_err(explain)?;
                let level = level.to_str().and_then(|text| text.parse().ok());
                options.debug = Some(level.ok_or("the debug level (-d) must be a number, 0 or more")?);
            }
            Short('w') | Long("wait-for-init") => options.wait_for_init = true,
            Short('p') | Long("pid-file") => options.pid_file = parser.value().map_err(explain)?.into(),
            Short('c') | Long("configure") => selection.is_setup = true,
            Short('t') | Long("check") => selection.is_check = true,
            Long("lenient") => selection.is_lenient = true,
            Long("log") => options.is_json = is_json(&parser.value().map_err(explain)?)?,
            Long("status") => selection.is_status = true,
            Long("history") => selection.is_history = true,
            Long("vm") => selection.vm = Some(text(parser.value().map_err(explain)?)?),
            Long("explain") => {
                let requester = text(parser.value().map_err(explain)?)?;
                let missing = |_| "--explain needs a requester and a VM".to_owned();
                selection.pair = Some((requester, text(parser.value().map_err(missing)?)?));
            }
            Long("json") => selection.form = Some(Form::Json),
            Long("openmetrics") => selection.form = Some(Form::OpenMetrics),
            Long("doctor") => selection.is_doctor = true,
            Long("errors-only") => selection.errors_only = true,
            Long("self-test") => selection.is_self_test = true,
            Long("fence") => selection.fence = Some(text(parser.value().map_err(explain)?)?),
            Long("yes") => selection.is_confirmed = true,
            Short('l') | Long("list") => return Ok(Invocation::List),
            Short('V') | Long("version") => return Ok(Invocation::Version),
            Short('h' | '?') | Long("help") => return Ok(Invocation::Help),
            other => return Err(other.unexpected().to_string()),
        }
    }
    selection.invocation(options)
}

/// Returns an argument as text that fits one line.
fn text(argument: OsString) -> Result<String, String> {
    let text = argument.into_string().ok().filter(|text| !text.contains(['\n', '\0']));
    text.ok_or_else(|| "the name of a VM or requester is not text of one line".into())
}

fn is_json(format: &OsStr) -> Result<bool, String> {
    match format.to_str() {
        Some("text") => Ok(false),
        Some("json") => Ok(true),
        _ => Err("the log format (--log) must be text or json".into()),
    }
}

impl Selection {
    /// Errors: a sentence about options that do not go together.
    fn check(&self) -> Result<(), String> {
        let takes_json = self.is_history || self.is_doctor;
        let is_formed = self.is_status || (takes_json && self.form != Some(Form::OpenMetrics));
        if self.form.is_some() && !is_formed {
            return Err(
                "--openmetrics requires --status, and --json requires --status, --history or --doctor".into(),
            );
        }
        if self.errors_only && !self.is_doctor {
            return Err("--errors-only requires --doctor".into());
        }
        if self.fence.is_some() && !self.is_self_test {
            return Err("--fence requires --self-test".into());
        }
        if self.is_confirmed && self.fence.is_none() {
            return Err("--yes requires --fence".into());
        }
        if self.is_lenient && !self.is_check {
            return Err("--lenient requires --check".into());
        }
        if self.vm.is_some() && !self.is_history {
            return Err("--vm requires --history".into());
        }
        let other = self.is_check || self.is_doctor || self.is_status;
        let is_any = other || self.is_setup || self.is_history || self.pair.is_some();
        if self.is_self_test && is_any {
            return Err("--self-test cannot be combined with another program, such as --status".into());
        }
        if self.is_setup && (other || self.is_history || self.pair.is_some()) {
            return Err("-c cannot be combined with -t, --status, --history, --explain or --doctor".into());
        }
        if (self.is_history && (other || self.pair.is_some())) || (self.pair.is_some() && other) {
            return Err(
                "--history and --explain cannot be combined with each other, -t, --status or --doctor".into(),
            );
        }
        Ok(())
    }

    fn invocation(self, options: Options) -> Result<Invocation, String> {
        self.check()?;
        let Options { config, pid_file, .. } = options;
        Ok(match self {
            Selection { is_setup: true, .. } => Invocation::Setup(config),
            Selection { is_status: true, form, .. } => Invocation::Status(config, form.unwrap_or(Form::Text)),
            Selection { is_history: true, form, vm, .. } => {
                let form = if form == Some(Form::Json) { HistoryForm::Json } else { HistoryForm::Text };
                Invocation::History { config, form, vm }
            }
            Selection { pair: Some((requester, vm)), .. } => Invocation::Explain { config, requester, vm },
            Selection { is_doctor: true, form, errors_only, .. } => {
                Invocation::Doctor { config, pid_file, is_json: form.is_some(), errors_only }
            }
            Selection { is_self_test: true, fence, is_confirmed, .. } => {
                Invocation::SelfTest { config, vm: fence, is_confirmed }
            }
            Selection { is_check: true, is_lenient, .. } => {
                Invocation::Check { config, pid_file, is_lenient }
            }
            _ => Invocation::Run(Options { config, pid_file, ..options }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn short_and_long_forms_mean_the_same() {
        let short = parsed("-F -f a.conf -d99 -w -p a.pid").unwrap();
        let long =
            parsed("--foreground --config a.conf --debug=99 --wait-for-init --pid-file a.pid").unwrap();
        assert_eq!(short, long);
        let Invocation::Run(options) = short else { panic!("{short:?}") };
        assert_eq!((options.debug, options.foreground, options.wait_for_init), (Some(99), true, true));
        let check = |config: &str, pid_file: &str, is_lenient| {
            Ok(Invocation::Check { config: config.into(), pid_file: pid_file.into(), is_lenient })
        };
        assert_eq!(parsed("-t -f x -p y"), check("x", "y", false));
        assert_eq!(parsed("--check"), check(DEFAULT_CONFIG, crate::pid_file::DEFAULT, false));
        assert_eq!(parsed("--lenient -p y --check"), check(DEFAULT_CONFIG, "y", true));
        assert_eq!(parsed("--status -f x"), Ok(Invocation::Status("x".into(), Form::Text)));
        assert_eq!(parsed("--json --status"), Ok(Invocation::Status(DEFAULT_CONFIG.into(), Form::Json)));
        let history = |form, vm: Option<&str>| {
            Ok(Invocation::History { config: "x".into(), form, vm: vm.map(str::to_owned) })
        };
        assert_eq!(parsed("--history -f x"), history(HistoryForm::Text, None));
        assert_eq!(parsed("-f x --json --vm node1 --history"), history(HistoryForm::Json, Some("node1")));
        let (requester, vm) = ("192.0.2.7".into(), "node1".into());
        let explain = Invocation::Explain { config: "x".into(), requester, vm };
        assert_eq!(parsed("--explain 192.0.2.7 node1 -f x"), Ok(explain));
        let doctor = |is_json, errors_only| {
            Ok(Invocation::Doctor { config: "x".into(), pid_file: "y".into(), is_json, errors_only })
        };
        assert_eq!(parsed("--doctor -f x -p y"), doctor(false, false));
        assert_eq!(parsed("--json --doctor -f x -p y --errors-only"), doctor(true, true));
        let self_test = |vm: Option<&str>, is_confirmed| {
            Ok(Invocation::SelfTest { config: "x".into(), vm: vm.map(str::to_owned), is_confirmed })
        };
        assert_eq!(parsed("--self-test -f x"), self_test(None, false));
        assert_eq!(parsed("-f x --fence node1 --self-test"), self_test(Some("node1"), false));
        assert_eq!(parsed("--self-test --yes --fence node1 -f x"), self_test(Some("node1"), true));
        assert_eq!(parsed("-c -f x"), Ok(Invocation::Setup("x".into())));
        assert_eq!(parsed("--configure"), Ok(Invocation::Setup(DEFAULT_CONFIG.into())));
        assert_eq!(parsed("-l"), Ok(Invocation::List));
        assert_eq!(parsed("-V"), Ok(Invocation::Version));
        assert_eq!(parsed("-h"), Ok(Invocation::Help));
    }

    #[test]
    fn wrong_arguments_are_named() {
        assert!(parsed("--nonsense").unwrap_err().contains("nonsense"));
        assert!(parsed("-d many").unwrap_err().contains("number"));
        assert!(parsed("stray").unwrap_err().contains("stray"));
        assert!(parsed("-f").is_err());
        assert!(parsed("--log xml").unwrap_err().contains("text or json"));
        assert!(parsed("--json").unwrap_err().contains("--status"));
        for line in ["--lenient", "--doctor --lenient", "-F --lenient"] {
            assert!(parsed(line).unwrap_err().contains("--check"), "{line}");
        }
        assert!(parsed("--vm a --status").unwrap_err().contains("--history"));
        for line in ["--history --openmetrics", "--doctor --openmetrics"] {
            assert!(parsed(line).unwrap_err().contains("requires --status"), "{line}");
        }
        assert!(parsed("--errors-only --check").unwrap_err().contains("requires --doctor"));
        assert!(parsed("--explain 192.0.2.7").unwrap_err().contains("a requester and a VM"));
        assert!(parsed("--fence a --doctor").unwrap_err().contains("requires --self-test"));
        assert!(parsed("--self-test --yes").unwrap_err().contains("requires --fence"));
        for line in ["--self-test --doctor", "--self-test -c", "--self-test --history"] {
            assert!(parsed(line).unwrap_err().contains("cannot be combined"), "{line}");
        }
        for line in ["--history --status", "--explain a b --history", "--explain a b -t", "-c --history"] {
            assert!(parsed(line).unwrap_err().contains("cannot be combined"), "{line}");
        }
        assert!(parsed("-c -t").unwrap_err().contains("cannot be combined"));
    }

    #[test]
    fn help_names_every_option() {
        for option in ["-F", "-f", "-d", "-w", "-p", "-c", "-t", "-l", "-V", "-h"] {
            assert!(USAGE.contains(&format!("  {option}, --")), "{option}");
        }
        assert!(USAGE.contains("  --doctor "));
    }
}
