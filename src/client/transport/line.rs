//! Requests on a serial line or vmchannel, one at a time.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::driver::{DaemonStream, converse};
use super::{AgentRequest, nobody, random};
use crate::client::in_flight::InFlightMarker;
use crate::fence::Answer;
use crate::session::{LineSession, SyncProbe};
use crate::sys::poll::{Interest, PollSet};

/// A line that is ours until we are done.
pub(super) struct LineClient<'a> {
    peer: &'a str,
    pending: InFlightMarker,
}

impl<'a> LineClient<'a> {
    /// Takes the line of this name, which messages call `peer`.
    pub(super) fn take(name: &str, peer: &'a str, request: &AgentRequest) -> Result<LineClient<'a>, String> {
        let pending = InFlightMarker::of(name, request.deadline, &request.log)
            .ok_or_else(|| format!("{}: another agent uses {peer}", request.timed_out()))?;
        Ok(LineClient { peer, pending })
    }

    /// Asks over the line. What comes within `silence` before that is older, and
    /// says that more may come. Close the stream before the line is dropped.
    pub(super) fn send(
        &mut self,
        stream: &mut dyn DaemonStream,
        silence: Duration,
        request: &AgentRequest,
    ) -> Result<Answer, String> {
        let peer = self.peer;
        let is_silent = is_silent(stream, silence.min(request.time_left()))
            .map_err(|error| format!("{peer}: {error}"))?;
        if request.time_left().is_zero() {
            return Err(format!("{} before {peer} could be asked", request.timed_out()));
        }
        let wire_request = request.wire_request()?;
        let is_left_over = self.pending.begin(&request.log);
        let mut session = match is_left_over || !is_silent {
            false => LineSession::new(&wire_request, request.flags()),
            true => {
                request
                    .log
                    .debug(format_args!("{peer}: an older request may still be answered; asking around it"));
                let row = SyncProbe::new(u32::from_le_bytes(random()?));
                LineSession::after_silence(&wire_request, request.flags(), row, &nobody()?)
            }
        };
        let answer = converse(peer, stream, &mut session, request);
        if answer.is_ok() {
            self.pending.end();
        }
        answer
    }
}

/// Whether nothing comes for so long. What does is dropped.
fn is_silent(stream: &mut dyn DaemonStream, silence: Duration) -> io::Result<bool> {
    if silence.is_zero() {
        return Ok(true);
    }
    let mut set = PollSet::new();
    set.add(stream.as_fd(), Interest::Read);
    set.wait(Some(silence))?;
    match stream.read(&mut [0; 4096]) {
        Ok(0) => Err(io::Error::other("it hung up before it was asked")),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}
