use std::fmt;
use std::net::IpAddr;

use crate::fence::{Answer, HostEntry, PowerState, Target, column};

/// What the list of a host says about a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) enum VmListing {
    /// The host has the VM.
    Listed(PowerState),
    /// The host does not have it, or its groups hide it from this requester.
    Absent,
    /// The host sent no list, or an empty one that proves nothing, or is a C daemon that was not asked.
    Unknown,
}

impl fmt::Display for VmListing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VmListing::Listed(PowerState::Running) => "lists it as on",
            VmListing::Listed(PowerState::Off) => "lists it as off",
            VmListing::Absent => "does not list it",
            VmListing::Unknown => "has sent no list",
        })
    }
}

/// List of one host, as far as it concerns the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) struct HostListing {
    /// Address from which the host called back; `None` where there is only one host to ask.
    pub(in crate::client) host: Option<IpAddr>,
    pub(in crate::client) vm: VmListing,
}

impl fmt::Display for HostListing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Some(host) => write!(f, "{host} {}", self.vm),
            None => write!(f, "the host {}", self.vm),
        }
    }
}

/// Finds the VM in the answer to a list request. With `is_ours`, a daemon of ours has sent it: its empty lists are
/// true, while a C daemon with several URIs sends one instead of an error.
pub(super) fn read(answer: &Answer, target: &Target, is_ours: bool) -> VmListing {
    let Answer::HostList(entries) = answer else { return VmListing::Unknown };
    let name = target.as_str();
    let listed = column(name);
    let is_it = |text: &str| text.eq_ignore_ascii_case(name) || text.eq_ignore_ascii_case(&listed);
    let is_target = |entry: &&HostEntry| is_it(&entry.name) || is_it(&entry.uuid);
    match entries.iter().find(is_target) {
        Some(entry) => VmListing::Listed(entry.state),
        None if entries.is_empty() && !is_ours => VmListing::Unknown,
        None => VmListing::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::Verdict;

    #[test]
    fn a_vm_is_found_by_name_and_uuid_as_the_list_shows_them() {
        let entry = |name: &str, uuid: &str, state| HostEntry { name: name.into(), uuid: uuid.into(), state };
        let entries =
            vec![entry("a", "11-22", PowerState::Off), entry("b\\u{20}c", "33", PowerState::Running)];
        let list = Answer::HostList(entries);
        let found = |name: &str| read(&list, &Target::new(name.as_bytes()).unwrap(), false);
        assert_eq!([found("A"), found("11-22")], [VmListing::Listed(PowerState::Off); 2]);
        assert_eq!(found("b c"), VmListing::Listed(PowerState::Running));
        assert_eq!(found("b"), VmListing::Absent);
    }

    #[test]
    fn only_a_daemon_of_ours_proves_something_by_an_empty_list() {
        let target = Target::new(b"a").unwrap();
        let empty = Answer::HostList(Vec::new());
        assert_eq!(read(&empty, &target, true), VmListing::Absent);
        assert_eq!(read(&empty, &target, false), VmListing::Unknown);
        for verdict in [Verdict::Failure, Verdict::Denied] {
            assert_eq!(read(&verdict.into(), &target, true), VmListing::Unknown);
        }
    }
}
