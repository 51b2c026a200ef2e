use super::answer::ListReader;
use super::protocol_error::{Awaited, ProtocolError};
use super::sync_probe::SyncProbe;
use crate::fence::{Answer, HostEntry, Operation, Request, Target, Verdict};
use crate::wire::{LINE_MAGIC, LINE_RESPONSE_LEN, LIST_BEGIN, encode_line_request};

/// The agent's side of a serial line or vmchannel.
///
/// The line may carry noise (boot messages, a getty, what an agent before us
/// left behind). A response counts from its magic on; a magic that is followed
/// by a byte that no daemon sends is noise, and is looked through from its
/// second byte. A response that answers something else is a failure. The
/// records of a host list carry no magic: noise among them spoils the list,
/// which then has no proper end and is a failure.
///
/// A response does not tell which request it answers. Where an agent before us
/// went without its answer, that answer may still come, and must not be taken
/// for ours: see [`LineSession::after_silence`].
#[derive(Debug)]
pub struct LineSession {
    operation: Operation,
    output: Vec<u8>,
    state: LineState,
    /// The beginning of a response, [`LINE_RESPONSE_LEN`] bytes at most.
    pending: Vec<u8>,
}

/// What is awaited.
#[derive(Debug)]
enum LineState {
    /// The end of a row, behind which the request is sent.
    Sync(SyncProbe, Vec<u8>),
    Response,
    Records(ListReader),
    End(Vec<HostEntry>),
}

impl LineSession {
    /// Sends a request and waits for its answer.
    pub fn new(request: &Request, flags: u8) -> LineSession {
        let output = encode_line_request(request, flags).to_vec();
        let operation = request.operation;
        LineSession { operation, output, state: LineState::Response, pending: Vec::new() }
    }

    /// The same on a line on which an older request may still be answered:
    /// first comes a [`SyncProbe`] of questions about `nobody`, and the request when
    /// it is over.
    pub fn after_silence(request: &Request, flags: u8, row: SyncProbe, nobody: &Target) -> LineSession {
        let questions = row.requests(nobody, request.seqno.wrapping_add(1));
        let output = questions.iter().flat_map(|question| encode_line_request(question, 0)).collect();
        let request_bytes = encode_line_request(request, flags).to_vec();
        let state = LineState::Sync(row, request_bytes);
        LineSession { operation: request.operation, output, state, pending: Vec::new() }
    }

    /// What is to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `count` bytes of the output are on their way.
    pub fn sent(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
    }

    /// Takes bytes off the front of `input` until the answer is whole.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`] if noise spoilt a host list, or something else was answered.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, ProtocolError> {
        loop {
            if matches!(self.state, LineState::Response) && !self.output.is_empty() {
                // Nobody can answer what has not been sent: this is older.
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
                // It follows at once; its verdict says nothing.
                if !LINE_MAGIC.starts_with(&self.pending[..self.pending.len().min(LINE_MAGIC.len())]) {
                    return Err(ProtocolError::Record);
                }
                if self.pending.len() == LINE_RESPONSE_LEN {
                    return Ok(Some(Answer::HostList(std::mem::take(entries))));
                }
                continue;
            }
            let response = self.response();
            if let (LineState::Sync(row, request), Some(byte)) = (&mut self.state, response) {
                if row.is_over_after(byte) {
                    self.output.append(request);
                    self.state = LineState::Response;
                }
                continue;
            }
            match response {
                Some(LIST_BEGIN) if self.operation == Operation::HostList => {
                    self.state = LineState::Records(ListReader::default());
                }
                // What answers something else says that this is not the answer to our request,
                // nor is what follows: the end of somebody's list reads as a success.
                Some(byte) => {
                    let verdict = Verdict::from_wire(byte, self.operation);
                    return verdict.map(|verdict| Some(verdict.into())).ok_or(ProtocolError::Answer(byte));
                }
                None => {}
            }
        }
    }

    /// The byte of a response, of those that daemons send; drops from the front
    /// what cannot be the beginning of one.
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

    /// Whether the daemon may act once it has what is in the output.
    pub fn is_committed(&self) -> bool {
        !matches!(self.state, LineState::Sync(..))
    }

    /// What the daemon owes.
    pub fn awaited(&self) -> Awaited {
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
