use std::collections::VecDeque;
use std::time::Instant;

use super::scanner::Scanner;
use crate::fence::{Answer, Request};
use crate::wire::{LINE_REQUEST_LEN, encode_line_answer};

/// Requests of one line that may wait for those before them; no more is read
/// from it until there is room. (Agents of ours send twelve questions at once.)
pub const LINE_QUEUE_MAX: usize = 32;

/// So many bytes may be handed over at once.
pub const LINE_READ_MAX: usize = 512;

/// The daemon's side of a serial line or vmchannel, which stays open as long
/// as its VM runs.
///
/// Responses do not say which request they answer, so they are given in the
/// order of the requests, and one request is carried out at a time. A guest
/// that does not read its answers is not read from either: what a line holds
/// is [`LINE_QUEUE_MAX`] requests, those that one more read may bring, and one
/// answer.
#[derive(Debug, Default)]
pub struct GuestLine {
    scanner: Scanner,
    /// Requests and when they came.
    queue: VecDeque<(Request, Instant)>,
    /// One was taken and is not answered yet.
    is_waiting: bool,
    output: Vec<u8>,
    /// Since when nothing was read though more may have come.
    paused: Option<Instant>,
}

impl GuestLine {
    /// Whether there is room for what may be read: else do not read.
    pub fn wants_input(&self) -> bool {
        self.queue.len() < LINE_QUEUE_MAX
    }

    /// Takes at most [`LINE_READ_MAX`] bytes that were read at `now`. They may
    /// be older if the line was not read for a while, and count as such until
    /// `drained` says that nothing more was there.
    pub fn receive(&mut self, input: &[u8], drained: bool, now: Instant) {
        let came = self.paused.unwrap_or(now);
        let queue = &mut self.queue;
        self.scanner.push(input, now, |request| queue.push_back((request, came)));
        debug_assert!(self.queue.len() < LINE_QUEUE_MAX + 2 + LINE_READ_MAX / LINE_REQUEST_LEN);
        if drained {
            self.paused = None;
        }
        self.note_pause(now);
    }

    /// From here on nothing is read, if there is no room for it.
    fn note_pause(&mut self, now: Instant) {
        if !self.wants_input() {
            self.paused.get_or_insert(now);
        }
    }

    /// The next request to carry out, and when it came; none while one is
    /// being carried out, or the answer to one is not yet on its way.
    pub fn next_request(&mut self) -> Option<(Request, Instant)> {
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

    /// The answer to the request that was taken last.
    pub fn answer(&mut self, answer: &Answer) {
        if std::mem::take(&mut self.is_waiting) {
            self.output = encode_line_answer(answer);
        }
    }

    /// The request that was taken last gets no answer: it is another's twin.
    pub fn skip(&mut self) {
        self.is_waiting = false;
    }

    /// Forgets the requests that were not taken; gives how many.
    pub fn clear(&mut self) -> usize {
        self.scanner = Scanner::default();
        std::mem::take(&mut self.queue).len()
    }

    /// What is to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `count` bytes of the output are on their way.
    pub fn sent(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
        if self.output.is_empty() {
            self.output = Vec::new();
        }
    }

    /// Whether a request is being carried out.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// When a request that is incomplete is given up.
    pub fn deadline(&self) -> Option<Instant> {
        self.scanner.deadline()
    }

    /// Gives up a request that is incomplete for too long.
    pub fn expire(&mut self, now: Instant) {
        let came = self.paused.unwrap_or(now);
        let queue = &mut self.queue;
        self.scanner.expire(now, |request| queue.push_back((request, came)));
        self.note_pause(now);
    }
}

#[cfg(test)]
#[path = "guest_line_tests.rs"]
mod tests;
