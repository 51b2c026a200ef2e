//! What a test and the thread under test share: a script, and waits for what it says.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Script of a test.
pub(super) trait TestScript: Default {
    /// Time limit of each wait.
    const LIMIT: Duration;
}

#[derive(Default)]
pub(super) struct Scripted<S>(Arc<(Mutex<S>, Condvar)>);

impl<S> Clone for Scripted<S> {
    fn clone(&self) -> Scripted<S> {
        Scripted(self.0.clone())
    }
}

impl<S: TestScript> Scripted<S> {
    pub(super) fn script(&self) -> MutexGuard<'_, S> {
        self.0.0.lock().unwrap()
    }

    pub(super) fn pause(&self, how_long: Duration) {
        drop(self.0.1.wait_timeout_while(self.script(), how_long, |_| true).unwrap());
    }

    /// Waits until something is so.
    pub(super) fn until(&self, what: &str, is_so: impl Fn(&S) -> bool) {
        let waited = self.0.1.wait_timeout_while(self.script(), S::LIMIT, |script| !is_so(script)).unwrap();
        assert!(!waited.1.timed_out(), "{what}");
    }

    /// Wakes who waits, after a change.
    pub(super) fn changed(&self) {
        self.0.1.notify_all();
    }
}
