//! Orders of clients to the main thread, with the way back of their results.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::query::{HELD, REFUSED, RELEASED, RELOADED};
use crate::restraints::HoldChange;

/// Order of a client of the status socket, for the main thread.
#[derive(Debug)]
pub(crate) struct ClientOrder {
    /// Configuration that the client means, absolute.
    pub(crate) path: PathBuf,
    pub(crate) kind: OrderKind,
    pub(super) client: UnixStream,
}

/// Order, apart from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OrderKind {
    /// Read the configuration again.
    Reload,
    /// Place or release a hold.
    Hold(HoldChange),
}

impl OrderKind {
    /// Option that gives the order, for the log.
    pub(crate) fn option(&self) -> &'static str {
        match self {
            OrderKind::Reload => "--reload",
            OrderKind::Hold(HoldChange::Place { .. }) => "--hold",
            OrderKind::Hold(HoldChange::Release(_)) => "--release",
        }
    }

    /// First word of the reply once it is carried out.
    fn word(&self) -> &'static str {
        match self {
            OrderKind::Reload => RELOADED,
            OrderKind::Hold(HoldChange::Place { .. }) => HELD,
            OrderKind::Hold(HoldChange::Release(_)) => RELEASED,
        }
    }
}

impl ClientOrder {
    /// Tells the client the result: the changes, or the reason why nothing has changed. The reply is small enough
    /// for the buffer of the socket, so this waits for nobody.
    /// Errors: those of the socket; the client is gone.
    pub(crate) fn answer(self, outcome: &Result<String, String>) -> io::Result<()> {
        let mut client = self.client;
        client.set_nonblocking(true)?;
        let (word, text) = match outcome {
            Ok(changes) => (self.kind.word(), changes),
            Err(reason) => (REFUSED, reason),
        };
        client.write_all(format!("{word}\n{text}\n").as_bytes())
    }
}
