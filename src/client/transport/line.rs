//! Requests on a serial line or vmchannel, one at a time.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use super::converse::converse;
use super::{Ask, nobody, random};
use crate::client::pending::Pending;
use crate::fence::Answer;
use crate::session::{LineSession, Row};

/// A line that is ours until we are done.
pub(super) struct Line<'a> {
    peer: &'a str,
    pending: Pending,
}

impl<'a> Line<'a> {
    /// Takes the line of this name, which messages call `peer`.
    pub(super) fn take(name: &str, peer: &'a str, ask: &Ask) -> Result<Line<'a>, String> {
        let pending = Pending::of(name, ask.deadline, &ask.trace)
            .ok_or_else(|| format!("{}: another agent uses {peer}", ask.timed_out()))?;
        Ok(Line { peer, pending })
    }

    /// Asks over the line, and closes it before others may take it.
    pub(super) fn ask(mut self, mut stream: impl Read + Write + AsFd, ask: &Ask) -> Result<Answer, String> {
        let peer = self.peer;
        if ask.time_left().is_zero() {
            return Err(format!("{} before {peer} could be asked", ask.timed_out()));
        }
        let request = ask.request()?;
        let mut session = match self.pending.begin(&ask.trace) {
            false => LineSession::new(&request, ask.flags()),
            true => {
                ask.trace
                    .step(format_args!("{peer}: an older request may still be answered; asking around it"));
                let row = Row::new(u32::from_le_bytes(random()?));
                LineSession::after_silence(&request, ask.flags(), row, &nobody()?)
            }
        };
        let answer = converse(peer, &mut stream, &mut session, ask);
        drop(stream);
        if answer.is_ok() {
            self.pending.end();
        }
        answer
    }
}
