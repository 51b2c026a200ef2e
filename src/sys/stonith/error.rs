use std::fmt;
use std::io;

use crate::sys::error_text;

/// Failed call of libstonithd with its error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FencerError {
    call: &'static str,
    errno: i32,
}

impl fmt::Display for FencerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            libc::ENOTCONN => write!(
                f,
                "pacemaker's fencer does not run, or does not admit this user (root, or group haclient) ({})",
                self.call
            ),
            errno => {
                let error = error_text(&io::Error::from_raw_os_error(errno));
                write!(f, "pacemaker's fencer does not answer: {error} ({})", self.call)
            }
        }
    }
}

impl std::error::Error for FencerError {}

/// Turns the return code of a call, a negative error number, into a result.
pub(super) fn check(call: &'static str, code: i32) -> Result<(), FencerError> {
    if code == 0 { Ok(()) } else { Err(FencerError { call, errno: code.saturating_abs() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_sentences() {
        assert_eq!(check("connect", 0), Ok(()));
        let text = |code| check("history", code).unwrap_err().to_string();
        assert!(
            text(-libc::ENOTCONN).contains("does not run") && text(-libc::ENOTCONN).ends_with("(history)")
        );
        assert!(text(-libc::ECOMM).contains("does not answer"));
    }
}
