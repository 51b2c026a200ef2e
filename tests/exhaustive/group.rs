//! The group: its members, and the order of its messages.

use fence_virt::routing::{Departure, Membership, Peer};
use fence_virt::wire::cluster::NodeId;

use crate::cluster::{Cluster, NODES, Word};

impl Cluster {
    fn peer(&self, at: usize) -> Peer {
        Peer { node: NodeId(at as u32 + 1), pid: self.nodes[at].pid }
    }

    fn members(&self, part: u8) -> Vec<usize> {
        (0..NODES).filter(|&at| self.nodes[at].part == part && self.nodes[at].router.is_some()).collect()
    }

    /// Reports the members and votes to all nodes whose group has changed.
    pub fn sync_views(&mut self) {
        for at in 0..NODES {
            if self.nodes[at].router.is_none() {
                continue;
            }
            let nodes = self.members(self.nodes[at].part);
            let members: Vec<Peer> = nodes.iter().map(|&at| self.peer(at)).collect();
            if members == self.nodes[at].view {
                continue;
            }
            let before = std::mem::replace(&mut self.nodes[at].view, members.clone());
            let is_up = |peer: &Peer| members.iter().any(|member| member.node == peer.node);
            let how = |peer: &Peer| if is_up(peer) { Departure::Process } else { Departure::Node };
            let left = before.iter().filter(|peer| !members.contains(peer));
            let left = left.map(|peer| (*peer, how(peer))).collect();
            let joined = members.iter().filter(|peer| !before.contains(peer)).copied().collect();
            let votes = members.iter().map(|peer| peer.node).collect();
            let is_quorate = members.len() * 2 > NODES;
            let words = &mut self.nodes[at].words;
            words.push_back(Word::Changed(Membership { members, left, joined }));
            words.push_back(Word::Votes(is_quorate, votes));
        }
    }

    /// Lets a node read all that it was sent, act, and send; false if there was nothing.
    pub fn deliver(&mut self, at: usize) -> bool {
        let now = self.now;
        let mut has_acted = false;
        while let Some(word) = self.nodes[at].words.pop_front() {
            has_acted = true;
            let Some(router) = self.nodes[at].router.as_mut() else { continue };
            match word {
                Word::Message(from, bytes) => router.heard(from, &bytes, now, false, now),
                Word::Changed(change) => router.changed(&change, now),
                Word::Votes(is_quorate, nodes) => router.votes(is_quorate, &nodes, now),
            }
        }
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
}
