use std::time::Duration;

use crate::fence::Request;
use crate::time::Instant;
use crate::wire::{LINE_REQUEST_LEN, can_begin_line_request, decode_line_request};

/// Time after which an incomplete request is dropped.
pub const STALL_LIMIT: Duration = Duration::from_secs(1);

/// Time that a request waits if another may begin inside it.
const OVERLAP_LIMIT: Duration = Duration::from_millis(50);

/// Finder of requests in the input of a serial line or vmchannel.
///
/// The line may carry noise: boot messages, a getty, half a request of a killed agent. A candidate begins
/// with the magic. One that cannot be a request, or stays incomplete for [`STALL_LIMIT`], is searched again
/// from its second byte, so that no noise hides a request behind it.
///
/// Half a request followed by another may together begin with bytes that look like a complete one: if only
/// the last bytes of the first are missing, or if the second is a null, whose first bytes are valid in a
/// name. The truncated request is then dropped, so that the second keeps its beginning.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Unprocessed input: empty, or it begins with the candidate.
    bytes: Vec<u8>,
    /// Arrival of the candidate's first byte (at the latest), and of the last byte.
    times: Option<(Instant, Instant)>,
}

/// Overlap of a candidate with another request.
enum Overlap {
    No,
    /// Another request may begin inside it.
    Open,
    /// Another request begins here.
    At(usize),
}

impl Scanner {
    /// Takes bytes that arrived at `now`; calls `found` for each request that they complete.
    pub fn push(&mut self, input: &[u8], now: Instant, mut found: impl FnMut(Request)) {
        if input.is_empty() {
            return;
        }
        let began = self.times.filter(|_| !self.bytes.is_empty()).map_or(now, |(began, _)| began);
        self.times = Some((began, now));
        self.bytes.extend_from_slice(input);
        self.settle(&mut found);
    }

    /// Deadline of the candidate.
    pub fn deadline(&self) -> Option<Instant> {
        let (began, latest) = self.times.filter(|_| !self.bytes.is_empty())?;
        Some(if self.is_held() { latest + OVERLAP_LIMIT } else { began + STALL_LIMIT })
    }

    /// Drops candidates that are still incomplete at their deadline.
    pub fn expire(&mut self, now: Instant, mut found: impl FnMut(Request)) {
        while self.deadline().is_some_and(|at| now >= at) {
            match self.bytes.first_chunk().and_then(decode_line_request) {
                Some(request) => {
                    found(request);
                    self.drop_front(LINE_REQUEST_LEN);
                }
                None => self.drop_front(1),
            }
            self.settle(&mut found);
        }
    }

    /// True if a complete request waits because another may begin inside it.
    fn is_held(&self) -> bool {
        self.bytes.len() >= LINE_REQUEST_LEN
    }

    fn settle(&mut self, found: &mut impl FnMut(Request)) {
        loop {
            let can_begin = |&at: &usize| can_begin_line_request(&self.bytes[at..]);
            let start = (0..self.bytes.len()).find(can_begin).unwrap_or(self.bytes.len());
            self.drop_front(start);
            let Some(candidate) = self.bytes.first_chunk() else { return };
            let Some(request) = decode_line_request(candidate) else {
                self.drop_front(1);
                continue;
            };
            match self.overlap() {
                Overlap::No => {
                    found(request);
                    self.drop_front(LINE_REQUEST_LEN);
                }
                Overlap::Open => return,
                Overlap::At(at) => self.drop_front(at),
            }
        }
    }

    fn overlap(&self) -> Overlap {
        for at in 1..LINE_REQUEST_LEN {
            let behind = &self.bytes[at..];
            if can_begin_line_request(behind) {
                match behind.first_chunk() {
                    Some(whole) if decode_line_request(whole).is_some() => return Overlap::At(at),
                    Some(_) => {}
                    None => return Overlap::Open,
                }
            }
        }
        Overlap::No
    }

    /// Drops bytes from the front. The rest counts as arrived with the last bytes.
    fn drop_front(&mut self, count: usize) {
        if count > 0 {
            self.bytes.drain(..count);
            self.times = self.times.map(|(_, latest)| (latest, latest));
        }
        if self.bytes.is_empty() {
            // Frees the memory: thousands of lines are open, most of them silent.
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
#[path = "scanner_tests.rs"]
mod tests;
