//! Order to reload the configuration, with the way back of its result.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::query::{REFUSED, RELOADED};

/// Order of a client of the status socket, for the main thread.
#[derive(Debug)]
pub(crate) struct ReloadOrder {
    /// Configuration that the client means, absolute.
    pub(crate) path: PathBuf,
    pub(super) client: UnixStream,
}

impl ReloadOrder {
    /// Tells the client the result: the changes, or the reason why nothing has changed. The reply is small enough
    /// for the buffer of the socket, so this waits for nobody.
    /// Errors: those of the socket; the client is gone.
    pub(crate) fn answer(self, outcome: &Result<String, String>) -> io::Result<()> {
        let mut client = self.client;
        client.set_nonblocking(true)?;
        let (word, text) = match outcome {
            Ok(changes) => (RELOADED, changes),
            Err(reason) => (REFUSED, reason),
        };
        client.write_all(format!("{word}\n{text}\n").as_bytes())
    }
}
