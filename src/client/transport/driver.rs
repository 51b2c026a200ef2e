//! Drives a sans-IO session over a non-blocking stream.

use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;

use super::agent_request::AgentRequest;
use crate::fence::Answer;
use crate::session::{AgentSession, ProtocolError};
use crate::sys::error_text;
use crate::sys::poll::{Interest, PollSet};

/// Connection of any kind to a daemon.
pub(super) trait DaemonStream: Read + Write + AsFd {}

impl<T: Read + Write + AsFd> DaemonStream for T {}

/// Writes and reads until both would block, or until the deadline, since a peer may never stop sending.
/// Returns early when the session becomes committed, so that our proof is not sent yet.
/// Errors: a message with the reason why no answer can follow.
pub(super) fn exchange(
    peer: &dyn Display,
    stream: &mut dyn DaemonStream,
    session: &mut dyn AgentSession,
    request: &AgentRequest,
) -> Result<Option<Answer>, String> {
    while !request.time_left().is_zero() {
        let broken = write(stream, session).err();
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => return Err(ProtocolError::HungUp(session.awaited()).to_string()),
            Ok(count) => {
                let before = session.awaited();
                let was_committed = session.is_committed();
                let answer = session.receive(&mut &buffer[..count]).map_err(|breach| breach.to_string())?;
                if answer.is_some() {
                    return Ok(answer);
                }
                if session.awaited() != before {
                    let log = &request.log;
                    log.debug(format_args!("{peer}: got {before}; waiting for {}", session.awaited()));
                }
                if session.is_committed() && !was_committed {
                    return Ok(None);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // Reported after the input that preceded it.
                return broken.map_or(Ok(None), |error| Err(error_text(&error)));
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return Err(ProtocolError::HungUp(session.awaited()).to_string());
            }
            Err(error) => return Err(error_text(&error)),
        }
    }
    Ok(None)
}

fn write(stream: &mut dyn DaemonStream, session: &mut dyn AgentSession) -> io::Result<()> {
    while !session.output().is_empty() {
        match stream.write(session.output()) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => session.sent(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Drives the session until it has an answer, or until the deadline. An answer
/// after the deadline is discarded.
/// Errors: a message with the reason for the missing answer.
pub(super) fn drive(
    peer: &str,
    stream: &mut dyn DaemonStream,
    session: &mut dyn AgentSession,
    request: &AgentRequest,
) -> Result<Answer, String> {
    request.log.debug(format_args!("{peer}: waiting for {}", session.awaited()));
    loop {
        let left = request.time_left();
        if left.is_zero() {
            let awaited = session.awaited();
            return Err(format!("{}: {peer} was reached, but did not send {awaited}", request.timed_out()));
        }
        if let Some(answer) =
            exchange(&peer, stream, session, request).map_err(|reason| format!("{peer}: {reason}"))?
        {
            return Ok(answer);
        }
        let interest = if session.output().is_empty() { Interest::Read } else { Interest::Both };
        let mut set = PollSet::new();
        set.add(stream.as_fd(), interest);
        set.wait(Some(left)).map_err(|error| error_text(&error))?;
    }
}
