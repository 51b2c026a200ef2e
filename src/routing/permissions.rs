//! Copies of a VM that a request may touch, by the names for which the groups were asked.
//!
//! The host of the client asks them, by the names that the members have told for the UUID. A member tells
//! one name, so what another host asks for touches copies of that name alone. C daemons compare the text of
//! the request with their groups: it touches copies of that name alone, or of that UUID.

use std::collections::BTreeSet;

use super::router::Router;
use super::task::{Task, TaskOrigin, TaskProgress, permitted_by};
use super::view::CopyHolder;
use super::vocabulary::ClusterCopy;
use crate::fence::{Domain, Uuid, Verdict};
use crate::groups::PermittedNames;
use crate::time::Instant;
use crate::wire::cluster::cut;

impl Router {
    /// Returns the copies that members have of the VM that a text refers to; none if it refers to none, or
    /// to several VMs. Those of members that are away count if there are no others.
    pub fn copies_of(&self, text: &str, now: Instant) -> Vec<ClusterCopy> {
        let meaning = self.view.meaning(text, self.view.rules.names, now);
        meaning.only().map_or_else(Vec::new, |uuid| self.view.copies_or_away(uuid))
    }

    /// Returns the copies on other members that have either the UUID or the name of a VM, and not both.
    pub fn conflicts(&self, domain: &Domain) -> Vec<ClusterCopy> {
        let name = cut(&domain.name);
        let named = self.view.directory.named(name).map(|(uuid, ..)| uuid);
        let uuids: BTreeSet<Uuid> = named.chain([domain.uuid]).collect();
        let copies = uuids.into_iter().flat_map(|uuid| self.view.copies(uuid));
        let is_other =
            |copy: &ClusterCopy| copy.uri.is_none() && (copy.uuid == domain.uuid) != (copy.name == name);
        copies.filter(is_other).collect()
    }

    /// Returns the refusal of a task if one of the copies that it concerns is not permitted.
    pub(super) fn deny(&mut self, task: &Task, uuid: Uuid, holders: &[CopyHolder]) -> Option<TaskProgress> {
        let is_concerned = |copy: &ClusterCopy| holders.iter().any(|holder| holder.node == copy.node);
        let is_permitted = |copy: &ClusterCopy| task.permitted.permit(&copy.name, &uuid.to_string());
        let copies = self.view.copies(uuid);
        if copies.iter().filter(|copy| is_concerned(copy)).all(is_permitted) {
            return None;
        }
        let names = copies.iter().map(|copy| format!("{:?} on {}", copy.name, copy.place()));
        let names = names.collect::<Vec<_>>().join(", ");
        let reason = format!("{uuid} has a name for which no permission was given: {names}");
        if let TaskOrigin::Node(request) = &task.origin {
            let operation = task.operation;
            let text = &task.text;
            let node = request.peer.node;
            self.outbox.note(format!("refusing {operation} {text:?} from node {node}: {reason}"));
        }
        let verdict = if task.requests().is_empty() { Verdict::Denied } else { Verdict::Failure };
        Some(TaskProgress::Done(verdict, reason))
    }

    /// Returns the names that a request of another node permits here: it names the UUID, and that node knows
    /// the VM by the name that this one has told.
    pub(super) fn permitted_here(&self, text: &str) -> PermittedNames {
        let Some(uuid) = Uuid::parse(text) else { return permitted_by(text) };
        let me = self.view.members.me();
        let copy = me.and_then(|me| self.view.directory.copy(me.node, uuid));
        let own = self.view.inventory.copies(uuid).map(|(_, vm)| vm.name.as_str());
        let told = copy.map(|copy| copy.name.as_str()).or_else(|| self.view.inventory.name(uuid));
        // Names are cut when they are told.
        let full = own.filter(|name| told.is_some_and(|told| told == cut(name)));
        PermittedNames::These(told.into_iter().chain(full).map(str::to_owned).collect())
    }
}
