//! Options on stdin as lines of name=value, as pacemaker writes them.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use super::agent::Agent;
use super::options::Value;
use super::raw_options::RawOptions;
use super::settings::Settings;
use crate::fence::NAME_MAX;
use crate::sys::error_text;

/// Maximum size of stdin, in bytes.
const STDIN_MAX: u64 = 16 << 20;

/// Maximum number of warnings about single lines.
const WARNINGS_MAX: usize = 20;

/// Names that callers pass and agents ignore.
const IGNORED: [&str; 3] = ["nodename", "agent", "self"];

/// Reads stdin to its end. Returns the options, and warnings about ignored lines.
/// Errors: a message if read(2) fails or stdin is too large.
pub(super) fn read(agent: Agent) -> Result<(RawOptions, Vec<String>), String> {
    let mut text = Vec::new();
    let read = std::io::stdin().lock().take(STDIN_MAX + 1).read_to_end(&mut text);
    read.map_err(|error| format!("cannot read the options from stdin: {}", error_text(&error)))?;
    if text.len() as u64 > STDIN_MAX {
        return Err("stdin has more than 16 MiB of options".to_owned());
    }
    Ok(parse(agent, &text))
}

/// Parses the options in `text`. Ignores blank lines, lines that begin with `#`,
/// and blanks around names and values, but not inside a value.
pub(super) fn parse(agent: Agent, text: &[u8]) -> (RawOptions, Vec<String>) {
    let mut options = RawOptions::from_stdin();
    let mut warnings = Vec::new();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    for line in text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let equals = line.iter().position(|&byte| byte == b'=');
        let (name, value) = match equals {
            Some(at) => (line[..at].trim_ascii_end(), Some(line[at + 1..].trim_ascii_start())),
            None => (line, None),
        };
        let name = String::from_utf8_lossy(name);
        if IGNORED.iter().any(|ignored| name.eq_ignore_ascii_case(ignored)) {
            continue;
        }
        // Name of action in cluster 2.
        let name = if name.eq_ignore_ascii_case("option") { "action".into() } else { name };
        match (agent.by_name(&name), value) {
            (Some(option), Some(value)) => options.push(option.id, OsStr::from_bytes(value)),
            // A switch without a value.
            (Some(option), None) if option.value == Value::No => options.push(option.id, "1"),
            (Some(_), None) => warnings.push(format!("ignoring {name:?} on stdin: it has no value")),
            (None, None) => warnings.push(format!("ignoring {name:?} on stdin: it is not name=value")),
            (None, Some(_)) => {
                let hint = agent.hint(&name, "", "_");
                warnings.push(format!("ignoring unknown option {name:?} on stdin{hint}"));
            }
        }
    }
    if warnings.len() > WARNINGS_MAX {
        let more = warnings.len() - WARNINGS_MAX;
        warnings.truncate(WARNINGS_MAX);
        warnings.push(format!("ignoring {more} more lines on stdin"));
    }
    (options, warnings)
}

/// Checks, for fuzz targets and random tests, that any text on stdin results in
/// settings with a name that fits the wire, or in a message.
#[doc(hidden)]
pub fn try_options(text: &[u8]) {
    for agent in [Agent::Xvm, Agent::Virt] {
        let (options, _) = parse(agent, text);
        match Settings::new(agent, &options) {
            Ok(settings) => assert!(settings.target.as_str().len() <= NAME_MAX),
            Err(message) => assert!(!message.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::Id;
    use super::*;

    fn parsed(text: &str) -> (RawOptions, Vec<String>) {
        parse(Agent::Virt, text.as_bytes())
    }

    #[test]
    fn spaces_comments_and_blank_lines() {
        let (options, warnings) =
            parsed("\n  # plug=wrong\n \t action =  off \r\nplug=  two  words \n\n#x\nipaddr=::1");
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(options.last(Id::Action).unwrap(), "off");
        assert_eq!(options.last(Id::Plug).unwrap(), "two  words");
        assert_eq!(options.last(Id::Ipaddr).unwrap(), "::1");
    }

    #[test]
    fn the_last_value_of_a_name_counts_and_names_know_no_case() {
        let (options, _) = parsed("action=off\nACTION=status\nOption=on\nplug=a=b\nplug=c=d");
        assert_eq!(options.last(Id::Action).unwrap(), "on");
        assert_eq!(options.domain().unwrap().unwrap(), "c=d");
    }

    #[test]
    fn unknown_names_are_reported_and_ignored_ones_are_not() {
        let (options, warnings) =
            parsed("nodename=n1\nself=n2\nagent=fence_virt\nfoo=bar\nnoequals\nplug=x\ntimeout");
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].contains("foo") && warnings[1].contains("noequals"));
        assert_eq!(options.domain().unwrap().unwrap(), "x");
    }

    #[test]
    fn a_warning_says_what_may_be_meant() {
        let (_, warnings) = parsed("ipadr=::1\nkey-fil=/k\nmulticast_address=x\nhello\nname=n\nplug=x");
        assert_eq!(
            warnings,
            [
                "ignoring unknown option \"ipadr\" on stdin; did you mean ipaddr?",
                "ignoring unknown option \"key-fil\" on stdin; did you mean key_file?",
                "ignoring unknown option \"multicast_address\" on stdin: fence_xvm has this option",
                "ignoring \"hello\" on stdin: it is not name=value",
                "ignoring unknown option \"name\" on stdin",
            ]
        );
    }

    #[test]
    fn a_byte_order_mark_hides_no_option_and_warnings_are_bounded() {
        let (options, warnings) = parsed("\u{feff}action=status\n");
        assert_eq!((options.last(Id::Action).unwrap(), warnings.len()), ("status".as_ref(), 0));
        let (_, warnings) = parsed(&"x\n".repeat(1000));
        assert_eq!(warnings.len(), 21);
        assert!(warnings[20].contains("980 more"));
    }

    #[test]
    fn long_lines_are_accepted() {
        let long = "x".repeat(100_000);
        let (options, _) = parsed(&format!("key_file=/{long}\nplug=a"));
        assert_eq!(options.last(Id::KeyFile).unwrap().len(), 100_001);
        assert_eq!(options.last(Id::Plug).unwrap(), "a");
    }

    #[test]
    fn names_of_the_vm_must_agree() {
        assert_eq!(parsed("plug=a\nport=a\ndomain=a").0.domain().unwrap().unwrap(), "a");
        assert_eq!(parsed("plug=a\nport=\n").0.domain().unwrap().unwrap(), "a");
        assert!(parsed("plug=a\nport=b").0.domain().is_err());
        assert!(parsed("domain=a\nplug=A").0.domain().is_err());
        assert_eq!(parsed("plug=b\nplug=a\nport=a").0.domain().unwrap().unwrap(), "a");
        assert_eq!(parsed("nodename=a").0.domain(), Ok(None));
    }
}
