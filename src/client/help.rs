use super::agent::Agent;
use super::options::{Id, OptionSpec, Value};

/// Width of the first column.
const COLUMN: usize = 34;
/// Width of a line.
const WIDTH: usize = 79;

/// Output of `-h`.
pub(super) fn text(agent: Agent) -> String {
    let name = agent.name();
    let purpose = match agent {
        Agent::Xvm => "Fences a VM through fence_virtd on the host, found by multicast.",
        Agent::Virt => {
            "Fences a VM through fence_virtd on the host, over TCP, vsock, a serial line or a\n\
             vmchannel."
        }
    };
    let mut out = format!(
        "Usage: {name} [options]\n\n{purpose}\nReboot does not start a VM that is off.\n\nOptions:\n"
    );
    for option in agent.options().iter().filter(|option| option.is_current()) {
        let letter = option.short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
        let long = option.name.replace('_', "-");
        let (letter, value) = match option.value {
            Value::No => (letter, String::new()),
            Value::Needed(value) => (letter, format!(" <{value}>")),
            Value::Optional(value, _) => {
                (letter.replace(',', &format!("[<{value}>],")), format!("[=<{value}>]"))
            }
        };
        row(&mut out, &format!("{letter}--{long}{value}"), option);
    }
    out.push_str("  --key-fingerprint               Print the fingerprint of the key (8 digits),\n");
    out.push_str("                                  to compare the keys of two machines\n");
    out.push_str("  -h, -?, --help                  Print this help\n");
    out.push_str("  -V, --version                   Print the version\n");
    out.push_str("\nWithout arguments, options are read from stdin as lines of name=value:\n");
    for option in agent.options().iter().filter(|option| option.is_current()) {
        row(&mut out, option.name, option);
    }
    out.push_str("\nExit code: 0 success, or status on; 1 failure, with the reason on stderr;\n");
    out.push_str("2 status off; 3 permission denied.\n");
    out
}

/// Appends a row of two columns, the right one wrapped at blanks.
fn row(out: &mut String, left: &str, option: &OptionSpec) {
    // These select the transport if given; their defaults are for the metadata only.
    let default = match option.id {
        Id::Ipaddr | Id::Vsock | Id::SerialDevice => None,
        _ => option.default,
    };
    let default = default.map_or(String::new(), |default| format!(" ({default})"));
    let text = format!("{}{default}", option.text);
    let mut line = format!("  {left} ");
    if line.len() > COLUMN {
        out.push_str(line.trim_end());
        out.push('\n');
        line.clear();
    }
    line.push_str(&" ".repeat(COLUMN - line.len()));
    let mut used = COLUMN;
    for word in text.split(' ') {
        if used + word.len() > WIDTH {
            line.truncate(line.trim_end().len());
            line.push('\n');
            line.push_str(&" ".repeat(COLUMN));
            used = COLUMN;
        }
        line.push_str(word);
        line.push(' ');
        used += word.len() + 1;
    }
    out.push_str(line.trim_end());
    out.push('\n');
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
                assert!(text.lines().all(|line| line.len() <= WIDTH + 1), "{text}");
                if let Some(letter) = option.short {
                    assert!(text.contains(&format!("\n  -{letter}")), "-{letter}");
                }
            }
        }
    }
}
