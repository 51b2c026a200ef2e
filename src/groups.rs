//! Static permission groups: requesters and the VMs that they may fence.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::fence::{ListenerName, Source};

/// Group of requesters and targets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    addresses: Vec<IpAddr>,
    cids: Vec<u32>,
    /// Names and UUIDs of the VMs, in lower case.
    domains: Vec<String>,
    /// Names and UUIDs as in the configuration.
    written: Vec<String>,
    /// Listeners that it applies to; empty means all.
    listeners: Vec<ListenerName>,
}

impl Group {
    /// Makes a group of the `ip` and `uuid` lines of a configuration. An `ip` line is an address, or a
    /// plain number, the CID of a vsock peer; any other admits nobody.
    pub fn new(ips: &[String], uuids: &[String]) -> Group {
        Group {
            addresses: ips.iter().filter_map(|text| parse_address(text)).collect(),
            cids: ips.iter().filter_map(|text| text.trim().parse().ok()).collect(),
            domains: uuids.iter().map(|text| text.to_lowercase()).collect(),
            written: uuids.to_vec(),
            listeners: Vec::new(),
        }
    }

    /// Restricts the group to these listeners; empty means all.
    pub fn only(self, listeners: Vec<ListenerName>) -> Group {
        Group { listeners, ..self }
    }

    fn serves(&self, listener: &ListenerName) -> bool {
        self.listeners.is_empty() || self.listeners.contains(listener)
    }

    fn admits(&self, source: &Source) -> bool {
        match source {
            Source::Ip(address) => self.addresses.contains(&address.to_canonical()),
            Source::Cid(cid) => self.cids.contains(cid),
            Source::Domain(domain) => self.lists(&[domain.uuid.to_string()]),
        }
    }

    /// Returns true if one of `names`, in lower case, is in the group.
    fn lists(&self, names: &[String]) -> bool {
        self.domains.iter().any(|domain| names.contains(domain))
    }
}

/// Parses an address without its scope (`%eth0`); an IPv4-mapped one becomes IPv4.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.split('%').next().unwrap_or(text);
    bare.trim().parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Groups of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups(Vec<Group>);

impl Groups {
    /// Makes a set of groups; an empty one permits everything.
    pub fn new(groups: Vec<Group>) -> Groups {
        Groups(groups)
    }

    /// Returns true if a group of this listener has `source` as a requester and lists the target by one of
    /// its `names` (name, UUID; case does not matter). A VM is a requester in the groups that list its UUID.
    pub fn permit(&self, listener: &ListenerName, source: &Source, names: &[&str]) -> bool {
        self.0.is_empty() || self.any(listener, names, |group| group.admits(source))
    }

    /// Returns true if a group permits the request by the requesting VM's name, which is compared
    /// exactly. The caller must have checked that no other VM has the name.
    pub fn permit_name(&self, listener: &ListenerName, requester: &str, names: &[&str]) -> bool {
        self.any(listener, names, |group| group.written.iter().any(|written| written == requester))
    }

    /// Returns true if a group of this listener lists exactly this name.
    pub fn mention(&self, listener: &ListenerName, name: &str) -> bool {
        let lists = |group: &Group| group.written.iter().any(|written| written == name);
        self.0.iter().any(|group| group.serves(listener) && lists(group))
    }

    fn any(&self, listener: &ListenerName, names: &[&str], admits: impl Fn(&Group) -> bool) -> bool {
        let names: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
        self.0.iter().any(|group| group.serves(listener) && admits(group) && group.lists(&names))
    }

    /// True if there are no groups, so that no requester has to be identified.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::{Domain, Uuid};
    use std::sync::Arc;

    fn tcp() -> ListenerName {
        ListenerName::new("tcp", None)
    }

    fn source(text: &str) -> Source {
        Source::ip(text.parse().unwrap())
    }

    fn group(ips: &[&str], uuids: &[&str]) -> Group {
        let owned = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        Group::new(&owned(ips), &owned(uuids))
    }

    #[test]
    fn without_groups_everything_is_permitted() {
        assert!(Groups::default().permit(&tcp(), &source("192.0.2.1"), &["any"]));
    }

