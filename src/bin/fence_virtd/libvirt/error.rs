//! Errors of libvirt calls, by cause.
#![forbid(unsafe_code)]

use std::fmt;

use virt::error::{Error, ErrorNumber};

/// Failure of a libvirt call, with libvirt's message. The state of the domain is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LibvirtError {
    /// libvirt has no such domain.
    NotFound(String),
    /// Another job holds the domain, or a system call failed: a retry may succeed.
    Busy(String),
    /// The domain's process has survived SIGKILL so far.
    Dying(String),
    /// The connection is closed. A call during which it breaks may also fail as `Busy`
    /// or `Other`: see `Connection::check`.
    ConnectionLost(String),
    /// Any other cause: a retry does not help.
    Other(String),
}

/// Result of a libvirt call.
pub(crate) type LibvirtResult<T = ()> = Result<T, LibvirtError>;

impl fmt::Display for LibvirtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use LibvirtError::{Busy, ConnectionLost, Dying, NotFound, Other};
        let (NotFound(text) | Busy(text) | Dying(text) | ConnectionLost(text) | Other(text)) = self;
        f.write_str(text)
    }
}

impl From<Error> for LibvirtError {
    fn from(error: Error) -> LibvirtError {
        use ErrorNumber::{
            InvalidConn, NoConnect, NoDomain, OperationTimeout, ResourceBusy, Rpc, SystemError,
        };
        let text = error.message().to_owned();
        match error.code() {
            NoDomain => LibvirtError::NotFound(text),
            SystemError if is_dying(&text) => LibvirtError::Dying(text),
            SystemError | ResourceBusy | OperationTimeout => LibvirtError::Busy(text),
            Rpc | NoConnect | InvalidConn => LibvirtError::ConnectionLost(text),
            _ => LibvirtError::Other(text),
        }
    }
}

/// True for libvirt's message about a process that survives SIGKILL, its own or that of
/// EBUSY. Only the text tells: every failed system call has this code, and no errno.
fn is_dying(text: &str) -> bool {
    text.contains("Failed to terminate process") || text.contains("Device or resource busy")
}

/// Turns "not found" into none.
pub(crate) fn optional<T>(result: Result<T, Error>) -> LibvirtResult<Option<T>> {
    match result.map_err(LibvirtError::from) {
        Ok(found) => Ok(Some(found)),
        Err(LibvirtError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_does_not_end_is_dying() {
        assert!(is_dying("Failed to terminate process 71 with SIGKILL: Device or resource busy"));
        assert!(!is_dying("Cannot recv data: Connection reset by peer"));
        assert!(!is_dying("Unable to kill process 71: Operation not permitted"));
    }
}
