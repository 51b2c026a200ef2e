use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::resolve::Uri;
use crate::libvirt::{FoundDomain, Host, Link};
use fence_virt::fence::PowerState;

/// Time for which a list is kept for requests that were received before it began.
const KEPT: Duration = Duration::from_secs(1);

/// List of the VMs on all URIs.
pub(super) struct Listing {
    /// Time at which the list was begun.
    pub(super) began: Instant,
    pub(super) vms: Vec<FoundDomain>,
    /// URIs that failed, with the reasons.
    pub(super) problems: Vec<String>,
}

impl Listing {
    /// Lists the VMs on all URIs. A VM that several have is listed once: running if any runs it.
    pub(super) fn take<L: Link>(uris: &mut [Uri<L>], now: Instant) -> Listing {
        let mut vms: Vec<FoundDomain> = Vec::new();
        let mut index_by_uuid: HashMap<String, usize> = HashMap::new();
        let mut problems = Vec::new();
        let is_single = uris.len() == 1;
        for uri in uris {
            let found = match uri.host(now).and_then(|host| host.list()) {
                Ok(found) => found,
                Err(error) => {
                    problems.push(uri.failed(&error));
                    continue;
                }
            };
            if !is_single {
                uri.remember_all(&found);
            }
            for vm in found {
                match index_by_uuid.get(&vm.uuid) {
                    Some(&at) if vm.state.power == PowerState::Running => vms[at] = vm,
                    Some(_) => {}
                    None => {
                        index_by_uuid.insert(vm.uuid.clone(), vms.len());
                        vms.push(vm);
                    }
                }
            }
        }
        Listing { began: now, vms, problems }
    }

    pub(super) fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= KEPT
    }
}
