//! Result of the last reload.

use std::sync::{Arc, Mutex};

use super::snapshot::RefusedReload;
use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;

/// Result of the last reload, shared by the main thread and the status report.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastReload(Arc<Mutex<Option<RefusedReload>>>);

impl LastReload {
    /// Records the result of a reload: the reason if it was refused.
    pub(crate) fn record(&self, outcome: &Result<String, String>) {
        let refused = outcome.as_ref().err();
        *lock(&self.0) = refused.map(|reason| RefusedReload { reason: reason.clone(), at: Instant::now() });
    }

    /// Returns the last reload if it was refused.
    pub(super) fn refused(&self) -> Option<RefusedReload> {
        lock(&self.0).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stands_until_a_reload_is_taken() {
        let last = LastReload::default();
        assert_eq!(last.refused(), None);
        last.record(&Err("no key".to_owned()));
        assert_eq!(last.refused().map(|refused| refused.reason).as_deref(), Some("no key"));
        last.record(&Ok("1 group".to_owned()));
        assert_eq!(last.refused(), None);
    }
}
