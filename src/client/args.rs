//! Command line of the agents.

use std::ffi::OsString;

use lexopt::Arg::{Long, Short};

use super::action::AgentAction;
use super::agent::Agent;
use super::options::{OptionSpec, Value};
use super::raw_options::RawOptions;

/// Parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CommandLine {
    Run(RawOptions),
    /// Print the fingerprint of the key.
    KeyFingerprint(RawOptions),
    Help,
    Version,
}

/// Parses a command line, without the program's name.
/// Errors: a message about the first invalid argument.
pub(super) fn parse(agent: Agent, args: impl IntoIterator<Item = OsString>) -> Result<CommandLine, String> {
    let mut options = RawOptions::from_args();
    let mut last: Option<char> = None;
    let mut is_fingerprint = false;
    let mut parser = lexopt::Parser::from_args(args);
    let explain = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(explain)? {
        let option = match argument {
            Short('h' | '?') | Long("help") => return Ok(CommandLine::Help),
            Short('V') | Long("version") => return Ok(CommandLine::Version),
            Long("key-fingerprint" | "key_fingerprint") => {
                is_fingerprint = true;
                last = None;
                continue;
            }
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
                (lexopt::Arg::Value(stray), None) => {
                    let stray = stray.to_string_lossy();
                    format!("unexpected argument {stray:?}{}", stray_hint(&stray))
                }
                (Long(name), _) => {
                    let hint = agent.hint(name, "--", "-");
                    format!("invalid option '--{name}'{hint}")
                }
                (Short(letter), _) => {
                    let is_of_other = agent.other().by_letter(*letter).is_some();
                    let hint = if is_of_other { agent.other_has_it() } else { String::new() };
                    format!("invalid option '-{letter}'{hint}")
                }
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
    Ok(match is_fingerprint {
        true => CommandLine::KeyFingerprint(options),
        false => CommandLine::Run(options),
    })
}

/// Tells how a word that stands by itself is given as an option.
fn stray_hint(stray: &str) -> String {
    if AgentAction::from_name(stray).is_some() {
        return format!(": write -o {stray}");
    }
    if stray.contains('=') { ": name=value belongs on standard input".to_owned() } else { String::new() }
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
    fn the_fingerprint_is_asked_for_wherever_its_option_stands() {
        for line in
            ["--key-fingerprint -k x", "-k x --key_fingerprint", "-o off -n vm --key-fingerprint -k x"]
        {
            match parsed(Agent::Xvm, line) {
                Ok(CommandLine::KeyFingerprint(options)) => {
                    assert_eq!(options.last(Id::KeyFile).unwrap(), "x")
                }
                other => panic!("{line}: {other:?}"),
            }
        }
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

    #[test]
    fn an_error_says_what_may_be_meant() {
        for (agent, line, words) in [
            (Agent::Xvm, "--tmeout 3", "'--tmeout'; did you mean --timeout?"),
            (Agent::Virt, "--key_fil x", "did you mean --key-file?"),
            (Agent::Xvm, "--ipaddr x", "'--ipaddr': fence_virt has this option"),
            (Agent::Xvm, "-T x", "'-T': fence_virt has this option"),
            (Agent::Virt, "-a 225.0.0.12", "'-a': fence_xvm has this option"),
            (Agent::Xvm, "status", "\"status\": write -o status"),
            (Agent::Virt, "ipaddr=h", "\"ipaddr=h\": name=value belongs on standard input"),
        ] {
            let refusal = parsed(agent, line).unwrap_err();
            assert!(refusal.ends_with(words), "{line}: {refusal}");
        }
        assert_eq!(parsed(Agent::Xvm, "--colour").unwrap_err(), "invalid option '--colour'");
        assert_eq!(parsed(Agent::Xvm, "-x").unwrap_err(), "invalid option '-x'");
    }
}
