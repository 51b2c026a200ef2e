//! Static permission groups: requesters and the VMs that they may fence.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;

use crate::fence::{KeyHolder, ListenerName, Operation, Rights, Source, Uuid};

/// Requesters that an `ip` or `source` line of a group names, other than a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requesters {
    /// All addresses of a network; a single address is a network of its own.
    Network(IpNetwork),
    /// The vsock peer with this CID.
    Cid(u32),
}

/// Reason why an `ip` line names no requester.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestersError {
    /// A word, such as the name or UUID of a VM, or a host name.
    Word,
    /// Neither an address nor a word.
    Address,
    /// A number of more than 32 bits.
    Cid,
    /// The prefix length is no decimal number from 0 to this one.
    PrefixLength(u8),
    /// The address has bits set behind the prefix of its network.
    HostBits {
        /// Address as written, without its scope.
        address: IpAddr,
        /// Network that the address is in.
        network: IpNetwork,
    },
}

impl Requesters {
    /// Parses an `ip` line: an address, a network with its prefix length (`192.0.2.0/24`), or a decimal
    /// number, which is a CID. A scope (`fe80::1%eth0`) is dropped. IPv6 that maps IPv4 becomes IPv4.
    ///
    /// # Errors
    ///
    /// The text is none of these.
    pub fn parse(text: &str) -> Result<Requesters, RequestersError> {
        let text = text.trim();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Requesters::Cid).map_err(|_| RequestersError::Cid);
        }
        let (address, length) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let Some(address) = parse_address(address) else {
            let is_word = Uuid::parse(text).is_some()
                || (text.contains(char::is_alphabetic) && !text.contains([':', '/', '%']));
            return Err(if is_word { RequestersError::Word } else { RequestersError::Address });
        };
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(longest), |text| prefix_length(text, longest))?;
        let network = IpNetwork::around(address, length);
        if network.address != canonical(address, length).0 {
            return Err(RequestersError::HostBits { address, network });
        }
        Ok(Requesters::Network(network))
    }

    /// Parses a `source` line: as [`Requesters::parse`]; none if it is the name or UUID of a VM.
    ///
    /// # Errors
    ///
    /// The text is neither, or a name that looks like an address.
    pub fn parse_source(text: &str) -> Result<Option<Requesters>, RequestersError> {
        if reads_as_uuid(text) {
            return Ok(None);
        }
        match Requesters::parse(text) {
            Err(RequestersError::Word) => Ok(None),
            parsed => parsed.map(Some),
        }
    }
}

/// Parses an address and drops its scope, which IPv6 alone has.
fn parse_address(text: &str) -> Option<IpAddr> {
    let (bare, scope) = text.split_once('%').map_or((text, None), |(bare, scope)| (bare, Some(scope)));
    let address: IpAddr = bare.parse().ok()?;
    let is_sound = scope.is_none_or(|scope| address.is_ipv6() && !scope.is_empty());
    is_sound.then_some(address)
}

fn prefix_length(text: &str, longest: u8) -> Result<u8, RequestersError> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let length = text.parse().ok().filter(|length| is_plain && *length <= longest);
    length.ok_or(RequestersError::PrefixLength(longest))
}

/// IP network. IPv6 networks that map IPv4 are IPv4 networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpNetwork {
    /// Lowest address.
    address: IpAddr,
    /// Number of leading bits that all its addresses share.
    prefix_length: u8,
}

impl IpNetwork {
    /// Returns the network of this prefix length that has the address.
    fn around(address: IpAddr, prefix_length: u8) -> IpNetwork {
        let (address, prefix_length) = canonical(address, prefix_length);
        IpNetwork { address: lowest(address, prefix_length), prefix_length }
    }

    /// Returns true if it has this address. IPv4 networks have IPv6 addresses that map IPv4; IPv6 networks
    /// do not.
    pub fn contains(&self, address: IpAddr) -> bool {
        lowest(address.to_canonical(), self.prefix_length) == self.address
    }

    /// True if it has all addresses of its family.
    pub fn is_whole_family(&self) -> bool {
        self.prefix_length == 0
    }

