//! Digest of a node's table of VMs, as the node tells them.

use sha2::{Digest as _, Sha256};

use crate::fence::{PowerState, Uuid};
use crate::wire::cluster::{TableDigest, cut};

/// Sum over VMs that are added in the order of their UUIDs.
#[derive(Default)]
pub(super) struct TableSum {
    vms: u32,
    hash: Sha256,
}

impl TableSum {
    /// Adds a VM.
    pub(super) fn add(&mut self, uuid: Uuid, name: &str, state: PowerState, is_active: bool) {
        let name = cut(name).as_bytes();
        let state = match (state, is_active) {
            (PowerState::Off, _) => 5,
            (PowerState::Running, true) => 1,
            (PowerState::Running, false) => 3,
        };
        self.vms = self.vms.saturating_add(1);
        self.hash.update(uuid.to_bytes());
        // A name has at most 64 bytes, and no NUL.
        self.hash.update(name);
        self.hash.update([0, state]);
    }

    pub(super) fn finish(self) -> TableDigest {
        TableDigest { vms: self.vms, sha256: self.hash.finalize().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(vms: &[(u8, &str, PowerState, bool)]) -> TableDigest {
        let mut sum = TableSum::default();
        vms.iter().for_each(|&(uuid, name, state, is_active)| {
            sum.add(Uuid::from_bytes([uuid; 16]), name, state, is_active);
        });
        sum.finish()
    }

    #[test]
    fn any_difference_changes_the_digest() {
        let whole = [(1, "a", PowerState::Running, true), (2, "b", PowerState::Off, false)];
        let others = [
            vec![],
            vec![whole[0]],
            vec![(3, "a", PowerState::Running, true), whole[1]],
            vec![(1, "ab", PowerState::Running, true), whole[1]],
            vec![(1, "A", PowerState::Running, true), whole[1]],
            vec![(1, "a", PowerState::Off, true), whole[1]],
            vec![(1, "a", PowerState::Running, false), whole[1]],
            vec![(1, "a", PowerState::Running, true), (2, "b", PowerState::Running, false)],
        ];
        for other in others {
            assert_ne!(sum(&other), sum(&whole), "{other:?}");
        }
    }

    #[test]
    fn what_is_not_told_does_not_count() {
        let long = "n".repeat(64);
        let longer = format!("{long}x");
        assert_eq!(sum(&[(1, &long, PowerState::Off, false)]), sum(&[(1, &longer, PowerState::Off, true)]));
    }
}
