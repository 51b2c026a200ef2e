use super::protocol_error::ProtocolError;
use crate::fence::{Answer, HostEntry, Operation, Verdict};
use crate::wire::{LIST_BEGIN, RECORD_LEN, Record, decode_record};

/// Maximum VMs in a host list that a client accepts: 64 Ki, 8.5 MB of records.
pub const LIST_MAX: usize = 1 << 16;

/// Reader of a verdict, or of a host list up to its record of zeros. The byte after the list means nothing.
#[derive(Debug)]
pub(super) struct AnswerReader {
    operation: Operation,
    list: Option<ListReader>,
}

impl AnswerReader {
    pub(super) fn new(operation: Operation) -> AnswerReader {
        AnswerReader { operation, list: None }
    }

    /// True once a list has begun.
    pub(super) fn is_listing(&self) -> bool {
        self.list.is_some()
    }

    pub(super) fn take(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, ProtocolError> {
        if let Some(list) = &mut self.list {
            return Ok(list.take(input)?.map(Answer::HostList));
        }
        let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
        *input = rest;
        if byte == LIST_BEGIN && self.operation == Operation::HostList {
            return Ok(self.list.insert(ListReader::default()).take(input)?.map(Answer::HostList));
        }
        let verdict = Verdict::from_wire(byte, self.operation).ok_or(ProtocolError::Answer(byte))?;
        Ok(Some(Answer::Verdict(verdict)))
    }
}

/// Reader of the records of a host list, up to the one of zeros.
#[derive(Debug, Default)]
pub(super) struct ListReader {
    record: FixedBuf<RECORD_LEN>,
    entries: Vec<HostEntry>,
}

impl ListReader {
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Result<Option<Vec<HostEntry>>, ProtocolError> {
        loop {
            let Some(bytes) = self.record.take(input) else { return Ok(None) };
            match decode_record(bytes) {
                Record::Entry(_) if self.entries.len() == LIST_MAX => return Err(ProtocolError::Endless),
                Record::Entry(entry) => self.entries.push(entry),
                Record::End => return Ok(Some(std::mem::take(&mut self.entries))),
                Record::Malformed => return Err(ProtocolError::Record),
            }
            self.record = FixedBuf::default();
        }
    }
}

/// Buffer for exactly `N` bytes that arrive in pieces.
#[derive(Debug)]
pub(super) struct FixedBuf<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> FixedBuf<N> {
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Moves the missing bytes from the front of `input`; returns all `N` once they are complete.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Option<&[u8; N]> {
        let missing = input.len().min(N - self.filled);
        let (head, rest) = input.split_at(missing);
        self.bytes[self.filled..self.filled + missing].copy_from_slice(head);
        self.filled += missing;
        *input = rest;
        (self.filled == N).then_some(&self.bytes)
    }
}

impl<const N: usize> Default for FixedBuf<N> {
    fn default() -> FixedBuf<N> {
        FixedBuf { bytes: [0; N], filled: 0 }
    }
}
