//! What happens to hosts, daemons and libvirt.

use fence_virt::fence::UriIndex;

use crate::cluster::{Cluster, NODES};
use crate::vm::{Copy, Origin};

impl Cluster {
    /// Returns the node that the network has cut off from the other two.
    pub fn alone(&self) -> Option<usize> {
        let part = |at: usize| self.nodes[at].part;
        (0..NODES).find(|&at| (0..NODES).all(|other| other == at || part(other) != part(at)))
    }

    pub fn partition(&mut self, part: impl Fn(usize) -> u8) {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            node.part = part(at);
        }
        self.sync_views();
    }

    pub fn restart_daemon(&mut self, at: usize) {
        self.end_daemon(at);
        self.start_daemon(at);
    }

    /// The cluster powers a host off.
    pub fn fence(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        (node.is_powered, node.is_fenced, node.is_away, node.hangs) = (false, true, false, false);
        self.end_daemon(at);
        if self.copies[at] != Copy::None {
            self.end(at);
        }
    }

    /// A host that was fenced is up again.
    pub fn restore_power(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        (node.is_powered, node.is_fenced) = (true, false);
        self.start_daemon(at);
    }

    /// An administrator starts the VM, which is off everywhere.
    pub fn start_by_hand(&mut self, at: usize) {
        let origin = if self.asked.is_some() { Origin::Meanwhile } else { Origin::Earlier };
        self.set(at, Copy::Active(origin));
    }

    pub fn switch_libvirt(&mut self, at: usize) {
        let (now, vms) = (self.now, self.listed(at));
        let node = &mut self.nodes[at];
        node.is_away = !node.is_away;
        let Some(router) = node.router.as_mut() else { return };
        match node.is_away {
            true => router.unlisted(UriIndex(0)),
            false => router.listed(UriIndex(0), vms, now),
        }
    }
}
