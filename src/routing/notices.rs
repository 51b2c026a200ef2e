//! What members that have joined are told of others: of hosts and copies that no member tells, and of members
//! that have VMs and may hang. To who has just joined, one that hangs looks like a C daemon without VMs.

use super::greetings::Greeting;
use super::ids::Sequence;
use super::router::Router;
use crate::time::Instant;
use crate::wire::cluster::{ClusterMessage, HostNotice, NodeId};

impl Router {
    /// Tells members that have joined since this position what no member tells them. The settled member with
    /// the lowest id does so; returns true if that is this one.
    pub(super) fn tell_of_absent(&mut self, before: Sequence, now: Instant) -> bool {
        self.greetings.awaits(before, self.view.directory.next_seq(), now);
        let first = self.view.members.settled().next();
        let is_teller = first.is_some_and(|node| self.view.members.is_me(node));
        if is_teller {
            self.send_notices(now);
        }
        is_teller
    }

    /// Tells members that have joined since this position, at which a daemon that has left told all its VMs for the
    /// last time, what was known of it. The settled member with the lowest id that has heard it does so.
    pub(super) fn tell_of_departed(&mut self, told: Sequence, now: Instant) {
        let members = &self.view.members;
        let first = members.settled().find(|&node| !members.has_joined_since(node, told));
        if first.is_some_and(|node| members.is_me(node)) {
            self.send_notices(now);
        }
    }

    /// Tells of the members that did not greet who has joined. Of those that did, and were there before, the
    /// first one tells it, and what the first of all had to tell if that is silent too.
    pub(super) fn tell_of_silent(&mut self, now: Instant) {
        let Some(Greeting { before, since, .. }) = self.greetings.take_due(now) else { return };
        let members = &self.view.members;
        let silent = members.silent_since(since);
        let known: Vec<NodeId> =
            members.settled().filter(|&node| !members.has_joined_since(node, before)).collect();
        let is_first_silent = known.first().is_some_and(|node| silent.contains(node));
        let first_heard = known.into_iter().find(|node| !silent.contains(node));
        if silent.is_empty() || !first_heard.is_some_and(|node| members.is_me(node)) {
            return;
        }
        for node in silent.into_iter().filter(|&node| self.view.directory.has_copies(node)) {
            self.outbox.send(ClusterMessage::Host(HostNotice::has_vms(node)));
        }
        if is_first_silent {
            self.send_notices(now);
        }
    }

    fn send_notices(&mut self, now: Instant) {
        for message in self.view.notices(now) {
            self.outbox.send(message);
        }
    }
}
