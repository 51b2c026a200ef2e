use super::agent_session::AgentSession;
use super::answer::ListReader;
use super::protocol_error::{Awaited, ProtocolError};
use super::sync_probe::SyncProbe;
use crate::fence::{Answer, HostEntry, Operation, Request, Target, Verdict};
use crate::wire::{LINE_MAGIC, LINE_RESPONSE_LEN, LIST_BEGIN, encode_line_request};

/// Agent's side of a serial line or vmchannel.
///
/// The line may carry noise (boot messages, a getty, remains of an earlier agent). A response starts at its
/// magic. A magic followed by a byte that no daemon sends is noise, and is searched again from its second
/// byte. A response to another operation is a failure. The records of a host list have no magic: noise among
/// them makes the list incomplete, a failure.
///
/// A response does not identify its request. If an earlier agent gave up, its answer may still come and
/// must not be taken for ours: see [`LineSession::after_silence`].
#[derive(Debug)]
pub struct LineSession {
    operation: Operation,
    output: Vec<u8>,
    state: LineState,
    /// Start of a response, [`LINE_RESPONSE_LEN`] bytes at most.
    pending: Vec<u8>,
}

/// Message that the client waits for.
#[derive(Debug)]
enum LineState {
    /// End of a probe; then the request is sent.
    Sync(SyncProbe, Vec<u8>),
    Response,
    Records(ListReader),
    End(Vec<HostEntry>),
}

impl LineSession {
    /// Starts a session that sends a request and waits for its answer.
    pub fn new(request: &Request, flags: u8) -> LineSession {
        let output = encode_line_request(request, flags).to_vec();
        let operation = request.operation;
        LineSession { operation, output, state: LineState::Response, pending: Vec::new() }
    }

    /// Starts a session on a line where the answer to an older request may be
    /// pending: sends a [`SyncProbe`] about `nobody` first, and the request after it.
    pub fn after_silence(request: &Request, flags: u8, probe: SyncProbe, nobody: &Target) -> LineSession {
        let queries = probe.requests(nobody, request.seqno.wrapping_add(1));
        let output = queries.iter().flat_map(|query| encode_line_request(query, 0)).collect();
        let request_bytes = encode_line_request(request, flags).to_vec();
        let state = LineState::Sync(probe, request_bytes);
        LineSession { operation: request.operation, output, state, pending: Vec::new() }
    }

    /// Returns the byte of a complete response, if daemons send it; drops bytes
    /// from the front that cannot start one.
    fn response(&mut self) -> Option<u8> {
        loop {
            let length = self.pending.len();
            let is_magic = LINE_MAGIC.starts_with(&self.pending[..length.min(LINE_MAGIC.len())]);
            if is_magic && length < LINE_RESPONSE_LEN {
                return None;
            }
            let byte = self.pending.last().copied().filter(|_| is_magic);
            if let Some(byte) = byte.filter(|&byte| matches!(byte, 0..=3 | LIST_BEGIN)) {
                self.pending.clear();
                return Some(byte);
            }
            self.pending.remove(0);
        }
    }
}

impl AgentSession for LineSession {
    fn output(&self) -> &[u8] {
        &self.output
    }

    fn sent(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
    }

    fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, ProtocolError> {
        loop {
            if matches!(self.state, LineState::Response) && !self.output.is_empty() {
                // Our request has not been sent yet: this answers an older one.
                self.pending.clear();
                *input = &[];
                return Ok(None);
            }
            if let LineState::Records(list) = &mut self.state {
                let Some(entries) = list.take(input)? else { return Ok(None) };
                self.state = LineState::End(entries);
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
            *input = rest;
            self.pending.push(byte);
            if let LineState::End(entries) = &mut self.state {
                // The closing response follows at once; its verdict means nothing.
                if !LINE_MAGIC.starts_with(&self.pending[..self.pending.len().min(LINE_MAGIC.len())]) {
                    return Err(ProtocolError::Record);
                }
                if self.pending.len() == LINE_RESPONSE_LEN {
                    return Ok(Some(Answer::HostList(std::mem::take(entries))));
                }
                continue;
            }
            let response = self.response();
            if let (LineState::Sync(probe, request), Some(byte)) = (&mut self.state, response) {
                if probe.is_over_after(byte) {
                    self.output.append(request);
                    self.state = LineState::Response;
                }
                continue;
            }
            match response {
                Some(LIST_BEGIN) if self.operation == Operation::HostList => {
                    self.state = LineState::Records(ListReader::default());
                }
                // A response to another operation answers an older request. What follows may too:
                // the end of an older host list reads as a success.
                Some(byte) => {
                    let verdict = Verdict::from_wire(byte, self.operation);
                    return verdict.map(|verdict| Some(verdict.into())).ok_or(ProtocolError::Answer(byte));
                }
                None => {}
            }
        }
    }

    fn is_committed(&self) -> bool {
        !matches!(self.state, LineState::Sync(..))
    }

    fn awaited(&self) -> Awaited {
        match self.state {
            LineState::Sync(..) => Awaited::OlderAnswer,
            LineState::Response => Awaited::Response,
            LineState::Records(_) | LineState::End(_) => Awaited::List,
        }
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
