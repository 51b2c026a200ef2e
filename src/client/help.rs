use std::fmt::Write;

use super::agent::Agent;
use super::options::{Opt, Value};

/// How wide the first column is.
const COLUMN: usize = 34;

/// What `-h` prints.
pub(super) fn text(agent: Agent) -> String {
    let name = agent.name();
    let mut out = format!(
        "Usage: {name} [options]\n\n{} By reboot, a VM that is off stays off.\n\nOptions:\n",
        match agent {
            Agent::Xvm => "Fences a VM through fence_virtd on the host, found by multicast.",
            Agent::Virt =>
                "Fences a VM through fence_virtd on the host, over TCP, vsock, serial line or vmchannel.",
        }
    );
    for option in agent.options().iter().filter(|option| option.is_current()) {
        let letter = option.short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
        let long = option.name.replace('_', "-");
        let value = match option.value {
            Value::No => String::new(),
            Value::Needed(value) => format!(" <{value}>"),
            Value::Optional(value, _) => format!("[=<{value}>]"),
        };
        row(&mut out, &format!("{letter}--{long}{value}"), option);
    }
    out.push_str("  -h, -?, --help                  Print this help\n");
    out.push_str("  -V, --version                   Print the version\n");
    out.push_str("\nWithout arguments, options are read from stdin, a line each, as name=value:\n");
    for option in agent.options().iter().filter(|option| option.is_current()) {
        row(&mut out, option.name, option);
    }
    let _ = write!(
        out,
        "\nExit code: 0 done, or status on; 1 failure, with the reason on stderr;\n2 status off; 3 permission denied. See {name}(8).\n"
    );
    out
}

fn row(out: &mut String, left: &str, option: &Opt) {
    let default = option.default.map_or(String::new(), |default| format!(" ({default})"));
    let left = format!("  {left}");
    // Writing into a String does not fail.
    let _ = match left.len() < COLUMN {
        true => writeln!(out, "{left:COLUMN$}{}{default}", option.text),
        false => writeln!(out, "{left}\n{:COLUMN$}{}{default}", "", option.text),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_has_every_option_in_all_its_forms() {
        for agent in [Agent::Xvm, Agent::Virt] {
            let text = text(agent);
            for option in agent.options().iter().filter(|option| option.is_current()) {
                assert!(text.contains(&format!("--{}", option.name.replace('_', "-"))), "{}", option.name);
                assert!(text.contains(&format!("\n  {} ", option.name)), "{}", option.name);
                if let Some(letter) = option.short {
                    assert!(text.contains(&format!("\n  -{letter}, --")), "-{letter}");
                }
            }
        }
    }
}
