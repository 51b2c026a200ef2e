//! Model of a hostile member.

use fence_virt::fence::{Domain, Operation, PowerState, Uuid};
use fence_virt::wire::cluster::{
    Advertisement, ClusterCall, ClusterMessage, Report, RequestNumber, TableDigest,
};

use super::world::{Word, World};

impl World {
    pub fn hostile_hears(&mut self, at: usize, word: Word) {
        if let Word::Message(from, bytes, _) = &word {
            if let Ok(ClusterMessage::Locate { number, .. }) = ClusterMessage::decode(bytes) {
                for number in [RequestNumber(number.0.wrapping_add(1)), number] {
                    self.cast(at, &ClusterMessage::Located { to: from.node, number }.encode());
                }
            }
        }
        // It is of this suite, so that the others wait until it has told all its VMs.
        if matches!(word, Word::Changed(_)) {
            for is_complete in [false, true] {
                self.cast(at, &ClusterMessage::Hello { is_complete }.encode());
            }
        }
        if let (Word::Message(_, bytes, _), Some(daemon)) = (word, self.nodes[at].daemon.as_mut()) {
            if daemon.c.heard.len() < 64 {
                daemon.c.heard.push(bytes);
            }
        }
    }

    /// Sends anything but advertisements of VMs that others have, and requests to fence one.
    pub fn hostile_speaks(&mut self, at: usize) {
        let heard = self.nodes[at].daemon.as_mut().map(|daemon| std::mem::take(&mut daemon.c.heard));
        for bytes in heard.unwrap_or_default() {
            match ClusterMessage::decode(&bytes) {
                Ok(ClusterMessage::Request(call)) => {
                    // The reply, before and instead of the node that owes it.
                    for response in [0, 2, 256, 1] {
                        for target in self.nodes.iter().map(|node| node.id).collect::<Vec<_>>() {
                            let call = ClusterCall { target, ..call.clone() };
                            let reply = ClusterMessage::Reply { call: call.clone(), response };
                            self.cast(at, &reply.encode());
                            let (response, evidence) = (response as u8, 1);
                            let report = Report { call, response, evidence, moved_to: None };
                            self.cast(at, &ClusterMessage::Report(report).encode());
                        }
                    }
                    let call = ClusterCall { operation: Operation::Status, ..call };
                    self.cast(at, &ClusterMessage::Request(call).encode());
                }
                Ok(ClusterMessage::Reply { .. }) => (0..3).for_each(|_| self.cast(at, &bytes)),
                Ok(ClusterMessage::Store(told) | ClusterMessage::Gone { vm: told, .. }) => {
                    let domain = told.domain.clone();
                    let told = Advertisement { domain, state: PowerState::Off, is_active: false, ..told };
                    self.cast(at, &ClusterMessage::Store(told.clone()).encode());
                    let gone = ClusterMessage::Gone { vm: told, has_ended: true };
                    self.cast(at, &gone.encode());
                }
                _ => {}
            }
        }
        let mut junk: Vec<u8> = (0..self.random.below(200)).map(|_| self.random.next() as u8).collect();
        if self.random.one_in(2) {
            junk.resize(156, 7);
            junk[..4].copy_from_slice(&(self.random.below(3) as u32).to_le_bytes());
        }
        self.cast(at, &junk);
        let number = self.random.below(40) as u8;
        let domain = Domain { name: format!("phantom{number}"), uuid: Uuid::from_bytes([200 + number; 16]) };
        let owner = self.nodes[at].id;
        let told = Advertisement { domain, owner, state: PowerState::Running, is_active: true };
        self.cast(at, &ClusterMessage::Store(told).encode());
        let is_complete = self.random.one_in(2);
        self.cast(at, &ClusterMessage::Hello { is_complete }.encode());
        let digest = TableDigest { vms: self.random.below(3) as u32, sha256: [number; 32] };
        self.cast(at, &ClusterMessage::Table(digest).encode());
        for node in self.nodes.iter().map(|node| node.id).collect::<Vec<_>>() {
            self.cast(at, &ClusterMessage::TellAll { node }.encode());
        }
    }
}
