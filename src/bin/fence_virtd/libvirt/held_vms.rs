//! VMs that a call of this daemon may hold.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fence_virt::fence::Uuid;
use fence_virt::sys::mutex::lock;

/// VMs that are being destroyed or started. libvirt answers no question about such a VM, and
/// no list, so the watchers list later. The worker writes it; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldVms(Arc<Mutex<BTreeMap<Uuid, usize>>>);

impl HeldVms {
    /// Records the begin of a call.
    pub(crate) fn hold(&self, vm: Uuid) {
        *lock(&self.0).entry(vm).or_default() += 1;
    }

    /// Records the end of a call.
    pub(crate) fn release(&self, vm: Uuid) {
        let mut held = lock(&self.0);
        match held.get_mut(&vm) {
            Some(calls) if *calls > 1 => *calls -= 1,
            _ => drop(held.remove(&vm)),
        }
    }

    /// True if a call holds this VM.
    #[cfg(test)]
    pub(crate) fn contains(&self, vm: Uuid) -> bool {
        lock(&self.0).contains_key(&vm)
    }

    /// True if no call holds a VM.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_is_held_until_its_last_call_has_ended() {
        let held = HeldVms::default();
        let vm = Uuid::from_bytes([7; 16]);
        held.hold(vm);
        held.hold(vm);
        held.release(vm);
        assert!(held.contains(vm) && !held.contains(Uuid::from_bytes([8; 16])));
        held.release(vm);
        assert!(held.is_empty());
        held.release(vm);
        assert!(held.is_empty(), "a release too many changes nothing");
    }
}