    /// True if its addresses are IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

/// Turns a network of `::ffff:0:0/96` into IPv4.
fn canonical(address: IpAddr, prefix_length: u8) -> (IpAddr, u8) {
    match (address.to_canonical(), prefix_length.checked_sub(96)) {
        (mapped, Some(length)) if mapped != address => (mapped, length),
        _ => (address, prefix_length),
    }
}

/// Clears all bits behind the prefix.
fn lowest(address: IpAddr, prefix_length: u8) -> IpAddr {
    let length = u32::from(prefix_length);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(u32::BITS.saturating_sub(length)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(u128::BITS.saturating_sub(length)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// Group of requesters and targets, with the operations that it allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    requesters: Vec<Requesters>,
    /// Names and UUIDs of the VMs that may ask, in lower case.
    asking: Vec<String>,
    /// Names and UUIDs of the VMs that may ask, as in the configuration.
    written: Vec<String>,
    /// Names and UUIDs of the VMs that may be asked for, in lower case.
    targets: Vec<String>,
    rights: Rights,
    /// Listeners that it applies to; empty means all.
    listeners: Vec<ListenerName>,
    /// Name for messages.
    label: String,
}

impl Group {
    /// Makes a group of the `ip` and `uuid` lines of a configuration. An `ip` line that
    /// [`Requesters::parse`] does not accept admits nobody. A VM of a `uuid` line may ask and be asked for.
    pub fn new(ips: &[String], uuids: &[String]) -> Group {
        let requesters = ips.iter().filter_map(|text| Requesters::parse(text).ok()).collect();
        Group { requesters, ..Group::default() }.with_asking(uuids.iter()).with_targets(uuids)
    }

    /// Adds the `source` lines: who may ask, without being asked for. A line that
    /// [`Requesters::parse_source`] does not accept admits nobody.
    pub fn with_sources(mut self, sources: &[String]) -> Group {
        let parsed = || sources.iter().map(|text| (text, Requesters::parse_source(text)));
        self.requesters.extend(parsed().filter_map(|(_, parsed)| parsed.ok().flatten()));
        self.with_asking(parsed().filter(|(_, parsed)| *parsed == Ok(None)).map(|(text, _)| text))
    }

    /// Adds the `target` lines: VMs that may be asked for, and may not ask.
    pub fn with_targets(mut self, targets: &[String]) -> Group {
        self.targets.extend(targets.iter().map(|text| listed_text(text)));
        self
    }

    fn with_asking<'a>(mut self, vms: impl Iterator<Item = &'a String>) -> Group {
        for text in vms {
            self.asking.push(listed_text(text));
            self.written.push(text.clone());
        }
        self
    }

    /// Restricts the group to these operations.
    pub fn allowing(self, rights: Rights) -> Group {
        Group { rights, ..self }
    }

    /// Restricts the group to these listeners; empty means all.
    pub fn only(self, listeners: Vec<ListenerName>) -> Group {
        Group { listeners, ..self }
    }

    /// Sets the name of the group in messages.
    pub fn labelled(self, label: String) -> Group {
        Group { label, ..self }
    }

    /// Name of the group in messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Operations that it allows.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Returns true if the group applies to this listener.
    pub fn serves(&self, listener: &ListenerName) -> bool {
        self.listeners.is_empty() || self.listeners.contains(listener)
    }

    fn admits(&self, source: &Source) -> bool {
        let admits = |requesters: &Requesters| match (requesters, source) {
            (Requesters::Network(network), Source::Ip(address)) => network.contains(*address),
            (Requesters::Cid(admitted), Source::Cid(cid)) => admitted == cid,
            _ => false,
        };
        match source {
            Source::Domain(domain) => self.may_ask(domain.uuid),
            Source::Key(keyed) => self.admits_holder(&keyed.holder),
            Source::Ip(_) | Source::Cid(_) => self.requesters.iter().any(admits),
        }
    }

    /// Returns true if the VM that has a key of its own may ask: the group lists it by its UUID, or exactly by its
    /// name. The configuration states both, so nobody else can take them. Addresses mean nothing.
    fn admits_holder(&self, holder: &KeyHolder) -> bool {
        holder.uuid.is_some_and(|uuid| self.may_ask(uuid)) || self.names(&holder.name)
    }

    /// Returns true if the VM of this UUID may ask.
    fn may_ask(&self, uuid: Uuid) -> bool {
        self.asking.contains(&uuid.to_string())
    }

    /// Returns true if the group has the requester with one of these identities, or with this name, which is
    /// that of the requesting VM and compared exactly.
    pub fn has_requester(&self, sources: &[Source], name: Option<&str>) -> bool {
        sources.iter().any(|source| self.admits(source)) || name.is_some_and(|name| self.names(name))
    }

    /// Returns true if the group has a VM as a target by one of these names (name, UUID; case does not matter).
    pub fn has_vm(&self, names: &[&str]) -> bool {
        self.has_target(&names.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>())
    }

    /// Returns true if the group lists exactly this name, which is not a UUID, as that of a VM that may ask.
    fn names(&self, name: &str) -> bool {
        !reads_as_uuid(name) && self.written.iter().any(|written| written == name)
    }

    /// Returns true if one of `names`, in lower case, is that of a target.
    fn has_target(&self, names: &[String]) -> bool {
        self.targets.iter().any(|target| names.contains(target))
    }
}

/// Returns the texts by which groups list a VM: its UUID, and its name, unless that reads as a UUID. In a
/// group that stands for the VM that has it, or whoever may name VMs could widen the group.
pub fn listed_names<'a>(name: &'a str, uuid: &'a str) -> Vec<&'a str> {
    let name = Some(name).filter(|name| !reads_as_uuid(name));
    name.into_iter().chain([uuid]).collect()
}

/// Returns a name or UUID as groups compare it: without regard to case and to the hyphens of a UUID.
pub fn listed_text(text: &str) -> String {
    Uuid::parse(text).map_or_else(|| text.to_lowercase(), |uuid| uuid.to_string())
}

fn reads_as_uuid(name: &str) -> bool {
    Uuid::parse(name).is_some()
}

/// Names and UUIDs by which the groups permit a requester a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermittedNames {
    /// There are no groups.
    All,
    /// Names and UUIDs; case does not matter.
    These(Vec<String>),
}

impl PermittedNames {
    /// Returns true if a copy of a VM is permitted: by its UUID, or by the name that it has at its place.
    pub fn permit(&self, name: &str, uuid: &str) -> bool {
        let PermittedNames::These(permitted) = self else { return true };
        let [name, uuid] = [name, uuid].map(listed_text);
        permitted.iter().map(|text| listed_text(text)).any(|text| text == name || text == uuid)
    }
}

/// Groups of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups(Vec<Group>);

impl Groups {
    /// Makes a set of groups; an empty one permits everything.
    pub fn new(groups: Vec<Group>) -> Groups {
        Groups(groups)
    }

