//! Groups of a requester and of a VM.

use super::permissions::{Identified, Permissions, VmCopy};
use fence_virt::fence::ListenerName;
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
        };
        self.groups().iter().map(membership).collect()
    }

    /// Returns a sentence with the groups of a requester and of a VM, for the line about a denial. Its length
    /// does not grow with the configuration.
    pub(crate) fn describe_groups(&self, requester: &Identified, copies: &[VmCopy]) -> String {
        let all = self.memberships(requester, copies);
        let of_requester =
            named(all.iter().filter(|group| group.has_requester), requester.listener(), NAMED_MAX);
        let of_vm = named(all.iter().filter(|group| group.has_vm), requester.listener(), NAMED_MAX);
        format!("groups of the requester: {of_requester}, of the VM: {of_vm}")
    }
}

/// Returns the labels of groups, of `max` at most, each with a remark if it does not apply to the listener.
pub(crate) fn named<'a>(
    groups: impl Iterator<Item = &'a GroupMembership>,
    listener: &ListenerName,
    max: usize,
) -> String {
    let label = |group: &GroupMembership| match group.is_for_listener {
        true => group.label.clone(),
        false => format!("{} (not for {listener})", group.label),
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
        };
        let all: Vec<GroupMembership> = (1..=10).map(group).collect();
        assert_eq!(named([].iter(), &listener, 3), "none");
        assert_eq!(named(all[7..].iter(), &listener, 3), "#8, #9, #10 (not for tcp)");
        assert_eq!(named(all.iter(), &listener, 3), "#1, #2, #3 and 7 more");
    }
}
