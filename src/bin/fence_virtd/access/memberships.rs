//! Groups of a requester and of a VM, in words.

use super::permissions::{Identified, Permissions, VmCopy};
use fence_virt::fence::ListenerName;
use fence_virt::groups::{Group, Groups, listed_names};

/// Maximum number of groups that a sentence names.
const NAMED_MAX: usize = 3;

/// Groups that have a requester, and groups that have a VM.
#[derive(Debug)]
struct Memberships<'a> {
    of_requester: Vec<&'a Group>,
    of_vm: Vec<&'a Group>,
}

impl<'a> Memberships<'a> {
    /// Finds the groups of a requester, and those that list one of the copies of a VM, also those that do not
    /// apply to the requester's listener.
    fn find(groups: &'a Groups, requester: &Identified, copies: &[VmCopy]) -> Memberships<'a> {
        let names: Vec<&str> = copies.iter().flat_map(|copy| listed_names(&copy.name, &copy.uuid)).collect();
        let (sources, name) = requester.identities();
        Memberships {
            of_requester: groups.iter().filter(|group| group.has_requester(sources, name)).collect(),
            of_vm: groups.iter().filter(|group| group.has_vm(&names)).collect(),
        }
    }

    /// Returns a sentence for a line of the log. Its length does not grow with the configuration.
    fn describe(&self, listener: &ListenerName) -> String {
        let requester = named(&self.of_requester, listener, NAMED_MAX);
        format!(
            "groups of the requester: {requester}, of the VM: {}",
            named(&self.of_vm, listener, NAMED_MAX)
        )
    }
}

impl Permissions {
    /// Finds the groups of a requester and of a VM with these copies.
    fn memberships(&self, requester: &Identified, copies: &[VmCopy]) -> Memberships<'_> {
        Memberships::find(self.groups(), requester, copies)
    }

    /// Returns a sentence with the groups of a requester and of a VM, for the line about a denial.
    pub(crate) fn describe_groups(&self, requester: &Identified, copies: &[VmCopy]) -> String {
        self.memberships(requester, copies).describe(requester.listener())
    }
}

/// Returns the labels of groups, of `max` at most, each with a remark if it does not apply to the listener.
fn named(groups: &[&Group], listener: &ListenerName, max: usize) -> String {
    let label = |group: &&Group| match group.serves(listener) {
        true => group.label().to_owned(),
        false => format!("{} (not for {listener})", group.label()),
    };
    let labels: Vec<String> = groups.iter().take(max).map(label).collect();
    match (labels.is_empty(), groups.len().saturating_sub(max)) {
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
        let only = vec![ListenerName::new("vsock", None)];
        let all: Vec<Group> = (1..10).map(|at| Group::new(&[], &[]).labelled(format!("#{at}"))).collect();
        let all: Vec<Group> =
            all.into_iter().chain([Group::default().labelled("x".into()).only(only)]).collect();
        let all: Vec<&Group> = all.iter().collect();
        assert_eq!(named(&[], &listener, 3), "none");
        assert_eq!(named(&all[7..], &listener, 3), "#8, #9, x (not for tcp)");
        assert_eq!(named(&all, &listener, 3), "#1, #2, #3 and 7 more");
    }
}
