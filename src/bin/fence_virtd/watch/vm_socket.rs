use std::path::PathBuf;
use std::time::Duration;

use log::{debug, warn};

use super::socket_registry::SocketClaim;
use crate::backoff::Backoff;
use crate::logging::{Limiter, Suppressed};
use crate::serial_event::LineId;
use fence_virt::fence::Domain;
use fence_virt::time::Instant;

/// Intervals between attempts to connect to a socket.
pub(super) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// Interval from which on a failure is a warning: shorter ones are usual while a VM starts.
const WARN_FROM: Duration = Duration::from_secs(1);

/// Socket of a VM's serial port or channel.
pub(super) struct VmSocket {
    pub(super) path: PathBuf,
    pub(super) claim: SocketClaim,
    state: SocketState,
    backoff: Backoff,
    /// Failure that was logged last.
    logged: Option<String>,
}

#[derive(Clone, Copy)]
enum SocketState {
    Waiting { until: Instant },
    Open { line: LineId, since: Instant },
}

impl VmSocket {
    pub(super) fn new(path: PathBuf, claim: SocketClaim, now: Instant) -> VmSocket {
        let state = SocketState::Waiting { until: now };
        VmSocket { path, claim, state, backoff: BACKOFF, logged: None }
    }

    /// Time of the next attempt, if the socket is not connected.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self.state {
            SocketState::Waiting { until } => Some(until),
            SocketState::Open { .. } => None,
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.retry_at().is_some_and(|at| now >= at)
    }

    /// The line, if the socket is connected.
    pub(super) fn line(&self) -> Option<LineId> {
        match self.state {
            SocketState::Waiting { .. } => None,
            SocketState::Open { line, .. } => Some(line),
        }
    }

    /// Records that the socket is connected.
    pub(super) fn opened(&mut self, line: LineId, now: Instant) {
        self.state = SocketState::Open { line, since: now };
        self.logged = None;
    }

    /// Schedules the next attempt.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.state = SocketState::Waiting { until: now + self.backoff.next() };
    }

    /// Schedules the next attempt after the line broke.
    pub(super) fn lost(&mut self, now: Instant) {
        if let SocketState::Open { since, .. } = self.state {
            if now.saturating_duration_since(since) >= BACKOFF.max {
                self.backoff.reset();
            }
        }
        self.put_off(now);
    }

    /// Schedules the next attempt after one that failed, and logs the failure.
    pub(super) fn failed(&mut self, domain: &Domain, reason: &str, limiter: &mut Limiter, now: Instant) {
        let path = self.path.display();
        if self.backoff.interval >= WARN_FROM && self.logged.as_deref() != Some(reason) {
            if let Some(left_out) = limiter.allow(now) {
                let left_out = Suppressed(left_out);
                warn!("serial: {domain}: cannot connect to {path}: {reason}: retrying{left_out}");
            }
            self.logged = Some(reason.to_owned());
        } else {
            debug!("serial: {domain}: cannot connect to {path}: {reason}");
        }
        self.put_off(now);
    }
}
