//! Bounds what the system gives no bound for.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Runs `job` in a thread and gives its result, or none if it takes longer
/// than `limit`: then the thread is left behind, until the process ends.
///
/// # Errors
///
/// If no thread can be started.
pub fn within<T: Send + 'static>(
    limit: Duration,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let shared = Arc::new((Mutex::new(None), Condvar::new()));
    let theirs = shared.clone();
    thread::Builder::new().spawn(move || {
        let result = job();
        *theirs.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        theirs.1.notify_one();
    })?;
    let (slot, bell) = &*shared;
    let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = bell.wait_timeout_while(slot, limit, |slot| slot.is_none());
    Ok(waited.unwrap_or_else(PoisonError::into_inner).0.take())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_result_in_time_is_given_and_a_late_one_is_not_awaited() {
        assert_eq!(within(Duration::from_secs(30), || 7).unwrap(), Some(7));
        let (release, never) = channel::<()>();
        let late = within(Duration::from_millis(20), move || never.recv());
        assert!(late.unwrap().is_none());
        drop(release);
    }
}
