use std::fmt;

/// Failed call with its cs_error_t.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CorosyncError {
    call: &'static str,
    pub(super) code: i32,
}

/// Returned while a queue is full or the membership is changing.
pub(super) const CS_ERR_TRY_AGAIN: i32 = 6;

impl CorosyncError {
    /// Makes an error of the call's name and its cs_error_t.
    pub fn new(call: &'static str, code: i32) -> CorosyncError {
        CorosyncError { call, code }
    }

    /// True if a retry may succeed soon.
    pub fn is_temporary(self) -> bool {
        // TIMEOUT, TRY_AGAIN, BUSY, INTERRUPT, QUEUE_FULL
        matches!(self.code, 5 | CS_ERR_TRY_AGAIN | 10 | 16 | 23)
    }
}

impl fmt::Display for CorosyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.code {
            2 => "corosync is not running or has stopped",
            CS_ERR_TRY_AGAIN => "corosync is busy",
            9 => "the connection to corosync is lost",
            11 | 100 => "corosync denies access to this user",
            12 => "corosync does not provide this service",
            code => return write!(f, "{} failed with corosync error {code}", self.call),
        };
        write!(f, "{what} ({})", self.call)
    }
}

impl std::error::Error for CorosyncError {}

/// Turns the cs_error_t of a call into a result.
pub(super) fn check(call: &'static str, code: i32) -> Result<(), CorosyncError> {
    const CS_OK: i32 = 1;
    if code == CS_OK { Ok(()) } else { Err(CorosyncError::new(call, code)) }
}