    #[test]
    fn requester_and_target_must_be_in_the_same_group() {
        let groups = Groups::new(vec![
            group(&["192.0.2.1", "192.0.2.2"], &["node1", "44179D3F-6c63-474f-a212-20c8b4b25b16"]),
            group(&["192.0.2.3"], &["node3"]),
        ]);
        assert!(groups.permit(&tcp(), &source("192.0.2.1"), &["NODE1", "x"]));
        assert!(groups.permit(&tcp(), &source("192.0.2.2"), &["n", "44179d3f-6c63-474f-a212-20c8b4b25b16"]));
        assert!(!groups.permit(&tcp(), &source("192.0.2.1"), &["node3"]));
        assert!(!groups.permit(&tcp(), &source("192.0.2.3"), &["node1"]));
        assert!(!groups.permit(&tcp(), &source("192.0.2.9"), &["node1"]));
    }

    #[test]
    fn addresses_are_compared_as_addresses() {
        let groups = Groups::new(vec![group(&["2001:DB8:0::1", "fe80::1%eth0", "::ffff:192.0.2.1"], &["a"])]);
        for same in ["2001:db8::1", "fe80::1", "192.0.2.1", "::ffff:192.0.2.1"] {
            assert!(groups.permit(&tcp(), &source(same), &["a"]), "{same}");
        }
        assert!(!groups.permit(&tcp(), &source("2001:db8::2"), &["a"]));
    }

    #[test]
    fn a_number_is_a_cid_and_not_an_address() {
        let groups = Groups::new(vec![group(&["3", "192.0.2.4"], &["a"])]);
        assert!(groups.permit(&tcp(), &Source::Cid(3), &["a"]));
        assert!(!groups.permit(&tcp(), &Source::Cid(4), &["a"]));
        assert!(!groups.permit(&tcp(), &source("0.0.0.3"), &["a"]));
        assert!(!Groups::new(vec![group(&[], &["a"])]).permit(&tcp(), &Source::Cid(3), &["a"]));
    }

    #[test]
    fn a_vm_is_a_requester_in_the_groups_that_list_it() {
        let uuid = "44179d3f-6c63-474f-a212-20c8b4b25b16";
        let requester = |name: &str| {
            Source::Domain(Arc::new(Domain { name: name.to_owned(), uuid: Uuid::parse(uuid).unwrap() }))
        };
        let by_uuid = Groups::new(vec![group(&[], &[&uuid.to_uppercase(), "node2"]), group(&[], &["node3"])]);
        assert!(by_uuid.permit(&tcp(), &requester("x"), &["Node2"]));
        assert!(by_uuid.permit(&tcp(), &requester("x"), &[uuid]), "itself");
        assert!(!by_uuid.permit(&tcp(), &requester("x"), &["node3"]));
        let by_name = Groups::new(vec![group(&[], &["node1", "node2"]), group(&[], &["node3"])]);
        assert!(!by_name.permit(&tcp(), &requester("node1"), &["node2"]), "a name has to be looked up first");
        assert!(by_name.permit_name(&tcp(), "node1", &["NODE2"]) && by_name.mention(&tcp(), "node1"));
        assert!(!by_name.permit_name(&tcp(), "node1", &["node3"]));
        assert!(!by_name.permit_name(&tcp(), "NODE1", &["node2"]) && !by_name.mention(&tcp(), "NODE1"));
    }

    #[test]
    fn a_group_of_a_listener_applies_to_its_requests_only() {
        let b = ListenerName::new("tcp", Some("b"));
        let vsock = ListenerName::new("vsock", None);
        let groups = Groups::new(vec![
            group(&["192.0.2.1"], &["node1"]).only(vec![tcp(), vsock.clone()]),
            group(&["192.0.2.1"], &["node2"]).only(vec![b.clone()]),
            group(&["192.0.2.1"], &["node3"]),
        ]);
        let permitted = |listener: &ListenerName| {
            ["node1", "node2", "node3"].map(|name| groups.permit(listener, &source("192.0.2.1"), &[name]))
        };
        assert_eq!(permitted(&tcp()), [true, false, true]);
        assert_eq!(permitted(&vsock), [true, false, true]);
        assert_eq!(permitted(&b), [false, true, true]);
        assert!(groups.mention(&tcp(), "node1") && !groups.mention(&b, "node1"));
        assert!(groups.permit_name(&tcp(), "node1", &["node1"]));
        assert!(!groups.permit_name(&b, "node1", &["node1"]));
    }
}
