//! Output of the short-lived commands to stdout and stderr, with the exit code that follows from it.
#![forbid(unsafe_code)]

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use fence_virt::fence::printable;

/// Writes the lines of a text to stdout, made printable; an exit code of 1 if that fails.
pub(crate) fn print(text: &str) -> ExitCode {
    print_coloured(text, Palette::default())
}

/// Writes the lines of a text to stdout, made printable and coloured; an exit code of 1 if that fails.
pub(crate) fn print_coloured(text: &str, palette: Palette) -> ExitCode {
    let text = palette.colour(&lines(text));
    io::stdout().write_all(text.as_bytes()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// Returns true if stdout is a terminal that understands control sequences.
pub(crate) fn is_screen() -> bool {
    io::stdout().is_terminal() && env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty())
}

/// Words at the start of a line, after blanks, with the SGR parameters of their colours: green, yellow, red.
const COLOURS: [(&str, &str); 4] = [("ok", "32"), ("no problems", "32"), ("warning", "33"), ("ERROR", "31")];

/// Colours of the words that tell how well something is; none by default.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Palette {
    has_colours: bool,
}

impl Palette {
    /// Returns colours for a terminal on stdout, unless NO_COLOR is set (<https://no-color.org>).
    pub(crate) fn of_stdout() -> Palette {
        let is_unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Palette { has_colours: is_screen() && !is_unwanted }
    }

    /// Colours the first word of each line if it is a severity. The text must be printable already.
    pub(crate) fn colour(self, text: &str) -> String {
        if !self.has_colours {
            return text.to_owned();
        }
        text.split_inclusive('\n').map(coloured).collect()
    }
}

fn coloured(line: &str) -> String {
    let text = line.trim_start_matches(' ');
    let indent = &line[..line.len() - text.len()];
    let is_word = |rest: &str| rest.is_empty() || rest.starts_with([' ', '\n', ':']);
    let found = COLOURS.iter().find_map(|(word, colour)| {
        Some((word, colour, text.strip_prefix(word).filter(|rest| is_word(rest))?))
    });
    match found {
        Some((word, colour, rest)) => format!("{indent}\x1b[{colour}m{word}\x1b[0m{rest}"),
        None => line.to_owned(),
    }
}

/// Writes a text to stderr and returns exit code 1.
pub(crate) fn complain(text: &str) -> ExitCode {
    warn_on_stderr(text);
    ExitCode::FAILURE
}

/// Writes the lines of a text to stderr, made printable. Errors are ignored: a closed stderr must not end the program.
pub(crate) fn warn_on_stderr(text: &str) {
    let _ = io::stderr().write_all(lines(text).as_bytes());
}

fn lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_word_of_a_line_is_coloured_and_only_on_request() {
        let text = "ok       a: ok\n  warning  b\nERROR    c\nno problems\nokay\nan ERROR\n\n";
        let expected = "\x1b[32mok\x1b[0m       a: ok\n  \x1b[33mwarning\x1b[0m  b\n\x1b[31mERROR\x1b[0m    c\n\
            \x1b[32mno problems\x1b[0m\nokay\nan ERROR\n\n";
        assert_eq!(Palette { has_colours: true }.colour(text), expected);
        assert_eq!(Palette::default().colour(text), text);
    }
}
