use super::answer::ListReader;
use super::client::{Awaited, Breach};
use crate::fence::{Answer, HostEntry, Operation, Request, Verdict};
use crate::wire::{LINE_MAGIC, LINE_RESPONSE_LEN, LIST_BEGIN, encode_line_request};

/// The agent's side of a serial line or vmchannel.
///
/// The line may carry noise (boot messages, a getty, what an agent before us
/// left behind). A response counts from its magic on; a magic that is followed
/// by what answers nothing is noise, and is looked through from its second
/// byte. The records of a host list carry no magic: noise among them spoils
/// the list, which then has no proper end and is a failure.
#[derive(Debug)]
pub struct LineSession {
    operation: Operation,
    output: Vec<u8>,
    state: State,
    /// The beginning of a response, [`LINE_RESPONSE_LEN`] bytes at most.
    pending: Vec<u8>,
}

/// What is awaited.
#[derive(Debug)]
enum State {
    Response,
    Records(ListReader),
    End(Vec<HostEntry>),
}

impl LineSession {
    /// Sends a request and waits for its answer.
    pub fn new(request: &Request, flags: u8) -> LineSession {
        let output = encode_line_request(request, flags).to_vec();
        let operation = request.operation;
        LineSession { operation, output, state: State::Response, pending: Vec::new() }
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
    /// [`Breach`] if noise spoilt a host list.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, Breach> {
        loop {
            if let State::Records(list) = &mut self.state {
                let Some(entries) = list.take(input)? else { return Ok(None) };
                self.state = State::End(entries);
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
            *input = rest;
            self.pending.push(byte);
            if let State::End(entries) = &mut self.state {
                // It follows at once; its verdict says nothing.
                if !LINE_MAGIC.starts_with(&self.pending[..self.pending.len().min(LINE_MAGIC.len())]) {
                    return Err(Breach::Record);
                }
                if self.pending.len() == LINE_RESPONSE_LEN {
                    return Ok(Some(Answer::HostList(std::mem::take(entries))));
                }
                continue;
            }
            match self.response() {
                Some(LIST_BEGIN) => self.state = State::Records(ListReader::default()),
                Some(byte) => return Ok(Verdict::from_wire(byte, self.operation).map(Answer::Verdict)),
                None => {}
            }
        }
    }

    /// The byte of a response that answers what was asked; drops from the
    /// front what cannot be the beginning of one.
    fn response(&mut self) -> Option<u8> {
        loop {
            let length = self.pending.len();
            let is_magic = LINE_MAGIC.starts_with(&self.pending[..length.min(LINE_MAGIC.len())]);
            if is_magic && length < LINE_RESPONSE_LEN {
                return None;
            }
            let byte = self.pending.last().copied().filter(|_| is_magic);
            if let Some(byte) = byte.filter(|&byte| self.is_answer(byte)) {
                self.pending.clear();
                return Some(byte);
            }
            self.pending.remove(0);
        }
    }

    fn is_answer(&self, byte: u8) -> bool {
        (byte == LIST_BEGIN && self.operation == Operation::HostList)
            || Verdict::from_wire(byte, self.operation).is_some()
    }

    /// What the daemon owes.
    pub fn awaited(&self) -> Awaited {
        match self.state {
            State::Response => Awaited::Answer,
            State::Records(_) | State::End(_) => Awaited::List,
        }
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
