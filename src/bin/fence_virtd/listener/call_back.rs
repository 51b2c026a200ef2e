//! Call-back to the sender of a datagram.

use std::fmt;
use std::net::SocketAddr;

use fence_virt::fence::{Identity, Source};

/// Call-back to the sender of a datagram.
pub(super) struct CallBack {
    /// Address and port that the request names.
    pub(super) address: SocketAddr,
    /// Identity of the request.
    pub(super) identity: Identity,
    /// Sender of the datagram, if that is another address.
    pub(super) sender: Option<Source>,
}

/// Reason for a refusal, with the sender of the datagram if that is another address than the one called back.
pub(super) fn with_sender(callback: Option<&CallBack>, reason: impl fmt::Display) -> String {
    match callback.and_then(|callback| callback.sender.as_ref()) {
        Some(sender) => format!("{reason}; the datagram came from {sender}"),
        None => reason.to_string(),
    }
}
