//! Periodic notifications of the service manager: the status line and the watchdog.

use std::sync::Arc;
use std::time::Duration;

use log::error;

use crate::heartbeat::Heartbeat;
use crate::status::Counts;
use crate::systemd::Notifier;
use fence_virt::fence::{counted, printable};
use fence_virt::time::Instant;

/// Interval of checks for a changed status line.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// Interval of checks whether a stuck worker has recovered.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(5);

/// Sender of periodic notifications.
pub(crate) struct ServiceManager<'a> {
    notifier: &'a Notifier,
    counts: Vec<Arc<Counts>>,
    heartbeat: Heartbeat,
    backend: &'static str,
    /// Result of the last reload, if there was one.
    reloaded: Option<String>,
    /// Last status line sent.
    line: String,
    status_due: Option<Instant>,
    watchdog_due: Option<Instant>,
    is_stuck: bool,
}

impl<'a> ServiceManager<'a> {
    pub(crate) fn new(
        notifier: &'a Notifier,
        counts: Vec<Arc<Counts>>,
        heartbeat: Heartbeat,
        backend: &'static str,
    ) -> ServiceManager<'a> {
        let now = Instant::now();
        ServiceManager {
            notifier,
            counts,
            heartbeat,
            backend,
            reloaded: None,
            line: String::new(),
            status_due: notifier.is_active().then_some(now),
            watchdog_due: notifier.watchdog().map(|_| now),
            is_stuck: false,
        }
    }

    /// Sends what is due: the status line if it changed, and the watchdog's keepalive while the worker is healthy.
    pub(crate) fn send_due(&mut self, now: Instant) {
        if self.status_due.is_some_and(|at| now >= at) {
            self.status_due = Some(now + STATUS_INTERVAL);
            self.send_line();
        }
        if let Some((_, every)) = self.watchdog_due.filter(|at| now >= *at).zip(self.notifier.watchdog()) {
            self.feed_watchdog();
            // A stuck worker may recover long before the next regular check.
            self.watchdog_due = Some(now + if self.is_stuck { every.min(RECOVERY_INTERVAL) } else { every });
        }
    }

    /// Returns the time at which the next notification is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.status_due.into_iter().chain(self.watchdog_due).min()
    }

    /// Reports the end of a reload, with the reason if it failed.
    pub(crate) fn reloaded(&mut self, failed: Option<&str>) {
        self.reloaded = Some(match failed {
            None => "reloaded".to_owned(),
            Some(reason) => format!("the last reload failed: {reason}"),
        });
        self.notifier.send("READY=1");
        self.send_line();
    }

    fn send_line(&mut self) {
        let line = self.status_line();
        if line != self.line {
            self.notifier.send(&format!("STATUS={line}"));
            self.line = line;
        }
    }

    fn status_line(&self) -> String {
        let names: Vec<&str> = self.counts.iter().map(|counts| counts.name().as_str()).collect();
        let requests: u64 = self.counts.iter().flat_map(|it| it.requests()).map(|it| it.count).sum();
        let refusals: u64 = self.counts.iter().flat_map(|it| it.refusals()).map(|it| it.count).sum();
        let mut line = format!(
            "listeners {}; backend {}; {}, {refusals} refused",
            names.join(", "),
            self.backend,
            counted(requests, "request")
        );
        if let Some(reloaded) = &self.reloaded {
            line = format!("{line}; {reloaded}");
        }
        printable(&line)
    }

    fn feed_watchdog(&mut self) {
        let is_well = self.heartbeat.is_healthy();
        if is_well {
            self.notifier.send("WATCHDOG=1");
        } else if !self.is_stuck {
            let busy = self.heartbeat.busy_for().unwrap_or_default().as_secs();
            error!("the worker has been stuck in one turn for {busy} s: no longer feeding the watchdog");
        }
        self.is_stuck = !is_well;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power_journal::PowerJournal;
    use crate::status::Refusal;
    use fence_virt::fence::{ListenerName, Operation, Verdict};

    #[test]
    fn a_recovered_worker_is_noticed_soon() {
        let notifier = Notifier::watched(Duration::from_secs(90));
        let heartbeat = Heartbeat::default();
        let mut manager = ServiceManager::new(&notifier, Vec::new(), heartbeat.clone(), "libvirt");
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        manager.send_due(begin);
        let next =
            |manager: &ServiceManager<'_>| manager.watchdog_due.unwrap().saturating_duration_since(begin);
        assert!(next(&manager) >= 90 * second);
        heartbeat.set_busy_since(61 * second);
        manager.send_due(begin + 90 * second);
        assert!(next(&manager) <= 95 * second, "the next check does not wait another 90 s");
        heartbeat.mark_idle();
        manager.send_due(begin + 95 * second);
        assert!(!manager.is_stuck && next(&manager) >= 185 * second);
    }

    #[test]
    fn the_line_has_listeners_backend_and_requests() {
        let notifier = Notifier::from_environment();
        let counts = ["tcp", "serial"]
            .map(|kind| Arc::new(Counts::new(ListenerName::new(kind, None), PowerJournal::default())));
        let mut manager = ServiceManager::new(&notifier, counts.to_vec(), Heartbeat::default(), "libvirt");
        counts[0].answered(Operation::Off, &Verdict::Success.into());
        counts[1].answered(Operation::Status, &Verdict::Off.into());
        counts[1].refused(Refusal::Late);
        assert_eq!(manager.status_line(), "listeners tcp, serial; backend libvirt; 2 requests, 1 refused");
        manager.reloaded(Some("no\nkey"));
        assert!(manager.status_line().ends_with("; the last reload failed: no key"));
    }
}
