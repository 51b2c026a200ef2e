//! Requests over a serial line or vmchannel, one at a time.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::agent_request::{AgentRequest, nobody, random};
use super::driver::{DaemonStream, drive};
use crate::client::in_flight::InFlightMarker;
use crate::fence::Answer;
use crate::session::{LineSession, SyncProbe};
use crate::sys::error_text;
use crate::sys::poll::{Interest, PollSet};

/// Exclusive use of a line.
pub(super) struct LineClient<'a> {
    peer: &'a str,
    marker: InFlightMarker,
}

impl<'a> LineClient<'a> {
    /// Locks the line of this name, which messages call `peer`.
    pub(super) fn lock(name: &str, peer: &'a str, request: &AgentRequest) -> Result<LineClient<'a>, String> {
        let marker = InFlightMarker::lock(name, request.deadline, &request.log)
            .ok_or_else(|| format!("{}: another agent uses {peer}", request.timed_out()))?;
        Ok(LineClient { peer, marker })
    }

    /// Sends the request over the line. Input within `silence` before that is stale,
    /// and more may follow. Close the stream before the line is dropped.
    pub(super) fn send(
        &mut self,
        stream: &mut dyn DaemonStream,
        silence: Duration,
        request: &AgentRequest,
    ) -> Result<Answer, String> {
        let peer = self.peer;
        let is_silent = is_silent(stream, silence.min(request.time_left()))
            .map_err(|error| format!("{peer}: {}", error_text(&error)))?;
        if request.time_left().is_zero() {
            return Err(format!("{} before the request was sent to {peer}", request.timed_out()));
        }
        let wire_request = request.wire_request()?;
        let is_stale = self.marker.set(&request.log);
        let mut session = if is_stale || !is_silent {
            let log = &request.log;
            log.debug(format_args!("{peer}: an older request may still be answered; probing for its end"));
            let probe = SyncProbe::new(u32::from_le_bytes(random()?));
            LineSession::after_silence(&wire_request, request.flags(), probe, &nobody()?)
        } else {
            LineSession::new(&wire_request, request.flags())
        };
        let answer = drive(peer, stream, &mut session, request);
        if answer.is_ok() {
            self.marker.clear();
        }
        answer
    }
}

/// Waits for input and drops it; true if there was none.
fn is_silent(stream: &mut dyn DaemonStream, silence: Duration) -> io::Result<bool> {
    if silence.is_zero() {
        return Ok(true);
    }
    let mut set = PollSet::new();
    set.add(stream.as_fd(), Interest::Read);
    set.wait(Some(silence))?;
    match stream.read(&mut [0; 4096]) {
        Ok(0) => Err(io::Error::other("it hung up before the request was sent")),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}
