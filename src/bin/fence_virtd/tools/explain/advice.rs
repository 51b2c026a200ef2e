//! The line of the configuration that would permit a request.

use crate::access::{GroupMembership, policies};
use fence_virt::config::GroupConfig;
use fence_virt::fence::{ListenerName, Source};

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

/// Ways to permit a request that is denied, the narrowest one first; two at most.
pub(super) fn advise(
    groups: &[GroupConfig],
    memberships: &[GroupMembership],
    listener: &ListenerName,
    requester: &Source,
    vm: &str,
) -> Vec<Advice> {
    let requester = line_of(requester);
    // No value of the configuration can hold a quotation mark.
    let vm = if vm.contains('"') { "UUID-OF-THE-VM" } else { vm };
    let listed_vm = format!("uuid = \"{vm}\";");
    let at = |is_meant: &dyn Fn(&GroupMembership) -> bool| memberships.iter().position(is_meant);
    let with_both = at(&|group| group.has_requester && group.has_vm && !group.is_for_listener);
    if let Some((at, group)) = with_both.and_then(|at| Some((at, groups.get(at)?))) {
        return vec![for_listener(at, group, listener)];
    }
    let place = |at: usize| {
        let label = groups.get(at).map_or_else(String::new, |group| policies::label(at, group));
        format!("add to group {label} (number {} of the file)", at + 1)
    };
    let mut advice = Vec::new();
    if let Some(at) = at(&|group| group.has_vm && !group.has_requester && group.is_for_listener) {
        let effect = "the requester may then fence every VM of that group".to_owned();
        advice.push(Advice { place: place(at), line: requester.clone(), effect });
    }
    if let Some(at) = at(&|group| group.has_requester && group.is_for_listener) {
        let effect = "every requester of that group may then fence the VM".to_owned();
        advice.push(Advice { place: place(at), line: listed_vm.clone(), effect });
    }
    if advice.is_empty() {
        let only = format!("listener = \"{listener}\";");
        let line = format!("group {{ {only} {requester} {listed_vm} }}");
        let effect = "nothing else is permitted by it".to_owned();
        advice.push(Advice { place: "add to the section groups".to_owned(), line, effect });
    }
    advice
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
