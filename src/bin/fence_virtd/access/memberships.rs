//! Groups of a requester and of a VM.

use super::permissions::{Identified, Permissions, VmCopy};
use fence_virt::fence::{ListenerName, Operation, Rights};
use fence_virt::groups::{Group, listed_names};

/// Maximum number of groups that a line of the log names.
const NAMED_MAX: usize = 3;

/// Group, and its part in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupMembership {
    /// Name of the group in messages.
    pub(crate) label: String,
    /// True if the group applies to the requester's listener.
    pub(crate) is_for_listener: bool,
    pub(crate) has_requester: bool,
    /// True if the group lists one of the copies of the VM.
    pub(crate) has_vm: bool,
    /// Operations that the group allows.
    pub(crate) rights: Rights,
}

impl GroupMembership {
    /// True if the group applies to the requester's listener, and has both requester and VM.
    pub(crate) fn has_both(&self) -> bool {
        self.is_for_listener && self.has_requester && self.has_vm
    }
}

impl Permissions {
    /// Returns each group, in the order of the configuration, also those that do not apply to the requester's
    /// listener.
    pub(crate) fn memberships(&self, requester: &Identified, copies: &[VmCopy]) -> Vec<GroupMembership> {
        let names: Vec<&str> = copies.iter().flat_map(|copy| listed_names(&copy.name, &copy.uuid)).collect();
        let (sources, name) = requester.identities();
        let membership = |group: &Group| GroupMembership {
            label: group.label().to_owned(),
            is_for_listener: group.serves(requester.listener()),
            has_requester: group.has_requester(sources, name),
            has_vm: group.has_vm(&names),
            rights: group.rights(),
        };
        self.groups().iter().map(membership).collect()
    }

    /// Returns the reason of a denial: the groups that have both requester and VM and do not allow the
    /// operation; without any, the groups of each. Its length does not grow with the configuration.
    pub(crate) fn describe_groups(
        &self,
        requester: &Identified,
        operation: Operation,
        copies: &[VmCopy],
    ) -> String {
        let all = self.memberships(requester, copies);
        let named = |is_meant: fn(&&GroupMembership) -> bool| {
            named(all.iter().filter(is_meant), requester.listener(), NAMED_MAX)
        };
        // One that allows it has not all copies of the VM.
        let both: Vec<&GroupMembership> = all.iter().filter(|group| group.has_both()).collect();
        if !both.is_empty() && !both.iter().any(|group| group.rights.allow(operation)) {
            let both = named(|group| group.has_both());
            return format!("no group with both requester and VM allows {operation}: {both}");
        }
        let reason = not_permitted(copies);
        let (of_requester, of_vm) = (named(|group| group.has_requester), named(|group| group.has_vm));
        format!("{reason}; groups of the requester: {of_requester}, of the VM: {of_vm}")
    }
}

/// Reason of a denial, with the places if the copies have different names.
pub(crate) fn not_permitted(copies: &[VmCopy]) -> String {
    let [first, others @ ..] = copies else { return "no group lists the VM".to_owned() };
    if others.iter().all(|copy| copy.name == first.name) {
        return "no group lists both requester and VM".to_owned();
    }
    format!(
        "no group lists both requester and each copy of {}, which has different names: {}: list the UUID, or \
         give the copies one name",
        first.uuid,
        VmCopy::describe(copies)
    )
}

/// Returns the labels of groups, of `max` at most, each with remarks if it does not apply to the listener or
/// does not allow all operations.
pub(crate) fn named<'a>(
    groups: impl Iterator<Item = &'a GroupMembership>,
    listener: &ListenerName,
    max: usize,
) -> String {
    let label = |group: &GroupMembership| {
        let other = (!group.is_for_listener).then(|| format!("not for {listener}"));
        let some = (!group.rights.is_all()).then(|| format!("allows {}", group.rights));
        let remarks: Vec<String> = other.into_iter().chain(some).collect();
        if remarks.is_empty() {
            group.label.clone()
        } else {
            format!("{} ({})", group.label, remarks.join("; "))
        }
    };
    let mut labels: Vec<String> = groups.map(label).collect();
    let more = labels.len().saturating_sub(max);
    labels.truncate(max);
    match (labels.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => labels.join(", "),
        (false, more) => format!("{} and {more} more", labels.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_groups_are_named() {
        let listener = ListenerName::new("tcp", None);
        let group = |at: usize| GroupMembership {
            label: format!("#{at}"),
            is_for_listener: at < 10,
            has_requester: true,
            has_vm: true,
            rights: if at == 1 {
                [Operation::Status, Operation::Off].into_iter().collect()
            } else {
                Rights::all()
            },
        };
        let all: Vec<GroupMembership> = (1..=10).map(group).collect();
        assert_eq!(named([].iter(), &listener, 3), "none");
        assert_eq!(named(all[7..].iter(), &listener, 3), "#8, #9, #10 (not for tcp)");
        assert_eq!(named(all.iter(), &listener, 3), "#1 (allows status, off), #2, #3 and 7 more");
        let neither = GroupMembership { is_for_listener: false, ..all[0].clone() };
        assert_eq!(named([neither].iter(), &listener, 3), "#1 (not for tcp; allows status, off)");
    }
}
