//! Table of options, the source of the command line, stdin, help and metadata.

use super::agent::Agent;
use crate::fence::nearest;

/// Identifier of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Id {
    Debug,
    IpFamily,
    MulticastAddress,
    Ipport,
    Retrans,
    Auth,
    Hash,
    KeyFile,
    Plug,
    Port,
    Domain,
    UseUuid,
    Action,
    Timeout,
    Delay,
    Interface,
    SerialDevice,
    SerialParams,
    ChannelAddress,
    Ipaddr,
    Vsock,
}

/// Value of an option on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// No value.
    No,
    /// A required value, with its placeholder.
    Needed(&'static str),
    /// A value in the same word, with its placeholder and default.
    Optional(&'static str, &'static str),
}

/// Row of the table.
#[derive(Debug)]
pub(super) struct OptionSpec {
    pub(super) id: Id,
    /// Letter on the command line.
    pub(super) short: Option<char>,
    /// Name on stdin; with hyphens, the long form on the command line.
    pub(super) name: &'static str,
    pub(super) value: Value,
    /// Type in the metadata.
    pub(super) kind: &'static str,
    pub(super) default: Option<&'static str>,
    /// Required, optional or deprecated, in the metadata.
    pub(super) requirement: Requirement,
    pub(super) text: &'static str,
}

/// Requirement of an option in the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Requirement {
    Optional,
    /// Required; replaces an older name.
    Required {
        obsoletes: &'static str,
    },
    /// Older name of a required option.
    DeprecatedRequired,
    /// Older name.
    Deprecated,
}

impl OptionSpec {
    const fn new(id: Id, short: Option<char>, name: &'static str, value: Value) -> OptionSpec {
        let requirement = Requirement::Optional;
        OptionSpec { id, short, name, value, kind: "string", default: None, requirement, text: "" }
    }

    const fn text(self, text: &'static str) -> OptionSpec {
        OptionSpec { text, ..self }
    }

    const fn default(self, default: &'static str) -> OptionSpec {
        OptionSpec { default: Some(default), ..self }
    }

    const fn kind(self, kind: &'static str) -> OptionSpec {
        OptionSpec { kind, ..self }
    }

    const fn requirement(self, requirement: Requirement) -> OptionSpec {
        OptionSpec { requirement, ..self }
    }

    /// True if the help shows it.
    pub(super) fn is_current(&self) -> bool {
        matches!(self.requirement, Requirement::Optional | Requirement::Required { .. })
    }
}

use Value::{Needed, No, Optional};

static DEBUG: OptionSpec =
    OptionSpec::new(Id::Debug, Some('d'), "debug", No).text("Print debug messages on stderr").kind("boolean");
static IP_FAMILY: OptionSpec = OptionSpec::new(Id::IpFamily, Some('i'), "ip_family", Needed("family"))
    .text("IP family: auto, ipv4 or ipv6; auto follows the multicast address")
    .default("auto");
static MULTICAST_ADDRESS: OptionSpec =
    OptionSpec::new(Id::MulticastAddress, Some('a'), "multicast_address", Needed("address"))
        .text("Multicast address to send to; 225.0.0.12 or ff05::3:1 if not given");
static IPPORT: OptionSpec = OptionSpec::new(Id::Ipport, Some('p'), "ipport", Needed("port"))
    .text("Port of the daemon; for fence_xvm, also the TCP port for its call-back")
    .default("1229");
static RETRANS: OptionSpec = OptionSpec::new(Id::Retrans, Some('r'), "retrans", Needed("tenths"))
    .text("Retransmit interval of the multicast in tenths of a second")
    .default("20");
static AUTH: OptionSpec = OptionSpec::new(Id::Auth, Some('C'), "auth", Needed("auth"))
    .text("Mutual authentication with the daemon: none, sha1, sha256 or sha512")
    .default("sha256");
static HASH: OptionSpec = OptionSpec::new(Id::Hash, Some('c'), "hash", Needed("hash"))
    .text("Signature of the request: none, sha1, sha256, sha512 or hmac-sha256")
    .default("sha256");
static KEY_FILE: OptionSpec = OptionSpec::new(Id::KeyFile, Some('k'), "key_file", Needed("file"))
    .text("File with the key shared with the daemon")
    .default("/etc/cluster/fence_xvm.key");
static PLUG: OptionSpec = OptionSpec::new(Id::Plug, Some('n'), "plug", Needed("vm"))
    .text("Name or UUID of the VM to fence (-H, port and domain are older names)")
    .requirement(Requirement::Required { obsoletes: "port" });
static PORT: OptionSpec = OptionSpec::new(Id::Port, Some('H'), "port", Needed("vm"))
    .text("Older name of plug")
    .requirement(Requirement::DeprecatedRequired);
static DOMAIN: OptionSpec = OptionSpec::new(Id::Domain, None, "domain", Needed("vm"))
    .text("Older name of plug")
    .requirement(Requirement::Deprecated);
