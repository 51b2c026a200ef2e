//! Timeout for calls that have none: name resolution, locks, slow files.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::mutex::lock;

/// Runs `job` in a thread and returns its result, or none if it takes longer
/// than `limit`; the thread then keeps running until the process ends.
///
/// # Errors
///
/// No thread can be started.
pub fn with_timeout<T: Send + 'static>(
    limit: Duration,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let slot = Arc::new(Mutex::new(None));
    let theirs = slot.clone();
    run(
        limit,
        Box::new(move || {
            let result = job();
            *lock(&theirs) = Some(result);
        }),
    )?;
    Ok(lock(&slot).take())
}

/// Non-generic part, compiled once.
fn run(limit: Duration, job: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let theirs = shared.clone();
    thread::Builder::new().spawn(move || {
        job();
        *lock(&theirs.0) = true;
        theirs.1.notify_one();
    })?;
    let (is_done, finished) = &*shared;
    let is_done = lock(is_done);
    // After a timeout the slot of the result is empty, so the outcome of the wait does not matter.
    let _ = finished.wait_timeout_while(is_done, limit, |is_done| !*is_done);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_result_in_time_is_returned_and_a_late_one_is_not_awaited() {
        assert_eq!(with_timeout(Duration::from_secs(30), || 7).unwrap(), Some(7));
        let (release, never) = channel::<()>();
        let late = with_timeout(Duration::from_millis(20), move || never.recv());
        assert!(late.unwrap().is_none());
        drop(release);
    }
}