    /// Returns true if a group of this listener allows the operation, has `source` as a requester and lists
    /// the target by one of its `names` (name, UUID; case does not matter). A VM is a requester in the groups
    /// that list its UUID.
    pub fn permit(
        &self,
        listener: &ListenerName,
        source: &Source,
        operation: Operation,
        names: &[&str],
    ) -> bool {
        self.0.is_empty() || self.any((listener, operation), names, |group| group.admits(source))
    }

    /// Returns true if a group permits the operation by the requesting VM's name, which is compared
    /// exactly; one that reads as a UUID permits nothing. The caller must have checked that no other VM has the name.
    pub fn permit_name(
        &self,
        listener: &ListenerName,
        requester: &str,
        operation: Operation,
        names: &[&str],
    ) -> bool {
        self.any((listener, operation), names, |group| group.names(requester))
    }

    /// Returns true if a group of this listener lists exactly this name, which is not a UUID, as that of a VM
    /// that may ask.
    pub fn mention(&self, listener: &ListenerName, name: &str) -> bool {
        self.0.iter().any(|group| group.serves(listener) && group.names(name))
    }

    fn any(
        &self,
        (listener, operation): (&ListenerName, Operation),
        names: &[&str],
        admits: impl Fn(&Group) -> bool,
    ) -> bool {
        let names: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
        let applies = |group: &&Group| group.serves(listener) && group.rights.allow(operation);
        self.0.iter().filter(applies).any(|group| admits(group) && group.has_target(&names))
    }

    /// Returns the groups, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.0.iter()
    }

    /// True if there are no groups, so that no requester has to be identified.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