static USE_UUID: OptionSpec = OptionSpec::new(Id::UseUuid, Some('u'), "use_uuid", No)
    .text("Mark the VM's name as a UUID; daemons accept either without it")
    .default("0");
static ACTION: OptionSpec = OptionSpec::new(Id::Action, Some('o'), "action", Needed("action"))
    .text("null, off, on, reboot, status, list, list-status, monitor, validate-all or metadata")
    .default("reboot");
static TIMEOUT: OptionSpec = OptionSpec::new(Id::Timeout, Some('t'), "timeout", Needed("seconds"))
    .text("Timeout of the whole operation in seconds, after the delay")
    .default("30");
static DELAY: OptionSpec = OptionSpec::new(Id::Delay, Some('w'), "delay", Needed("seconds"))
    .text("Delay in seconds before the VM is powered off or on")
    .default("0");
static INTERFACE: OptionSpec = OptionSpec::new(Id::Interface, Some('I'), "interface", Needed("name"))
    .text("Network interface to send the multicast on; all if not given");
static SERIAL_DEVICE: OptionSpec =
    OptionSpec::new(Id::SerialDevice, Some('D'), "serial_device", Needed("device"))
        .text("Serial line to the host; without serial_device, ipaddr and vsock, the vmchannel is used")
        .default("/dev/ttyS1");
static SERIAL_PARAMS: OptionSpec =
    OptionSpec::new(Id::SerialParams, Some('P'), "serial_params", Needed("params"))
        .text("Speed, data bits, parity (N, E, O, M or S) and stop bits of the serial line")
        .default("115200,8N1");
static CHANNEL_ADDRESS: OptionSpec =
    OptionSpec::new(Id::ChannelAddress, Some('A'), "channel_address", Needed("address"))
        .text("Address of the vmchannel to the host")
        .default("10.0.2.179");
static IPADDR: OptionSpec = OptionSpec::new(Id::Ipaddr, Some('T'), "ipaddr", Needed("host"))
    .text(
        "Name or address of the daemon's host, for TCP; without ipaddr, vsock and serial_device, the vmchannel \
         is used",
    )
    .default("127.0.0.1");
static VSOCK: OptionSpec = OptionSpec::new(Id::Vsock, Some('S'), "vsock", Optional("cid", "2"))
    .text("Context ID of the daemon's host, for vsock; 2 is the host that this VM runs on")
    .kind("integer")
    .default("2");

/// Options of fence_xvm in the order of its metadata; those that the C agent lacks are last.
static XVM: [&OptionSpec; 16] = [
    &DEBUG,
    &IP_FAMILY,
    &MULTICAST_ADDRESS,
    &IPPORT,
    &RETRANS,
    &AUTH,
    &HASH,
    &KEY_FILE,
    &PLUG,
    &PORT,
    &USE_UUID,
    &ACTION,
    &TIMEOUT,
    &DELAY,
    &DOMAIN,
    &INTERFACE,
];

/// Options of fence_virt in the order of its metadata.
static VIRT: [&OptionSpec; 16] = [
    &DEBUG,
    &SERIAL_DEVICE,
    &SERIAL_PARAMS,
    &CHANNEL_ADDRESS,
    &IPPORT,
    &PLUG,
    &PORT,
    &ACTION,
    &TIMEOUT,
    &IPADDR,
    &VSOCK,
    &AUTH,
    &HASH,
    &KEY_FILE,
    &DELAY,
    &DOMAIN,
];

impl Agent {
    /// Options of this agent.
    pub(super) fn options(self) -> &'static [&'static OptionSpec] {
        match self {
            Agent::Xvm => &XVM,
            Agent::Virt => &VIRT,
        }
    }

    pub(super) fn by_letter(self, letter: char) -> Option<&'static OptionSpec> {
        self.options().iter().copied().find(|option| option.short == Some(letter))
    }

    /// Finds an option by its name on stdin, in any case, with hyphens or underscores.
    pub(super) fn by_name(self, name: &str) -> Option<&'static OptionSpec> {
        let name = name.to_ascii_lowercase().replace('-', "_");
        self.options().iter().copied().find(|option| option.name == name)
    }

    /// Returns the end of a message about an unknown option: that the other agent has it, or the name, with a
    /// prefix and this character between its words, that is most likely meant.
    pub(super) fn hint(self, name: &str, prefix: &str, between: &str) -> String {
        if self.other().by_name(name).is_some() {
            return self.other_has_it();
        }
        let name = name.replace('-', "_");
        let names = self.options().iter().map(|option| option.name);
        nearest(&name, names)
            .map_or(String::new(), |known| format!("; did you mean {prefix}{}?", known.replace('_', between)))
    }

    /// Returns the end of a message about an option of the other agent.
    pub(super) fn other_has_it(self) -> String {
        format!(": {} has this option", self.other().name())
    }
}
