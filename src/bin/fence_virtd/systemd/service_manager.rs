//! What the service manager is told while the daemon runs: a line about it, and
//! that it lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::error;

use crate::heartbeat::Pulse;
use crate::status::Counts;
use crate::systemd::Notifier;

/// How often the line is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How often it is looked whether a worker that was stuck turns again.
const STARVING: Duration = Duration::from_secs(5);

/// The service manager.
pub(crate) struct Manager<'a> {
    notifier: &'a Notifier,
    counts: Vec<Arc<Counts>>,
    pulse: Pulse,
    backend: &'static str,
    /// How the last reload went, if there was one.
    reloaded: Option<String>,
    /// The last line that it was told.
    line: String,
    look_at: Option<Instant>,
    feed_at: Option<Instant>,
    is_starving: bool,
}

impl<'a> Manager<'a> {
    pub(crate) fn new(
        notifier: &'a Notifier,
        counts: Vec<Arc<Counts>>,
        pulse: Pulse,
        backend: &'static str,
    ) -> Manager<'a> {
        let now = Instant::now();
        Manager {
            notifier,
            counts,
            pulse,
            backend,
            reloaded: None,
            line: String::new(),
            look_at: notifier.is_heard().then_some(now),
            feed_at: notifier.watchdog().map(|_| now),
            is_starving: false,
        }
    }

    /// Tells what is due: the line if it has changed, and that the worker turns.
    pub(crate) fn attend(&mut self, now: Instant) {
        if self.look_at.is_some_and(|at| now >= at) {
            self.look_at = Some(now + LOOK_EVERY);
            self.tell_line();
        }
        if let Some((_, every)) = self.feed_at.filter(|at| now >= *at).zip(self.notifier.watchdog()) {
            self.feed();
            // One that is stuck when it is looked at may go on a moment later.
            self.feed_at = Some(now + if self.is_starving { every.min(STARVING) } else { every });
        }
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.look_at.into_iter().chain(self.feed_at).min()
    }

    /// A reload has ended; why it failed, if it did.
    pub(crate) fn reloaded(&mut self, failed: Option<&str>) {
        self.reloaded = Some(match failed {
            None => "reloaded".to_owned(),
            Some(reason) => format!("the last reload failed: {reason}"),
        });
        self.notifier.send("READY=1");
        self.tell_line();
    }

    fn tell_line(&mut self) {
        let line = self.line_now();
        if line != self.line {
            self.notifier.send(&format!("STATUS={line}"));
            self.line = line;
        }
    }

    fn line_now(&self) -> String {
        let names: Vec<&str> = self.counts.iter().map(|counts| counts.name().as_str()).collect();
        let requests: u64 = self.counts.iter().flat_map(|it| it.requests()).map(|(.., count)| count).sum();
        let refusals: u64 = self.counts.iter().flat_map(|it| it.refusals()).map(|(_, count)| count).sum();
        let mut line = format!(
            "listeners {}; backend {}; {requests} requests, {refusals} refused",
            names.join(", "),
            self.backend
        );
        if let Some(reloaded) = &self.reloaded {
            line = format!("{line}; {reloaded}");
        }
        line.replace(char::is_control, " ")
    }

    fn feed(&mut self) {
        let is_well = self.pulse.is_well();
        if is_well {
            self.notifier.send("WATCHDOG=1");
        } else if !self.is_starving {
            let busy = self.pulse.busy().unwrap_or_default().as_secs();
            error!("the worker has been in one turn for {busy} s: the watchdog is not fed any more");
        }
        self.is_starving = !is_well;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Refusal;
    use fence_virt::fence::{ListenerName, Operation, Verdict};

    #[test]
    fn a_worker_that_turns_again_is_seen_soon() {
        let notifier = Notifier::watched(Duration::from_secs(90));
        let pulse = Pulse::default();
        let mut manager = Manager::new(&notifier, Vec::new(), pulse.clone(), "libvirt");
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        manager.attend(begin);
        let next = |manager: &Manager<'_>| manager.feed_at.unwrap().saturating_duration_since(begin);
        assert!(next(&manager) >= 90 * second);
        pulse.began_before(61 * second);
        manager.attend(begin + 90 * second);
        assert!(next(&manager) <= 95 * second, "it is not waited for another 90 s");
        pulse.rests();
        manager.attend(begin + 95 * second);
        assert!(!manager.is_starving && next(&manager) >= 185 * second);
    }

    #[test]
    fn the_line_has_listeners_backend_and_requests() {
        let notifier = Notifier::from_environment();
        let counts = ["tcp", "serial"].map(|kind| Arc::new(Counts::new(ListenerName::new(kind, None))));
        let mut manager = Manager::new(&notifier, counts.to_vec(), Pulse::default(), "libvirt");
        counts[0].answered(Operation::Off, &Verdict::Success.into());
        counts[1].answered(Operation::Status, &Verdict::Off.into());
        counts[1].refused(Refusal::Late);
        assert_eq!(manager.line_now(), "listeners tcp, serial; backend libvirt; 2 requests, 1 refused");
        manager.reloaded(Some("no\nkey"));
        assert!(manager.line_now().ends_with("; the last reload failed: no key"));
    }
}
