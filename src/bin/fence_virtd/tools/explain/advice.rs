//! The line of the configuration that would permit a request.

use crate::access::{GroupMembership, policies};
use fence_virt::config::GroupConfig;
use fence_virt::fence::{ListenerName, Rights, Source};

/// Line to add, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advice {
    /// Sentence about the place.
    pub(super) place: String,
    /// Text to add there, or to replace a line by.
    pub(super) line: String,
    /// Sentence about what else that permits.
    pub(super) effect: String,
}

/// Ways to permit operations that are denied, the narrowest one first; two at most.
pub(super) fn advise(
    groups: &[GroupConfig],
    memberships: &[GroupMembership],
    (listener, requester): (&ListenerName, &Source),
    vm: &str,
    denied: Rights,
) -> Vec<Advice> {
    let requester = line_of(requester);
    // No value of the configuration can hold a quotation mark.
    let vm = if vm.contains('"') { "UUID-OF-THE-VM" } else { vm };
    let listed_vm = format!("uuid = \"{vm}\";");
    let at = |is_meant: &dyn Fn(&GroupMembership) -> bool| memberships.iter().position(is_meant);
    let group_at = |at: usize| Some((at, groups.get(at)?));
    let withholding = at(&GroupMembership::has_both).filter(|_| withhold(memberships, denied));
    if let Some((at, group)) = withholding.and_then(group_at) {
        return vec![for_operations(at, group, denied)];
    }
    let allows = |group: &GroupMembership| group.rights.cover(denied);
    let with_both =
        at(&|group| group.has_requester && group.has_vm && !group.is_for_listener && allows(group));
    if let Some((at, group)) = with_both.and_then(group_at) {
        return vec![for_listener(at, group, listener)];
    }
    let place = |at: usize| {
        let label = groups.get(at).map_or_else(String::new, |group| policies::label(at, group));
        format!("add to group {label} (number {} of the file)", at + 1)
    };
    let mut advice = Vec::new();
    if let Some(at) =
        at(&|group| group.has_vm && !group.has_requester && group.is_for_listener && allows(group))
    {
        let effect = "the requester may then fence every VM of that group".to_owned();
        advice.push(Advice { place: place(at), line: requester.clone(), effect });
    }
    if let Some(at) = at(&|group| group.has_requester && group.is_for_listener && allows(group)) {
        let effect = "every requester of that group may then fence the VM".to_owned();
        advice.push(Advice { place: place(at), line: listed_vm.clone(), effect });
    }
    if advice.is_empty() {
        let only = format!("listener = \"{listener}\";");
        let allow = if denied.is_all() { String::new() } else { format!("allow = \"{denied}\"; ") };
        let line = format!("group {{ {only} {allow}{requester} {listed_vm} }}");
        let effect = "nothing else is permitted by it".to_owned();
        advice.push(Advice { place: "add to the section groups".to_owned(), line, effect });
    }
    advice
}

/// Returns true if groups have both requester and VM, and it is the operations that none of them allows.
pub(super) fn withhold(groups: &[GroupMembership], operations: Rights) -> bool {
    let mut both = groups.iter().filter(|group| group.has_both()).peekable();
    both.peek().is_some() && !both.any(|group| group.rights.cover(operations))
}

/// Line that lists a requester.
fn line_of(requester: &Source) -> String {
    match requester {
        Source::Ip(address) => format!("ip = \"{address}\";"),
        Source::Cid(cid) => format!("ip = \"{cid}\";"),
        Source::Domain(domain) => format!("uuid = \"{}\";", domain.uuid),
        Source::Key(keyed) => match keyed.holder.uuid {
            Some(uuid) => format!("uuid = \"{uuid}\";"),
            None => format!("uuid = \"{}\";", keyed.holder.name),
        },
    }
}

/// Change of a group that has both requester and VM, but does not allow these operations.
fn for_operations(at: usize, group: &GroupConfig, denied: Rights) -> Advice {
    Advice {
        place: format!(
            "replace the line allow of group {} (number {} of the file) by",
            policies::label(at, group),
            at + 1
        ),
        line: format!("allow = \"{}\";", group.rights.with(denied)),
        effect: format!("this allows all requesters of that group, for all its VMs: {denied}"),
    }
}

/// Change of a group that has both requester and VM, but is for other listeners.
fn for_listener(at: usize, group: &GroupConfig, listener: &ListenerName) -> Advice {
    let names: Vec<&str> = group.listeners.iter().chain([listener]).map(ListenerName::as_str).collect();
    Advice {
        place: format!(
            "replace the line listener of group {} (number {} of the file) by",
            policies::label(at, group),
            at + 1
        ),
        line: format!("listener = \"{}\";", names.join(", ")),
        effect: format!("all requests of that group are then permitted by {listener}, too"),
    }
}
