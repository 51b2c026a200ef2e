//! Joining threads.
#![forbid(unsafe_code)]

use std::thread::{self, JoinHandle};

use crossbeam_channel::bounded;

use fence_virt::time::Instant;

/// Joins a thread before a deadline, which `JoinHandle` cannot do; false if it has not ended by then.
pub(crate) fn join_by(thread: JoinHandle<()>, deadline: Instant) -> bool {
    // The channel closes when the joining thread ends.
    let (closing, closed) = bounded::<()>(0);
    let waiter = thread::Builder::new().name("join".into()).spawn(move || {
        let _closing = closing;
        thread.join()
    });
    waiter.is_ok() && closed.recv_timeout(deadline.remaining()).is_err_and(|error| error.is_disconnected())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_thread_that_hangs_is_left_behind() {
        let (release, never) = bounded::<()>(0);
        let hanging = thread::spawn(move || while never.recv().is_ok() {});
        assert!(!join_by(hanging, Instant::now() + Duration::from_millis(20)));
        drop(release);
        assert!(join_by(thread::spawn(|| ()), Instant::now() + Duration::from_secs(30)));
    }
}
