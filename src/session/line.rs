use super::answer::ListReader;
use super::client::{Awaited, Breach};
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
    state: State,
    /// The beginning of a response, [`LINE_RESPONSE_LEN`] bytes at most.
    pending: Vec<u8>,
}

/// What is awaited.
#[derive(Debug)]
enum State {
    Sync(Sync),
    Response,
    Records(ListReader),
    End(Vec<HostEntry>),
}

/// The answers to a random row of harmless questions. A daemon answers in the
/// order of the requests, so when the row has come in, nothing older is left;
/// and what older requests brought is no such row, but by a chance of 2^-16.
#[derive(Debug)]
struct Sync {
    /// Which questions were asked, in their order.
    row: Vec<Operation>,
    /// The last answers, as many as there were questions at most.
    seen: Vec<u8>,
    /// What is sent then.
    request: Vec<u8>,
}

impl Sync {
    fn is_over(&self) -> bool {
        // null is failure; the status of a VM that does not exist is off, or nobody may ask for it.
        let fits = |(operation, byte): (&Operation, &u8)| match operation {
            Operation::Status => matches!(byte, 2 | 3),
            _ => *byte == 1,
        };
        self.seen.len() == self.row.len() && self.row.iter().zip(&self.seen).all(fits)
    }
}

/// Questions that are asked to find out where an old answer ends: 20.
pub const SYNC_LEN: usize = 20;

impl LineSession {
    /// Sends a request and waits for its answer.
    pub fn new(request: &Request, flags: u8) -> LineSession {
        let output = encode_line_request(request, flags).to_vec();
        let operation = request.operation;
        LineSession { operation, output, state: State::Response, pending: Vec::new() }
    }

    /// The same on a line on which an older request may still be answered.
    /// First comes a row of [`SYNC_LEN`] questions after nothing or after the
    /// VM `nobody`, chosen by `choice`, which are 20 random bits; the request is
    /// sent when they all are answered. `nobody` is a name that no VM has.
    pub fn after_silence(request: &Request, flags: u8, nobody: &Target, choice: u32) -> LineSession {
        let bit = |at: usize| choice >> at & 1 == 1;
        let row: Vec<Operation> =
            (0..SYNC_LEN).map(|at| if bit(at) { Operation::Status } else { Operation::Null }).collect();
        let question = |(at, &operation): (usize, &Operation)| {
            let seqno = request.seqno.wrapping_add(1 + at as u32);
            encode_line_request(&Request { operation, target: nobody.clone(), seqno }, 0)
        };
        let output = row.iter().enumerate().flat_map(question).collect();
        let request_bytes = encode_line_request(request, flags).to_vec();
        let sync = Sync { row, seen: Vec::new(), request: request_bytes };
        LineSession { operation: request.operation, output, state: State::Sync(sync), pending: Vec::new() }
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
    /// [`Breach`] if noise spoilt a host list, or something else was answered.
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
            let response = self.response();
            if let (State::Sync(sync), Some(byte)) = (&mut self.state, response) {
                if sync.seen.len() == sync.row.len() {
                    sync.seen.remove(0);
                }
                sync.seen.push(byte);
                if sync.is_over() {
                    self.output.append(&mut sync.request);
                    self.state = State::Response;
                }
                continue;
            }
            match response {
                Some(LIST_BEGIN) if self.operation == Operation::HostList => {
                    self.state = State::Records(ListReader::default());
                }
                // What answers something else says that this is not the answer to our request,
                // nor is what follows: the end of somebody's list reads as a success.
                Some(byte) => {
                    let verdict = Verdict::from_wire(byte, self.operation);
                    return verdict.map(|verdict| Some(verdict.into())).ok_or(Breach::Answer(byte));
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

    /// What the daemon owes.
    pub fn awaited(&self) -> Awaited {
        match self.state {
            State::Sync(_) => Awaited::OlderAnswer,
            State::Response => Awaited::Answer,
            State::Records(_) | State::End(_) => Awaited::List,
        }
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
