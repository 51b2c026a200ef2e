//! Errors of libvirt calls, by cause.
#![forbid(unsafe_code)]

use std::fmt;

use nix::errno::Errno;
use virt::error::{Error, ErrorDomain, ErrorNumber};

use super::callbacks::errno_of;

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
            SystemError if is_dying(error.domain(), errno_of(&error), &text) => LibvirtError::Dying(text),
            SystemError | ResourceBusy | OperationTimeout => LibvirtError::Busy(text),
            Rpc | NoConnect | InvalidConn => LibvirtError::ConnectionLost(text),
            _ => LibvirtError::Other(text),
        }
    }
}

/// True for the failed system call that libvirt reports of a process that survives SIGKILL: EBUSY.
/// libvirtd translates its messages, so the text counts only if the number is missing.
fn is_dying(domain: ErrorDomain, errno: Option<Errno>, text: &str) -> bool {
    match errno {
        Some(errno) => errno == Errno::EBUSY && domain != ErrorDomain::Rpc,
        None => text.contains("Failed to terminate process") || text.contains("Device or resource busy"),
    }
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
    use virt::connect::Connect;

    use super::*;

    #[test]
    fn only_a_process_that_does_not_end_is_dying() {
        let none = |text| is_dying(ErrorDomain::None, None, text);
        assert!(none("Failed to terminate process 71 with SIGKILL: Device or resource busy"));
        assert!(!none("Cannot recv data: Connection reset by peer"));
        assert!(!none("Unable to kill process 71: Operation not permitted"));
    }

    #[test]
    fn the_number_counts_and_not_the_text() {
        let german =
            "Prozess 71 konnte nicht mit SIGKILL beendet werden: Das Gerät oder die Ressource ist belegt";
        assert!(is_dying(ErrorDomain::None, Some(Errno::EBUSY), german));
        let refused = "Failed to terminate process 71 with SIGKILL: Operation not permitted";
        assert!(!is_dying(ErrorDomain::None, Some(Errno::EPERM), refused));
        let busy_socket = "Failed to connect socket: Device or resource busy";
        assert!(!is_dying(ErrorDomain::Rpc, Some(Errno::EBUSY), busy_socket));
    }

    #[test]
    fn libvirt_tells_the_number_of_its_last_error() {
        let open = |path: &str| Connect::open(Some(&format!("test:///{path}"))).map(drop).unwrap_err();
        let refused = |socket: &str| {
            Connect::open(Some(&format!("qemu+unix:///system?socket={socket}"))).map(drop).unwrap_err()
        };
        let missing = refused("/nonexistent/socket");
        assert_eq!(missing.code(), ErrorNumber::SystemError);
        assert_eq!(errno_of(&missing), Some(Errno::ENOENT));
        let no_directory = refused("/dev/null/socket");
        assert_eq!(errno_of(&no_directory), Some(Errno::ENOTDIR));
        assert_eq!(errno_of(&missing), None, "another error is the last one");
        let other = open("/nonexistent/node.xml");
        assert_ne!(other.code(), ErrorNumber::SystemError);
        assert_eq!(errno_of(&other), None);
    }
}
