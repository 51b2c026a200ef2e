//! The group: its members, the order of its messages, and what pacemaker and the quorum service tell.

use std::hash::{DefaultHasher, Hash, Hasher};

use fence_virt::routing::{Departure, Membership, Peer};

use crate::cluster::{Cluster, NODES, Word, id};

impl Cluster {
    fn nodes_that(&self, is_meant: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..NODES).filter(|&at| is_meant(at)).collect()
    }

    fn members(&self, part: u8) -> Vec<usize> {
        self.nodes_that(|at| self.nodes[at].part == part && self.nodes[at].router.is_some())
    }

    fn voters(&self, part: u8) -> Vec<usize> {
        self.nodes_that(|at| self.nodes[at].part == part && self.nodes[at].is_powered)
    }

    pub fn is_quorate(&self, part: u8) -> bool {
        self.voters(part).len() * 2 > NODES
    }

    /// Reports the members and votes to all nodes for which they have changed.
    pub fn sync_views(&mut self) {
        for at in self.nodes_that(|at| self.nodes[at].router.is_some()) {
            let part = self.nodes[at].part;
            let members: Vec<Peer> = self.members(part).into_iter().map(|at| self.peer(at)).collect();
            let voters = self.voters(part);
            let is_up = |peer: &Peer| voters.iter().any(|&voter| id(voter) == peer.node);
            let how = |peer: &Peer| if is_up(peer) { Departure::Process } else { Departure::Node };
            let node = &mut self.nodes[at];
            if members != node.view {
                let before = std::mem::replace(&mut node.view, members.clone());
                let left = before.iter().filter(|peer| !members.contains(peer));
                let left = left.map(|peer| (*peer, how(peer))).collect();
                let joined = members.iter().filter(|peer| !before.contains(peer)).copied().collect();
                node.words.push_back(Word::Changed(Membership { members, left, joined }));
            }
            if voters != node.voters {
                node.voters = voters;
                let nodes = node.voters.iter().map(|&voter| id(voter)).collect();
                let is_quorate = node.voters.len() * 2 > NODES;
                node.words.push_back(Word::Votes(is_quorate, nodes));
            }
        }
    }

    /// Lets a node read all that it was sent, act, and send; false if there was nothing.
    pub fn deliver(&mut self, at: usize) -> bool {
        let now = self.now;
        let mut has_acted = false;
        while let Some(word) = self.nodes[at].words.pop_front() {
            has_acted = true;
            self.record(at, &word);
            let Some(router) = self.nodes[at].router.as_mut() else { continue };
            match word {
                Word::Message(from, bytes) => router.heard(from, &bytes, now, false, now),
                Word::Changed(change) => router.changed(&change, now),
                Word::Votes(is_quorate, nodes) => router.votes(is_quorate, &nodes, now),
            }
        }
        self.tell_fences(at);
        has_acted |= self.act(at);
        let peer = self.peer(at);
        let members = self.members(self.nodes[at].part);
        while let Some(message) = self.nodes[at].router.as_mut().and_then(|router| router.next_message(now)) {
            has_acted = true;
            for &member in &members {
                self.nodes[member].words.push_back(Word::Message(peer, message.bytes.to_vec()));
            }
        }
        has_acted
    }

    /// Delivers messages until there are no more.
    pub fn deliver_all(&mut self) {
        loop {
            let has_acted = [0, 1, 2].map(|at| self.deliver(at));
            if has_acted == [false; NODES] {
                return;
            }
        }
    }

    /// pacemaker's fencer tells a node with quorum which hosts it has fenced.
    fn tell_fences(&mut self, at: usize) {
        if !self.is_quorate(self.nodes[at].part) {
            return;
        }
        let fenced = self.nodes_that(|other| self.nodes[other].is_fenced);
        let now = self.now;
        let Some(router) = self.nodes[at].router.as_mut() else { return };
        fenced.into_iter().for_each(|host| router.host_fenced(id(host), now));
    }

    /// Notes that all nodes have told their VMs, if they have.
    pub fn settle(&mut self) {
        if self.nodes.iter().all(|node| node.history.is_some() && node.view.len() == NODES && !node.is_away) {
            self.nodes.iter_mut().for_each(|node| node.is_settled = true);
        }
    }

    fn record(&mut self, at: usize, word: &Word) {
        let mut hasher = DefaultHasher::new();
        let history = &mut self.nodes[at].history;
        match word {
            Word::Changed(change) if change.members.len() == NODES => *history = history.or(Some(0)),
            _ => {}
        }
        if let Some(known) = history {
            known.hash(&mut hasher);
            match word {
                Word::Message(from, bytes) => (format!("{from:?}"), bytes).hash(&mut hasher),
                other => format!("{other:?}").hash(&mut hasher),
            }
            *known = hasher.finish();
        }
    }
}
