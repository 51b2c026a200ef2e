//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::status::Form;

/// Where the configuration is unless `-f` says otherwise.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/fence_virt.conf";

/// What `-h` prints.
pub(crate) const USAGE: &str = "\
Usage: fence_virtd [options]

  -F, --foreground         stay in the foreground, log to stderr
  -f, --config <file>      read <file> instead of /etc/fence_virt.conf
  -d, --debug <level>      0: normal, 1 to 4: debug, 5 and more: trace
  -w, --wait-for-init      wait for libvirt, addresses and interfaces that are
                           not there yet, instead of giving up
  -p, --pid-file <file>    record the process id in <file> instead of
                           /var/run/fence_virtd.pid
      --log <format>       text, or json: on stdout, one object a line
  -c, --configure          ask for the settings, write the configuration, end
  -t, --check              check the configuration, print what would run, end
      --lenient            with --check: only what keeps the daemon from starting
                           is an error
      --status             ask the daemon that runs how it is: exit code 0 if
                           all is well, 2 if not, 1 without an answer
      --json               with --status: as JSON
      --openmetrics        with --status: as OpenMetrics, for a textfile collector
      --doctor             look at this host with the configuration, print what
                           is wrong and what helps, end: 0 well, 1 warnings,
                           2 errors
  -l, --list               list the listeners and backends
  -V, --version            print the version
  -h, --help               print this help

See fence_virt.conf.example for the configuration.
";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Run(Options),
    Check { config: PathBuf, pid_file: PathBuf, is_lenient: bool },
    Status(PathBuf, Form),
    Doctor { config: PathBuf, pid_file: PathBuf },
    Setup(PathBuf),
    List,
    Version,
    Help,
}

/// How to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) config: PathBuf,
    pub(crate) foreground: bool,
    pub(crate) debug: Option<u32>,
    pub(crate) wait_for_init: bool,
    pub(crate) pid_file: PathBuf,
    pub(crate) is_json: bool,
}

/// Reads the command line, without the program's name.
///
/// # Errors
///
/// A sentence about the first argument that is wrong.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut options = Options {
        config: DEFAULT_CONFIG.into(),
        foreground: false,
        debug: None,
        wait_for_init: false,
        pid_file: crate::pid_file::DEFAULT.into(),
        is_json: false,
    };
    let (mut is_setup, mut is_check, mut is_doctor, mut is_status) = (false, false, false, false);
    let (mut form, mut is_lenient) = (Form::Text, false);
    let mut parser = lexopt::Parser::from_args(args);
    let explain = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(explain)? {
        match argument {
            Short('F') | Long("foreground") => options.foreground = true,
            Short('f') | Long("config") => options.config = parser.value().map_err(explain)?.into(),
            Short('d') | Long("debug") => {
                let level = parser.value().map_err(explain)?;
                let level = level.to_str().and_then(|text| text.parse().ok());
                options.debug = Some(level.ok_or("the debug level (-d) is a number, 0 or more")?);
            }
            Short('w') | Long("wait-for-init") => options.wait_for_init = true,
            Short('p') | Long("pid-file") => options.pid_file = parser.value().map_err(explain)?.into(),
            Short('c') | Long("configure") => is_setup = true,
            Short('t') | Long("check") => is_check = true,
            Long("lenient") => is_lenient = true,
            Long("log") => {
                let format = parser.value().map_err(explain)?;
                options.is_json = match format.to_str() {
                    Some("text") => false,
                    Some("json") => true,
                    _ => return Err("the format of the log (--log) is text or json".into()),
                };
            }
            Long("status") => is_status = true,
            Long("json") => form = Form::Json,
            Long("openmetrics") => form = Form::OpenMetrics,
            Long("doctor") => is_doctor = true,
            Short('l') | Long("list") => return Ok(Command::List),
            Short('V') | Long("version") => return Ok(Command::Version),
            Short('h' | '?') | Long("help") => return Ok(Command::Help),
            other => return Err(other.unexpected().to_string()),
        }
    }
    if form != Form::Text && !is_status {
        return Err("--json and --openmetrics are forms of --status".into());
    }
    if is_lenient && !is_check {
        return Err("--lenient is a form of --check".into());
    }
    if is_setup && (is_check || is_doctor || is_status) {
        return Err("-c sets up, -t, --status and --doctor look: give one of them".into());
    }
    Ok(if is_setup {
        Command::Setup(options.config)
    } else if is_status {
        Command::Status(options.config, form)
    } else if is_doctor {
        Command::Doctor { config: options.config, pid_file: options.pid_file }
    } else if is_check {
        Command::Check { config: options.config, pid_file: options.pid_file, is_lenient }
    } else {
        Command::Run(options)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn short_and_long_forms_say_the_same() {
        let short = parsed("-F -f a.conf -d99 -w -p a.pid").unwrap();
        let long =
            parsed("--foreground --config a.conf --debug=99 --wait-for-init --pid-file a.pid").unwrap();
        assert_eq!(short, long);
        let Command::Run(options) = short else { panic!("{short:?}") };
        assert_eq!((options.debug, options.foreground, options.wait_for_init), (Some(99), true, true));
        let check = |config: &str, pid_file: &str, is_lenient| {
            Ok(Command::Check { config: config.into(), pid_file: pid_file.into(), is_lenient })
        };
        assert_eq!(parsed("-t -f x -p y"), check("x", "y", false));
        assert_eq!(parsed("--check"), check(DEFAULT_CONFIG, crate::pid_file::DEFAULT, false));
        assert_eq!(parsed("--lenient -p y --check"), check(DEFAULT_CONFIG, "y", true));
        assert_eq!(parsed("--status -f x"), Ok(Command::Status("x".into(), Form::Text)));
        assert_eq!(parsed("--json --status"), Ok(Command::Status(DEFAULT_CONFIG.into(), Form::Json)));
        let (config, pid_file) = ("x".into(), "y".into());
        assert_eq!(parsed("--doctor -f x -p y"), Ok(Command::Doctor { config, pid_file }));
        assert_eq!(parsed("-c -f x"), Ok(Command::Setup("x".into())));
        assert_eq!(parsed("--configure"), Ok(Command::Setup(DEFAULT_CONFIG.into())));
        assert_eq!(parsed("-l"), Ok(Command::List));
        assert_eq!(parsed("-V"), Ok(Command::Version));
        assert_eq!(parsed("-h"), Ok(Command::Help));
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
        assert!(parsed("-c -t").unwrap_err().contains("one of them"));
    }

    #[test]
    fn help_names_every_option() {
        for option in ["-F", "-f", "-d", "-w", "-p", "-c", "-t", "-l", "-V", "-h"] {
            assert!(USAGE.contains(&format!("  {option}, --")), "{option}");
        }
        assert!(USAGE.contains("  --doctor "));
    }
}
