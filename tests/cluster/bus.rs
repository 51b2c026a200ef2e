//! The group: its members, and the total order of its messages.

use std::collections::BTreeSet;

use fence_virt::fence::UriIndex;
use fence_virt::routing::{Departure, Membership, Peer, Router};
use fence_virt::wire::cluster::{NodeId, RequestNumber};

use super::world::{Daemon, Kind, Node, Word, World};

impl World {
    pub fn start_daemon(&mut self, at: usize) {
        self.next_pid += 1;
        let kind = self.nodes[at].kind;
        let first = RequestNumber(self.random.next() as u32);
        let mut router = (kind == Kind::Ours).then(|| Router::new(self.rules, 1, first));
        if let Some(router) = &mut router {
            let now = self.instant(self.now);
            router.configured(Some(self.nodes.iter().map(|node| node.id).collect()), now);
            router.listed(UriIndex(0), self.local_vms(at), now);
        }
        self.nodes[at].daemon = Some(Daemon::new(self.next_pid, router, self.now));
        self.join(at);
    }

    /// Joins the group if corosync is there.
    pub fn join(&mut self, at: usize) {
        let (now, node) = (self.instant(self.now), &mut self.nodes[at]);
        let Some(daemon) = node.daemon.as_mut().filter(|_| node.has_corosync && node.is_powered) else {
            return;
        };
        let me = Peer { node: node.id, pid: daemon.pid };
        daemon.is_joined = true;
        daemon.read_at = self.now;
        if let Some(router) = &mut daemon.router {
            router.joined(me, now);
        }
        self.sync_views();
        self.sync_votes();
    }

    /// Loses the connection with corosync.
    pub fn lose(&mut self, at: usize) {
        if let Some(daemon) = self.nodes[at].daemon.as_mut() {
            daemon.is_joined = false;
            // A member that is lost before it has advertised again is like one that was never seen.
            daemon.told.clear();
            daemon.words.clear();
            daemon.votes.clear();
            daemon.view.clear();
            daemon.history = None;
            daemon.untold.clear();
            daemon.absent_voters.clear();
            if let Some(router) = &mut daemon.router {
                router.lost("corosync has ended");
            }
        }
        self.sync_views();
    }

    /// Replaces a daemon by a process that joins before the group reports that the earlier one has left.
    pub fn replace_daemon(&mut self, at: usize) {
        if !self.is_in_group(at) {
            return;
        }
        let new = Peer { node: self.nodes[at].id, pid: self.next_pid + 1 };
        let part = self.nodes[at].part;
        for other in (0..self.nodes.len()).filter(|&other| other != at) {
            if self.nodes[other].part != part || !self.is_in_group(other) {
                continue;
            }
            let Some(daemon) = self.nodes[other].daemon.as_mut() else { continue };
            daemon.view.insert(new);
            let members = daemon.view.iter().copied().collect();
            let joined = vec![new];
            daemon.words.push_back(Word::Changed(Membership { members, left: Vec::new(), joined }));
        }
        self.count("replaced daemons");
        self.start_daemon(at);
    }

    fn is_in_group(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        node.is_powered && node.has_corosync && node.daemon.as_ref().is_some_and(|daemon| daemon.is_joined)
    }

    /// Reports the members to everyone, in the order of the group.
    pub fn sync_views(&mut self) {
        for at in 0..self.nodes.len() {
            if !self.is_in_group(at) {
                continue;
            }
            let part = self.nodes[at].part;
            let peer = |node: &Node| Peer { node: node.id, pid: node.daemon.as_ref().map_or(0, |d| d.pid) };
            let there: BTreeSet<Peer> = (0..self.nodes.len())
                .filter(|&other| self.nodes[other].part == part && self.is_in_group(other))
                .map(|other| peer(&self.nodes[other]))
                .collect();
            let up: Vec<NodeId> = self.up_in(part);
            let Some(daemon) = self.nodes[at].daemon.as_mut() else { continue };
            let how = |peer: &Peer| match up.contains(&peer.node) {
                true => Departure::Process,
                false => Departure::Node,
            };
            let left: Vec<_> = daemon.view.difference(&there).map(|peer| (*peer, how(peer))).collect();
            let joined: Vec<_> = there.difference(&daemon.view).copied().collect();
            if !left.is_empty() || !joined.is_empty() {
                let members = there.iter().copied().collect();
                daemon.words.push_back(Word::Changed(Membership { members, left, joined }));
                if let Some(asking) = &mut daemon.c.asking {
                    asking.receivers.retain(|peer| there.contains(peer));
                }
                daemon.view = there;
                daemon.changed_at = self.now;
                // Long refusals end while VMs are advertised.
                daemon.refused_until = daemon.refused_until.min(self.now + 1500);
            }
        }
    }

    fn up_in(&self, part: u64) -> Vec<NodeId> {
        let is_up = |node: &&Node| node.part == part && node.is_powered && node.has_corosync;
        self.nodes.iter().filter(is_up).map(|node| node.id).collect()
    }

    pub fn is_quorate(&self, part: u64) -> bool {
        self.up_in(part).len() * 2 > self.nodes.len()
    }

    /// Reports votes, which the quorum service does in its own time.
    pub fn sync_votes(&mut self) {
        for at in 0..self.nodes.len() {
            let part = self.nodes[at].part;
            let (up, is_quorate) = (self.up_in(part), self.is_quorate(part));
            let due = self.now + self.random.below(400);
            if let Some(daemon) = self.nodes[at].daemon.as_mut().filter(|daemon| daemon.is_joined) {
                let due = daemon.votes.back().map_or(due, |(last, ..)| due.max(*last));
                daemon.votes.push_back((due, is_quorate, up));
            }
        }
    }

    pub fn cast(&mut self, from: usize, bytes: &[u8]) {
        if !self.is_in_group(from) {
            return;
        }
        let (part, id) = (self.nodes[from].part, self.nodes[from].id);
        let pid = self.nodes[from].daemon.as_ref().map_or(0, |daemon| daemon.pid);
        for at in 0..self.nodes.len() {
            if self.nodes[at].part == part && self.is_in_group(at) {
                if let Some(daemon) = self.nodes[at].daemon.as_mut() {
                    daemon.words.push_back(Word::Message(Peer { node: id, pid }, bytes.to_vec(), self.now));
                }
            }
        }
    }
}
