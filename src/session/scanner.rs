use std::time::{Duration, Instant};

use crate::fence::Request;
use crate::wire::{LINE_REQUEST_LEN, can_begin_line_request, decode_line_request};

/// How long what began like a request may stay incomplete.
pub const STALL_LIMIT: Duration = Duration::from_secs(1);

/// How long a request in which another may begin waits to see whether it does.
const HOLD: Duration = Duration::from_millis(50);

/// Finds the requests in what comes in on a serial line or a vmchannel.
///
/// The line may carry noise: boot messages, a getty, half a request of an
/// agent that was killed. A candidate is what begins with the magic; one that
/// cannot be a request, or stays incomplete for [`STALL_LIMIT`], is looked
/// through from its second byte, so that no noise hides a request behind it.
///
/// Where half a request is followed by another, the two together may begin with
/// one that looks whole: if only its last bytes are missing, or the other is a
/// null, whose first bytes can stand in a name. What was cut off is dropped
/// then, or the other would be left without its beginning.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Empty, or it begins with the candidate.
    bytes: Vec<u8>,
    /// When the candidate's first byte came (at the latest), and when the last byte of all came.
    times: Option<(Instant, Instant)>,
}

/// Whether bytes of a candidate are the first ones of another request.
enum Overlap {
    No,
    /// So far they may be.
    Open,
    /// They are; it begins here.
    At(usize),
}

impl Scanner {
    /// Takes bytes that came at `now`; `found` gets each request that they complete.
    pub fn push(&mut self, input: &[u8], now: Instant, mut found: impl FnMut(Request)) {
        if input.is_empty() {
            return;
        }
        let began = self.times.filter(|_| !self.bytes.is_empty()).map_or(now, |(began, _)| began);
        self.times = Some((began, now));
        self.bytes.extend_from_slice(input);
        self.settle(&mut found);
    }

    /// When the candidate will have been incomplete for too long.
    pub fn deadline(&self) -> Option<Instant> {
        let (began, latest) = self.times.filter(|_| !self.bytes.is_empty())?;
        Some(if self.is_held() { latest + HOLD } else { began + STALL_LIMIT })
    }

    /// Gives up waiting for what should have come by `now`.
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

    /// Whether a whole request waits to see whether another begins in it.
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

    /// What is behind came with the last bytes at the latest.
    fn drop_front(&mut self, count: usize) {
        if count > 0 {
            self.bytes.drain(..count);
            self.times = self.times.map(|(_, latest)| (latest, latest));
        }
        if self.bytes.is_empty() {
            // There are thousands of lines, most of them silent.
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
#[path = "scanner_tests.rs"]
mod tests;
