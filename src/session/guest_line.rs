use std::collections::VecDeque;

use super::scanner::Scanner;
use crate::fence::{Answer, Request};
use crate::time::Instant;
use crate::wire::{LINE_REQUEST_LEN, encode_line_answer};

/// Maximum requests of one line that wait for their predecessors; then the line
/// is not read until there is room. (Our agents send probes of twelve queries.)
pub const LINE_QUEUE_MAX: usize = 32;

/// Maximum bytes per `receive`.
pub const LINE_READ_MAX: usize = 512;

/// Arrival of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Earliest time at which it may have arrived.
    pub at: Instant,
    /// True if it waited too long before it was read ([`GuestLine::note_late`]): do not carry it out.
    pub is_late: bool,
}

/// Daemon's side of a serial line or vmchannel, open while its VM runs.
///
/// A response does not identify its request, so requests are carried out one at a time and answered in order.
/// While a guest does not read its answers, the daemon does not read its requests. So a line holds at most
/// [`LINE_QUEUE_MAX`] requests, those of one more read, and one answer.
#[derive(Debug, Default)]
pub struct GuestLine {
    scanner: Scanner,
    queue: VecDeque<(Request, Arrival)>,
    /// A request is in flight.
    is_waiting: bool,
    output: Vec<u8>,
    /// Start of a pause in reading, during which more may have arrived.
    paused: Option<Instant>,
    /// What is read is late, until no more input is pending.
    is_late: bool,
}

impl GuestLine {
    /// True if there is room for more input; else do not read.
    pub fn wants_input(&self) -> bool {
        self.queue.len() < LINE_QUEUE_MAX
    }

    /// Takes at most [`LINE_READ_MAX`] bytes, read at `now`. After a pause they may be older: they
    /// count as arrived at its start, until `drained` (no more input is pending) is set.
    pub fn receive(&mut self, input: &[u8], drained: bool, now: Instant) {
        let came = self.arrival(now);
        let queue = &mut self.queue;
        self.scanner.push(input, now, |request| queue.push_back((request, came)));
        debug_assert!(self.queue.len() < LINE_QUEUE_MAX + 2 + LINE_READ_MAX / LINE_REQUEST_LEN);
        if drained {
            self.paused = None;
            self.is_late = false;
        }
        self.note_pause(now);
    }

    /// Notes that input may have waited since this time, as the daemon stood still: requests that are read
    /// are late until `receive` is told that no more input is pending.
    pub fn note_late(&mut self, since: Instant) {
        self.paused = Some(self.paused.map_or(since, |paused| paused.min(since)));
        self.is_late = true;
    }

    fn arrival(&self, now: Instant) -> Arrival {
        Arrival { at: self.paused.unwrap_or(now), is_late: self.is_late }
    }

    /// Starts a pause if there is no room.
    fn note_pause(&mut self, now: Instant) {
        if !self.wants_input() {
            self.paused.get_or_insert(now);
        }
    }

    /// Takes the next request, with its arrival; none while one is in
    /// flight or its answer is not sent completely.
    pub fn next_request(&mut self) -> Option<(Request, Arrival)> {
        if self.is_waiting || !self.output.is_empty() {
            return None;
        }
        let next = self.queue.pop_front();
        self.is_waiting = next.is_some();
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        next
    }

    /// Queues the answer to the request in flight.
    pub fn answer(&mut self, answer: &Answer) {
        if std::mem::take(&mut self.is_waiting) {
            self.output = encode_line_answer(answer);
        }
    }

    /// Drops the request in flight without an answer: it is a duplicate.
    pub fn skip(&mut self) {
        self.is_waiting = false;
    }

    /// Drops the queued requests; returns their number.
    pub fn clear(&mut self) -> usize {
        self.scanner = Scanner::default();
        std::mem::take(&mut self.queue).len()
    }

    /// Bytes to send.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Removes the first `count` bytes of the output, which were sent.
    pub fn sent(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
        if self.output.is_empty() {
            self.output = Vec::new();
        }
    }

    /// True while a request is in flight.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Deadline of an incomplete request.
    pub fn deadline(&self) -> Option<Instant> {
        self.scanner.deadline()
    }

    /// Drops a request that is still incomplete at its deadline.
    pub fn expire(&mut self, now: Instant) {
        // It was complete before its deadline, however late this call is.
        let came = self.arrival(self.deadline().map_or(now, |at| at.min(now)));
        let queue = &mut self.queue;
        self.scanner.expire(now, |request| queue.push_back((request, came)));
        self.note_pause(now);
    }
}

#[cfg(test)]
#[path = "guest_line_tests.rs"]
mod tests;
