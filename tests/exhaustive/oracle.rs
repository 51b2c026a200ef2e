//! What must never happen.

use fence_virt::fence::{Operation, Verdict};
use fence_virt::routing::ANSWER_LIMIT;
use fence_virt::time::Instant;

use crate::cluster::{Asked, Cluster, SECOND};
use crate::vm::{Copy, Origin};

impl Cluster {
    /// Records the first rule that is broken.
    pub fn violate(&mut self, what: impl FnOnce(&Asked) -> String) {
        if let (None, Some(asked)) = (&self.violation, &self.asked) {
            self.violation = Some(format!("{}: {:?}", what(asked), self.copies));
        }
    }

    /// Returns true if nothing can be wrong any more: the request was answered, or the VM has ended.
    pub fn is_over(&self) -> bool {
        let is_answered = self.asked.is_some_and(|asked| asked.answer.is_some());
        is_answered || (self.runner().is_none() && !self.has_starts)
    }

    /// Returns the time until which the request must be answered, if it is not.
    pub fn answer_is_due(&self) -> Option<Instant> {
        let asked = self.asked.filter(|asked| asked.answer.is_none() && self.violation.is_none())?;
        Some(asked.time + ANSWER_LIMIT + SECOND)
    }

    /// An off or reboot that succeeds, and a status that is off, is true: the VM was off at some instant of
    /// the request. A request is answered once.
    pub fn answered(&mut self, verdict: Verdict, reason: &str) {
        let Some(asked) = self.asked else { return };
        if asked.answer.is_some() {
            self.violate(|asked| format!("node {} answers twice", asked.at + 1));
        }
        let says_off = match asked.operation {
            Operation::Off | Operation::Reboot => verdict == Verdict::Success,
            _ => verdict == Verdict::Off,
        };
        if says_off && !asked.was_off {
            self.violate(|asked| {
                format!("node {} answers {} with {verdict} ({reason})", asked.at + 1, asked.operation)
            });
        }
        self.asked = Some(Asked { answer: Some(verdict), ..asked });
    }

    /// A VM is destroyed only while the caller of an off or reboot waits, and not what that has started.
    pub fn check_destroy(&mut self, at: usize) {
        let Some(asked) = self.asked else { return };
        if self.now > asked.time + ANSWER_LIMIT {
            self.violate(|_| format!("node {} destroys the VM when its caller has given up", at + 1));
        }
        if self.copies[at] == Copy::Active(Origin::Request) {
            self.violate(|_| format!("node {} destroys what the request has started", at + 1));
        }
    }

    /// No copy is started while another is active that was so when that was requested.
    pub fn check_start(&mut self, at: usize) {
        let is_other = |other: &usize| *other != at && self.copies[*other].is_active();
        let other = (0..self.copies.len()).find(is_other);
        if other.is_some_and(|other| self.copies[other] != Copy::Active(Origin::Meanwhile)) {
            self.violate(|asked| format!("node {} starts a second copy for {}", at + 1, asked.operation));
        }
    }
}
