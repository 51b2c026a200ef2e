use super::greetings::Greetings;
use super::limits::RECHECK_EVERY;
use super::outbox::Outbox;
use super::race_order::Races;
use super::remote_queue::{RemoteQueue, RemoteRequest};
use super::rules::Rules;
use super::tasks::Tasks;
use super::view::ClusterView;
use super::vocabulary::{ClusterList, Evidence, Names};
use crate::fence::{Uuid, Verdict};
use crate::time::Instant;
use crate::wire::cluster::{ClusterCall, ClusterMessage, Report, RequestNumber};

/// One node's part in the cluster's decisions.
#[derive(Debug, Clone)]
pub struct Router {
    pub(super) view: ClusterView,
    pub(super) outbox: Outbox,
    pub(super) tasks: Tasks,
    pub(super) remote: RemoteQueue,
    pub(super) races: Races,
    pub(super) greetings: Greetings,
}

impl Router {
    /// A node with this number of libvirt URIs, in no group. Its requests are numbered from `first_number`,
    /// which is random, so that replies to an earlier process are not mistaken for its own.
    pub fn new(rules: Rules, uris: usize, first_number: RequestNumber) -> Router {
        Router {
            view: ClusterView::new(rules, uris),
            outbox: Outbox::new(first_number),
            tasks: Tasks::default(),
            remote: RemoteQueue::default(),
            races: Races::default(),
            greetings: Greetings::default(),
        }
    }

    /// Returns all VMs that a member has, each once, with its copies.
    pub fn list(&self, now: Instant) -> ClusterList {
        if let Some(reason) = self.not_joined() {
            return ClusterList::NotJoined(reason.to_owned());
        }
        if self.view.has_undelivered() {
            return ClusterList::RetryAt(now + RECHECK_EVERY);
        }
        let others = self.view.members.unsettled_until(now);
        match others.max(self.view.unlisted_until(now)) {
            Some(until) => ClusterList::RetryAt(until),
            None => ClusterList::Complete(self.view.list()),
        }
    }

    /// Returns the reason why this node is not in the group, if it is not.
    pub fn not_joined(&self) -> Option<&str> {
        self.view.not_joined()
    }

    /// Returns true if this node is not in the group yet, but an attempt to join is under way and has not failed.
    pub fn is_joining(&self) -> bool {
        self.view.is_joining()
    }

    /// Returns the number of members of the group, this node included.
    pub fn members(&self) -> usize {
        self.view.members.len()
    }

    /// Returns the number of requests of clients and of other nodes that are under way.
    pub fn under_way(&self) -> usize {
        self.tasks.under_way() + self.remote.under_way()
    }

    /// Returns true if a text that reads as a UUID is a name by this node's rules.
    pub fn is_name_only(&self, text: &str) -> bool {
        self.view.rules.names == Names::Name && Uuid::parse(text).is_some()
    }

    /// Returns true if a member is known to have a VM that this text means.
    pub fn knows(&self, text: &str) -> bool {
        !self.view.meant_of_members(text).is_empty()
    }

    /// Answers a request of another node.
    pub(super) fn reply(&mut self, request: RemoteRequest, verdict: Verdict) {
        self.reply_with(request, verdict, Evidence::None);
    }

    /// Answers a request of another node, with evidence if that is of this suite.
    pub(super) fn reply_with(&mut self, request: RemoteRequest, verdict: Verdict, evidence: Evidence) {
        self.remote.close(&request);
        let RemoteRequest { peer, call, .. } = request;
        let number = call.number;
        let response = match verdict {
            Verdict::Success => 0,
            Verdict::Off => 2,
            Verdict::Failure | Verdict::Denied => 1,
        };
        let call = ClusterCall { target: peer.node, ..call };
        let message = match self.view.members.is_extended(peer.node) {
            true => {
                let uuid = Uuid::parse(&call.name).filter(|_| evidence == Evidence::Moved);
                let moved_to = uuid.and_then(|uuid| self.view.inventory.followed(uuid));
                ClusterMessage::Report(Report { call, response, evidence: evidence.encode(), moved_to })
            }
            false => ClusterMessage::Reply { call, response: u32::from(response) },
        };
        // A reply that is dropped leaves a C daemon waiting until its request is overdue.
        if self.outbox.send(message) {
            self.remote.answered(peer.node, number);
        }
    }
}
