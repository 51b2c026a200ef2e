//! The answer of version 2 of the wire: each item is followed by its MAC.

use super::answer::{AnswerReader, FixedBuf};
use super::protocol_error::ProtocolError;
use crate::auth::{AnswerMacs, MAC_LEN};
use crate::fence::{Answer, Operation};
use crate::wire::{RECORD_LEN, encode_host_list};

/// Encodes an answer.
pub(super) fn encode(answer: &Answer, macs: &mut AnswerMacs) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |item: &[u8]| {
        out.extend_from_slice(item);
        out.extend_from_slice(&macs.mac(item));
    };
    match answer {
        Answer::Verdict(verdict) => put(&[verdict.to_wire()]),
        Answer::HostList(entries) => {
            let list = encode_host_list(entries);
            // The last byte, behind the record of zeros, belongs to version 1.
            let (begin, records) = list[..list.len() - 1].split_at(1);
            put(begin);
            records.chunks(RECORD_LEN).for_each(put);
        }
    }
    out
}

/// Item that comes next.
#[derive(Debug)]
enum Item {
    Byte(FixedBuf<1>),
    Record(FixedBuf<RECORD_LEN>),
}

impl Item {
    fn take(&mut self, input: &mut &[u8]) -> Option<&[u8]> {
        match self {
            Item::Byte(buf) => buf.take(input).map(<[u8; 1]>::as_slice),
            Item::Record(buf) => buf.take(input).map(<[u8; RECORD_LEN]>::as_slice),
        }
    }
}

/// Reader of an answer. It believes no item before its MAC.
#[derive(Debug)]
pub(super) struct AnswerWithMacsReader {
    reader: AnswerReader,
    macs: AnswerMacs,
    item: Item,
    mac: FixedBuf<MAC_LEN>,
}

impl AnswerWithMacsReader {
    pub(super) fn new(operation: Operation, macs: AnswerMacs) -> AnswerWithMacsReader {
        AnswerWithMacsReader {
            reader: AnswerReader::new(operation),
            macs,
            item: Item::Byte(FixedBuf::default()),
            mac: FixedBuf::default(),
        }
    }

    /// True once a list has begun.
    pub(super) fn is_listing(&self) -> bool {
        self.reader.is_listing()
    }

    pub(super) fn take(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, ProtocolError> {
        loop {
            let Some(item) = self.item.take(input) else { return Ok(None) };
            let Some(mac) = self.mac.take(input) else { return Ok(None) };
            if !self.macs.verify(item, mac) {
                return Err(ProtocolError::AnswerMac);
            }
            if let Some(answer) = self.reader.take(&mut &*item)? {
                return Ok(Some(answer));
            }
            self.item = Item::Record(FixedBuf::default());
            self.mac = FixedBuf::default();
        }
    }
}

#[cfg(test)]
#[path = "answer_with_macs_tests.rs"]
mod tests;
