use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::libvirt::{LibvirtError, LibvirtResult};
use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;

/// Time for which a list that failed is not tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Turns of those that want a list: one list at a time, which serves all that wait for it.
#[derive(Default)]
pub(super) struct ListTurns {
    turn: Mutex<ListTurn>,
    ended: Condvar,
}

#[derive(Default)]
struct ListTurn {
    is_running: bool,
    /// Error of the last list, and the time of it.
    failed: Option<(Instant, LibvirtError)>,
}

impl ListTurns {
    /// Makes a list, unless `is_recent` says that there is one by now. An error serves all, too.
    pub(super) fn take(
        &self,
        is_recent: impl Fn() -> bool,
        list: impl FnOnce() -> LibvirtResult,
    ) -> LibvirtResult {
        let asked = Instant::now();
        let mut turn = lock(&self.turn);
        loop {
            if is_recent() {
                return Ok(());
            }
            if !turn.is_running {
                break;
            }
            // All are woken at once. With a mutex alone, the first to have it could make a list while the others wait.
            turn = self.ended.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        let serves = |at: Instant| at >= asked || asked.saturating_duration_since(at) < RETRY;
        if let Some((_, error)) = turn.failed.as_ref().filter(|(at, _)| serves(*at)) {
            return Err(error.clone());
        }
        turn.is_running = true;
        drop(turn);
        let result = list();
        let mut turn = lock(&self.turn);
        turn.is_running = false;
        turn.failed = result.as_ref().err().map(|error| (Instant::now(), error.clone()));
        self.ended.notify_all();
        result
    }
}
