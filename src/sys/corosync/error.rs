use std::fmt;

/// A call that failed: its name, and its cs_error_t.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CorosyncError {
    call: &'static str,
    pub(super) code: i32,
}

/// Try again: a queue is full, or the membership is changing.
pub(super) const CS_ERR_TRY_AGAIN: i32 = 6;

impl CorosyncError {
    /// A call, by its name, that gave this cs_error_t.
    pub fn new(call: &'static str, code: i32) -> CorosyncError {
        CorosyncError { call, code }
    }

    /// Whether the same call may succeed in a moment.
    pub fn is_temporary(self) -> bool {
        // TIMEOUT, TRY_AGAIN, BUSY, INTERRUPT, QUEUE_FULL
        matches!(self.code, 5 | CS_ERR_TRY_AGAIN | 10 | 16 | 23)
    }
}

impl fmt::Display for CorosyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.code {
            2 => "corosync is not running, or has ended",
            CS_ERR_TRY_AGAIN => "corosync says to try again",
            9 => "the connection to corosync has ended",
            11 | 100 => "corosync does not let this user in",
            12 => "corosync does not have this service",
            code => return write!(f, "{}: corosync's error {code}", self.call),
        };
        write!(f, "{what} ({})", self.call)
    }
}

impl std::error::Error for CorosyncError {}

/// The outcome of a call.
pub(super) fn check(call: &'static str, code: i32) -> Result<(), CorosyncError> {
    const CS_OK: i32 = 1;
    if code == CS_OK { Ok(()) } else { Err(CorosyncError::new(call, code)) }
}
