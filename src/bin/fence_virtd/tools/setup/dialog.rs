//! Questions and answers, line by line.

use fence_virt::sys::error_text;
use std::io::{BufRead, Read, Write};

/// Maximum length of an answer, in bytes.
const LINE_MAX: u64 = 64 * 1024;

/// Dialog at a terminal or over a pipe. A wrong answer at a terminal repeats the question; over a
/// pipe it ends the dialog, since the answers after it are meant for other questions.
pub(super) struct Dialog<'a> {
    pub(super) input: &'a mut dyn BufRead,
    pub(super) output: &'a mut dyn Write,
    pub(super) is_terminal: bool,
}

impl Dialog<'_> {
    /// Prints a text.
    /// Errors: a sentence if the output fails.
    pub(super) fn say(&mut self, text: &str) -> Result<(), String> {
        let printed = self.output.write_all(text.as_bytes()).and_then(|()| self.output.flush());
        printed.map_err(|error| {
            format!("cannot print the questions: {}; nothing was written", error_text(&error))
        })
    }

    /// Asks until `check` accepts the answer, trimmed. `check` returns its reasons
    /// otherwise. "?" prints `help`.
    /// Errors: a sentence: the input ended or failed, or an answer from a pipe is wrong.
    pub(super) fn ask<T>(
        &mut self,
        prompt: &str,
        help: &str,
        mut check: impl FnMut(&str) -> Result<T, Vec<String>>,
    ) -> Result<T, String> {
        loop {
            self.say(prompt)?;
            let Some(line) = self.line(prompt)? else {
                self.refuse(prompt, &["the answer is not UTF-8".to_string()])?;
                continue;
            };
            let answer = line.trim();
            if !self.is_terminal {
                // A transcript then reads as at a terminal.
                self.say(&format!("{}\n", answer.escape_debug()))?;
            }
            if answer == "?" {
                self.say(&format!("{help}\n"))?;
                continue;
            }
            if answer.contains(char::is_control) {
                let message = "the answer contains a control character (from an arrow key or a tab)";
                self.refuse(prompt, &[message.to_string()])?;
                continue;
            }
            match check(answer) {
                Ok(value) => return Ok(value),
                Err(reasons) => self.refuse(prompt, &reasons)?,
            }
        }
    }

    /// Asks for yes or no; Enter is no. "?" prints `help`.
    /// Errors: same as [`Dialog::ask`].
    pub(super) fn confirm(&mut self, prompt: &str, help: &str) -> Result<bool, String> {
        self.ask(prompt, help, |answer| match answer.to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(true),
            "" | "n" | "no" => Ok(false),
            _ => Err(vec!["answer y or n".to_string()]),
        })
    }

    /// Prints why an answer is wrong.
    /// Errors: the same as a sentence, if the question cannot be repeated.
    pub(super) fn refuse(&mut self, prompt: &str, reasons: &[String]) -> Result<(), String> {
        let reasons = reasons.join("; ");
        if self.is_terminal {
            return self.say(&format!("  {reasons}\n"));
        }
        let question = prompt.trim().trim_end_matches(':');
        Err(format!("the answer to {question:?} is wrong: {reasons}; nothing was written"))
    }

    /// Returns the next line; none if it is not UTF-8.
    fn line(&mut self, prompt: &str) -> Result<Option<String>, String> {
        let mut bytes = Vec::new();
        let read = (&mut *self.input).take(LINE_MAX).read_until(b'\n', &mut bytes);
        read.map_err(|error| {
            format!("cannot read the answers: {}; nothing was written", error_text(&error))
        })?;
        let question = prompt.trim().trim_end_matches(':');
        match bytes.last() {
            Some(b'\n') => Ok(String::from_utf8(bytes).ok()),
            Some(_) if bytes.len() as u64 == LINE_MAX => Err(format!(
                "the answer to {question:?} is longer than {LINE_MAX} bytes; nothing was written"
            )),
            // A last line without a line feed may be truncated.
            _ => {
                self.say("\n")?;
                Err(format!("the answers ended before {question:?} was answered; nothing was written"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(answer: &str) -> Result<u32, Vec<String>> {
        answer.parse().map_err(|_| vec!["a number".to_string(), "please".to_string()])
    }

    #[test]
    fn a_terminal_is_asked_again() {
        let mut out = Vec::new();
        let mut dialog =
            Dialog { input: &mut &b"x\n?\n\xff\n5\x1b[D\n 5 \n"[..], output: &mut out, is_terminal: true };
        assert_eq!(dialog.ask("n: ", "Any.", number), Ok(5));
        let control = "the answer contains a control character (from an arrow key or a tab)";
        let expected =
            format!("n:   a number; please\nn: Any.\nn:   the answer is not UTF-8\nn:   {control}\nn: ");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_pipe_is_not_asked_again() {
        let mut out = Vec::new();
        let mut dialog = Dialog { input: &mut &b"?\nx\n5\n"[..], output: &mut out, is_terminal: false };
        let refusal = dialog.ask("n: ", "Any.", number).unwrap_err();
        assert_eq!(refusal, "the answer to \"n\" is wrong: a number; please; nothing was written");
        assert_eq!(String::from_utf8(out).unwrap(), "n: ?\nAny.\nn: x\n");
    }

    #[test]
    fn an_end_without_an_answer() {
        for input in ["", "5"] {
            let mut dialog =
                Dialog { input: &mut input.as_bytes(), output: &mut Vec::new(), is_terminal: false };
            assert!(dialog.ask("n: ", "", number).unwrap_err().contains("ended before \"n\""), "{input:?}");
        }
        let long = "5".repeat(LINE_MAX as usize + 1);
        let mut dialog = Dialog { input: &mut long.as_bytes(), output: &mut Vec::new(), is_terminal: true };
        assert!(dialog.ask("n: ", "", number).unwrap_err().contains("longer than"));
    }

    #[test]
    fn yes_or_no() {
        let mut dialog =
            Dialog { input: &mut &b"Y\nno\n\nyes\nmaybe\n"[..], output: &mut Vec::new(), is_terminal: false };
        let answers: Vec<_> = (0..4).map(|_| dialog.confirm("?", "").unwrap()).collect();
        assert_eq!(answers, [true, false, false, true]);
        assert!(dialog.confirm("Write it? ", "").unwrap_err().contains("y or n"));
    }
}
