//! What the group and the fencer report, for the router.

use log::{Level, log_enabled, trace};

use super::backend::Cpg;
use super::shared::GroupEvent;
use crate::libvirt::Link;
use fence_virt::routing::Membership;
use fence_virt::time::Instant;
use fence_virt::wire::cluster::NodeId;

/// Batches of group events that are handled before the next job has its turn.
const BATCHES: usize = 4;

impl<L: Link> Cpg<L> {
    /// Handles what the group has delivered, at most `BATCHES` batches.
    pub(super) fn fetch(&mut self, now: Instant) {
        for _ in 0..BATCHES {
            match self.group.fetch() {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => batch.into_iter().for_each(|event| self.hear(event, now)),
                Err(reason) => {
                    if !std::mem::replace(&mut self.is_lost, true) {
                        self.router.lost(&reason);
                    }
                    break;
                }
            }
        }
        let is_behind = self.group.is_behind();
        self.router.set_undelivered(is_behind, now);
        // A host that was fenced may be back, and the group has said so.
        if !is_behind {
            self.fencing.take_fenced(now).into_iter().for_each(|node| self.router.host_fenced(node, now));
        }
        self.follow_fencer(now);
    }

    /// Lets the router wait for fences while the fencer answers.
    pub(super) fn follow_fencer(&mut self, now: Instant) {
        let answers = self.fencing.answers();
        if std::mem::replace(&mut self.awaits_fencing, answers) != answers {
            self.router.set_awaits_fencing(answers, now);
        }
    }

    fn hear(&mut self, event: GroupEvent, now: Instant) {
        self.fencing.hear(&event);
        trace_event(&event);
        match event {
            GroupEvent::Joined(me) => self.router.joined(me, now),
            GroupEvent::Lost(reason) => self.router.lost(&reason),
            GroupEvent::Changed(membership) => self.router.changed(&membership, now),
            GroupEvent::Unsent(request) => self.router.unsent(request, now),
            GroupEvent::Quorum { is_quorate, nodes } => self.router.votes(is_quorate, &nodes, now),
            GroupEvent::Configured(nodes) => self.router.configured(nodes, now),
            GroupEvent::Message { from, bytes, at, is_old } => {
                self.router.heard(from, &bytes, at, is_old, now);
            }
        }
    }
}

/// Logs an event for debugging.
fn trace_event(event: &GroupEvent) {
    if !log_enabled!(Level::Trace) {
        return;
    }
    match event {
        GroupEvent::Joined(me) => trace!("cpg: event: joined the group as node {}", me.node),
        GroupEvent::Lost(reason) => trace!("cpg: event: lost the group: {reason}"),
        GroupEvent::Changed(Membership { members, left, joined }) => {
            let nodes = |peers: Vec<NodeId>| {
                let nodes: Vec<String> = peers.iter().map(NodeId::to_string).collect();
                if nodes.is_empty() { "none".to_owned() } else { nodes.join(" ") }
            };
            let members = nodes(members.iter().map(|peer| peer.node).collect());
            let left = nodes(left.iter().map(|(peer, _)| peer.node).collect());
            let joined = nodes(joined.iter().map(|peer| peer.node).collect());
            trace!("cpg: event: members: nodes {members}; left: {left}; joined: {joined}");
        }
        GroupEvent::Unsent(_) => trace!("cpg: event: a request was not sent"),
        GroupEvent::Quorum { is_quorate, nodes } => {
            trace!("cpg: event: quorum: {is_quorate}, nodes with a vote: {}", nodes.len());
        }
        // The cpg thread logs it.
        GroupEvent::Configured(_) => {}
        GroupEvent::Message { from, bytes, is_old, .. } => {
            let age = if *is_old { "old " } else { "" };
            trace!("cpg: event: {age}message of {} bytes from node {}", bytes.len(), from.node);
        }
    }
}
