use super::protocol_error::{Awaited, ProtocolError};
use crate::fence::Answer;

/// Agent's side of an exchange, of either framing.
pub trait AgentSession {
    /// Bytes to send.
    fn output(&self) -> &[u8];

    /// Removes the first `count` bytes of the output, which were sent.
    fn sent(&mut self, count: usize);

    /// Consumes bytes from the front of `input`; returns the answer once it is complete.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`] ends the exchange as a failure.
    fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, ProtocolError>;

    /// True if the daemon may carry out the request once it has the output. Over tcp, vsock and multicast,
    /// both sides have then proven that they have the key, or auth is none.
    fn is_committed(&self) -> bool;

    /// Message that the daemon has to send next.
    fn awaited(&self) -> Awaited;
}
