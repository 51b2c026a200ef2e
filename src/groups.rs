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
