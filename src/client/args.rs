//! Command line of the agents.

use std::ffi::OsString;

use lexopt::Arg::{Long, Short};

use super::agent::Agent;
use super::options::{OptionSpec, Value};
use super::raw_options::RawOptions;

/// Parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CommandLine {
    Run(RawOptions),
    Help,
    Version,
}

/// Parses a command line, without the program's name.
///
/// # Errors
///
/// A message about the first invalid argument.
pub(super) fn parse(agent: Agent, args: impl IntoIterator<Item = OsString>) -> Result<CommandLine, String> {
    let mut options = RawOptions::from_args();
    let mut last: Option<char> = None;
    let mut parser = lexopt::Parser::from_args(args);
    let explain = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(explain)? {
        let option = match argument {
            Short('h' | '?') | Long("help") => return Ok(CommandLine::Help),
            Short('V') | Long("version") => return Ok(CommandLine::Version),
            Short(letter) => agent.by_letter(letter),
            Long(name) => agent.by_name(name),
            // A separate value, which the C agent silently ignores.
            lexopt::Arg::Value(_) => None,
        };
        let Some(OptionSpec { id, value, .. }) = option else {
            return Err(match (&argument, last) {
                (lexopt::Arg::Value(stray), Some(letter)) => {
                    let stray = stray.to_string_lossy();
                    format!("unexpected argument {stray:?}: write -{letter}{stray} without a blank")
                }
                _ => explain(argument.unexpected()),
            });
        };
        last = None;
        match value {
            Value::No => options.push(*id, "1"),
            Value::Needed(_) => options.push(*id, parser.value().map_err(explain)?),
            Value::Optional(_, default) => {
                let value = parser.optional_value();
                // As in getopt(3), an optional value is in the same word.
                last = option.and_then(|option| option.short).filter(|_| value.is_none());
                options.push(*id, value.unwrap_or_else(|| default.into()));
            }
        }
    }
    Ok(CommandLine::Run(options))
}

#[cfg(test)]
mod tests {
    use super::super::options::Id;
    use super::*;

    fn parsed(agent: Agent, line: &str) -> Result<CommandLine, String> {
        parse(agent, line.split_whitespace().map(OsString::from))
    }

    fn options(agent: Agent, line: &str) -> RawOptions {
        match parsed(agent, line) {
            Ok(CommandLine::Run(options)) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn short_and_long_forms_are_equivalent() {
        for agent in [Agent::Xvm, Agent::Virt] {
            for option in agent.options() {
                let long = option.name.replace('_', "-");
                let (forms, value) = match option.value {
                    Value::No => (vec![format!("--{long}")], "1"),
                    Value::Needed(_) => (
                        vec![format!("--{long} x"), format!("--{long}=x"), format!("--{}=x", option.name)],
                        "x",
                    ),
                    Value::Optional(..) => (vec![format!("--{long}=x")], "x"),
                };
                let short = option.short.map(|letter| match option.value {
                    Value::No => format!("-{letter}"),
                    _ => format!("-{letter}x"),
                });
                for form in forms.into_iter().chain(short) {
                    assert_eq!(options(agent, &form).last(option.id).unwrap(), value, "{form}");
                }
            }
        }
    }

    #[test]
    fn an_optional_value_is_in_the_same_word() {
        assert_eq!(options(Agent::Virt, "-S").last(Id::Vsock).unwrap(), "2");
        assert_eq!(options(Agent::Virt, "-S7").last(Id::Vsock).unwrap(), "7");
        assert_eq!(options(Agent::Virt, "-S -n a").last(Id::Vsock).unwrap(), "2");
        let refusal = parsed(Agent::Virt, "-S 7").unwrap_err();
        assert!(refusal.contains("write -S7"), "7 is not ignored: {refusal}");
    }

    #[test]
    fn letters_can_be_joined_and_values_touch_them() {
        let options = options(Agent::Xvm, "-ddu -ostatus -t5 -n vm");
        for (id, value) in [(Id::UseUuid, "1"), (Id::Action, "status"), (Id::Timeout, "5"), (Id::Plug, "vm")]
        {
            assert_eq!(options.last(id).unwrap(), value);
        }
    }

    #[test]
    fn help_and_version() {
        for line in ["-h", "-?", "--help"] {
            assert_eq!(parsed(Agent::Xvm, line), Ok(CommandLine::Help));
        }
        assert_eq!(parsed(Agent::Virt, "-o off -V"), Ok(CommandLine::Version));
    }

    #[test]
    fn unknown_options_and_missing_values_are_errors() {
        for (agent, line) in [
            (Agent::Xvm, "-T 127.0.0.1"),
            (Agent::Virt, "-a 225.0.0.12"),
            (Agent::Virt, "-I eth0"),
            (Agent::Xvm, "--bogus"),
            (Agent::Xvm, "-n"),
            (Agent::Xvm, "stray"),
            (Agent::Xvm, "-u=1"),
        ] {
            assert!(parsed(agent, line).is_err(), "{line}");
        }
    }
}
