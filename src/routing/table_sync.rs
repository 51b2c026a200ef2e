//! Tables of VMs, told in full or as a digest. A member that joins has told nothing yet to others, nor they to
//! it. Most of them know most tables all the same: after a cut, or a restart of one daemon. So members tell it
//! the digest of their table. It is worth the table for whoever knows that, and whoever does not asks for it.

use super::router::Router;
use super::table_digest::TableSum;
use super::vocabulary::Peer;
use crate::fence::Domain;
use crate::time::Instant;
use crate::wire::cluster::{Advertisement, ClusterMessage, NodeId, TableDigest};

impl Router {
    /// Tells all VMs here.
    pub(super) fn advertise_all(&mut self, now: Instant) {
        self.outbox.send(ClusterMessage::Hello { is_complete: false });
        self.view.inventory.advertise_all();
        self.view.tables.note_told(now);
    }

    /// Tells the digest of the VMs here, unless all are about to be told.
    pub(super) fn advertise_digest(&mut self, now: Instant) {
        self.outbox.send(ClusterMessage::Hello { is_complete: false });
        let is_telling = self.view.inventory.is_telling_all();
        if !self.view.tables.put_off(now) || is_telling {
            self.view.inventory.advertise_digest();
        }
        if is_telling {
            // A member that has just joined has not heard the beginning. It does not ask if it has heard another one
            // ask, whose answer this is.
            self.view.tables.note_query(now);
        }
    }

    /// Tells what members need that have joined, or those C daemons that remain.
    pub(super) fn advertise_after_change(&mut self, has_joined: bool, now: Instant) {
        // C daemons expect advertisements also when a member has left.
        if self.view.members.has_known_legacy() {
            self.advertise_all(now);
        } else if has_joined {
            self.advertise_digest(now);
        }
    }

    /// Tells what is due.
    pub(super) fn advertise_due(&mut self, now: Instant) {
        let is_resync = self.view.inventory.is_resync_due(now);
        // A query in the middle of the telling is answered after it: what was told first is not put off again.
        if self.view.tables.is_due(now) && self.view.inventory.is_telling_all() {
            self.view.tables.postpone(now);
        }
        let is_all = self.view.members.take_new_legacy(now) || self.view.tables.is_due(now);
        if is_all || (is_resync && self.view.members.has_legacy()) {
            self.advertise_all(now);
        } else if is_resync {
            self.advertise_digest(now);
        }
    }

    /// Applies the digest of a member's table, which ends what it tells. If that is the table which is known here,
    /// the member has told it once more; if not, it is to tell it.
    pub(super) fn told_digest(&mut self, peer: Peer, digest: TableDigest, now: Instant) {
        // One digest for each hello: it costs a look at all VMs of the member.
        if !self.view.members.is_telling(peer) {
            return;
        }
        let node = peer.node;
        if self.known_digest(node) == digest {
            self.known_table(node).iter().for_each(|vm| self.advertised(peer, vm, now));
            self.hello(peer, true, now);
            return;
        }
        self.view.members.end_round(peer);
        if self.view.members.is_me(node) {
            self.view.tables.note_query(now);
        } else {
            self.view.tables.note_unknown(node, now);
        }
    }

    /// Returns the digest of the table of a node as it is known here.
    fn known_digest(&self, node: NodeId) -> TableDigest {
        let mut sum = TableSum::default();
        for (uuid, copy) in self.view.directory.told(node) {
            sum.add(uuid, &copy.name, copy.state, copy.is_active);
        }
        sum.finish()
    }

    /// Returns the table of a node as it is known here.
    fn known_table(&self, node: NodeId) -> Vec<Advertisement> {
        let told = self.view.directory.told(node).map(|(uuid, copy)| {
            let domain = Domain { name: copy.name.clone(), uuid };
            Advertisement { domain, owner: node, state: copy.state, is_active: copy.is_active }
        });
        told.collect()
    }

    /// Applies a query for the table of a member.
    pub(super) fn asked_to_tell(&mut self, node: NodeId, now: Instant) {
        if self.view.members.is_me(node) {
            self.view.tables.note_query(now);
        } else if self.view.members.is_member(node) {
            self.view.tables.note_asked(node, now);
        }
    }

    /// Applies a hello.
    pub(super) fn hello(&mut self, peer: Peer, is_complete: bool, now: Instant) {
        if is_complete && self.view.members.is_telling(peer) {
            self.view.tables.forget(peer.node);
        }
        if self.view.hello(peer, is_complete, now) {
            self.resume_deferred(now);
            self.tasks.review_all(now);
        }
    }
}
