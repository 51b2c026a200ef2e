//! Settings of the agent, validated from its options.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::action::AgentAction;
use super::agent::Agent;
use super::options::Id;
use super::raw_options::RawOptions;
use super::serial_params;
use crate::auth::HashKind;
use crate::fence::Target;
use crate::sys::tty::Framing;

const GROUP_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(225, 0, 0, 12));
const GROUP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 3, 1));
const CHANNEL: &str = "10.0.2.179";
const KEY_FILE: &str = "/etc/cluster/fence_xvm.key";

/// Transport to the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Transport {
    Multicast { group: IpAddr, port: u16, interface: Option<String>, retrans: Duration },
    Tcp { host: String, port: u16 },
    Vsock { cid: u32, port: u16 },
    Serial { device: PathBuf, framing: Framing },
    Vmchannel { host: String, port: u16 },
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Multicast { group, port, .. } => write!(f, "multicast to {group} port {port}"),
            Transport::Tcp { host, port } => write!(f, "tcp to {host} port {port}"),
            Transport::Vsock { cid, port } => write!(f, "vsock to CID {cid} port {port}"),
            Transport::Serial { device, framing } => write!(f, "{} at {framing}", device.display()),
            Transport::Vmchannel { host, port } => write!(f, "vmchannel {host} port {port}"),
        }
    }
}

impl Transport {
    /// True if requests are signed and daemons authenticated.
    pub(super) fn has_key(&self) -> bool {
        !matches!(self, Transport::Serial { .. } | Transport::Vmchannel { .. })
    }
}

/// Action, VM, transport and credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) action: AgentAction,
    /// VM; empty if the action needs none.
    pub(super) target: Target,
    pub(super) is_uuid: bool,
    pub(super) transport: Transport,
    pub(super) hash: HashKind,
    pub(super) auth: HashKind,
    pub(super) key_file: PathBuf,
    pub(super) timeout: Duration,
    pub(super) delay: Duration,
}

impl Settings {
    /// Validates the options.
    ///
    /// # Errors
    ///
    /// A message about the first invalid option.
    pub(super) fn new(agent: Agent, options: &RawOptions) -> Result<Settings, String> {
        let action = action(options)?;
        if action == AgentAction::Metadata {
            // Printed regardless of the other options.
            return Settings::with(agent, action, Target::default(), &RawOptions::default());
        }
        let name = options.domain()?.map_or(&b""[..], OsStrExt::as_bytes);
        let target = Target::new(name)
            .map_err(|_| format!("invalid VM name {:?}: longer than 63 bytes or not text", lossy(name)))?;
        if target.as_str().is_empty() && action.names_a_domain() {
            return Err("no VM given: use -n (plug= or port= on stdin)".to_owned());
        }
        Settings::with(agent, action, target, options)
    }

    fn with(
        agent: Agent,
        action: AgentAction,
        target: Target,
        options: &RawOptions,
    ) -> Result<Settings, String> {
        Ok(Settings {
            action,
            target,
            is_uuid: switch(options, Id::UseUuid, "use_uuid")?,
            transport: match agent {
                Agent::Xvm => multicast(options)?,
                Agent::Virt => point_to_point(options)?,
            },
            hash: hash_kind(options, Id::Hash, "hash (-c)")?,
            auth: hash_kind(options, Id::Auth, "auth (-C)")?,
            key_file: match options.last(Id::KeyFile) {
                None => KEY_FILE.into(),
                Some(path) if path.is_empty() => return Err("empty name of the key file (-k)".to_owned()),
                Some(path) => path.into(),
            },
            timeout: Duration::from_secs(number(options, Id::Timeout, "timeout (-t)", 30, 1)?.into()),
            delay: Duration::from_secs(number(options, Id::Delay, "delay (-w)", 0, 0)?.into()),
        })
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn text(options: &RawOptions, id: Id) -> Option<String> {
    options.last(id).map(|value| value.to_string_lossy().into_owned())
}

fn action(options: &RawOptions) -> Result<AgentAction, String> {
    let name = text(options, Id::Action).unwrap_or_else(|| "reboot".to_owned());
    // pacemaker recognises the first two words.
    AgentAction::from_name(&name).ok_or_else(|| format!("Unrecognised action {name:?}: see -h"))
}

fn number(options: &RawOptions, id: Id, name: &str, default: u32, least: u32) -> Result<u32, String> {
    let Some(text) = text(options, id) else { return Ok(default) };
    let number = text.parse().ok().filter(|number| *number >= least && *number <= i32::MAX as u32);
    number.ok_or_else(|| format!("invalid {name} {text:?}: expected a number of at least {least}"))
}

fn port(options: &RawOptions) -> Result<u16, String> {
    let Some(text) = text(options, Id::Ipport) else { return Ok(1229) };
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("invalid port (-p) {text:?}: expected 1 to 65535"))
}

fn switch(options: &RawOptions, id: Id, name: &str) -> Result<bool, String> {
    let Some(text) = text(options, id) else { return Ok(false) };
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" | "" => Ok(false),
        _ => Err(format!("invalid {name} {text:?}: expected 1 or 0")),
    }
}

/// True if debug messages are enabled: by any value but a no.
pub(super) fn is_debug(options: &RawOptions) -> bool {
    switch(options, Id::Debug, "debug").unwrap_or(true)
}

fn hash_kind(options: &RawOptions, id: Id, name: &str) -> Result<HashKind, String> {
    let Some(text) = text(options, id) else { return Ok(HashKind::Sha256) };
    HashKind::from_name(&text)
        .ok_or_else(|| format!("invalid {name} {text:?}: expected none, sha1, sha256 or sha512"))
}

fn multicast(options: &RawOptions) -> Result<Transport, String> {
    let family = text(options, Id::IpFamily).unwrap_or_else(|| "auto".to_owned());
    let wants_ipv4 = match family.to_ascii_lowercase().as_str() {
        "auto" => None,
        "ipv4" => Some(true),
        "ipv6" => Some(false),
        _ => return Err(format!("invalid family (-i) {family:?}: expected auto, ipv4 or ipv6")),
    };
    let group = match text(options, Id::MulticastAddress) {
        None if wants_ipv4 == Some(false) => GROUP_V6,
        None => GROUP_V4,
        Some(text) => match text.parse::<IpAddr>() {
            Ok(address) if address.is_multicast() => address,
            _ => return Err(format!("{text:?} (-a) is not a multicast address")),
        },
    };
    if wants_ipv4.is_some_and(|ipv4| ipv4 != group.is_ipv4()) {
        return Err(format!("the multicast address {group} (-a) is not of family {family} (-i)"));
    }
    let interface = text(options, Id::Interface);
    if interface.as_deref() == Some("") {
        return Err("empty name of the interface (-I)".to_owned());
    }
    let tenths = number(options, Id::Retrans, "retransmit time (-r)", 20, 1)?;
    let retrans = Duration::from_millis(100) * tenths;
    Ok(Transport::Multicast { group, port: port(options)?, interface, retrans })
}

/// Selects the transport as the C agent does: vsock before tcp before serial,
/// and the vmchannel if none of them is given.
fn point_to_point(options: &RawOptions) -> Result<Transport, String> {
    let port = port(options)?;
    let host = |id, name: &str| match text(options, id) {
        Some(host) if host.trim().is_empty() => Err(format!("the {name} is empty")),
        host => Ok(host),
    };
    if let Some(cid) = text(options, Id::Vsock) {
        // -1 means any CID; 0 is the hypervisor, which accepts no connections.
        let number = cid.parse::<u32>().ok().filter(|cid| !matches!(cid, 0 | &u32::MAX));
        let cid = number.ok_or_else(|| format!("invalid CID (-S) {cid:?}: expected 1 to 4294967294"))?;
        return Ok(Transport::Vsock { cid, port });
    }
    if let Some(host) = host(Id::Ipaddr, "address (-T)")? {
        return Ok(Transport::Tcp { host, port });
    }
    if let Some(device) = options.last(Id::SerialDevice) {
        if device.is_empty() {
            return Err("empty name of the serial device (-D)".to_owned());
        }
        let params = text(options, Id::SerialParams).unwrap_or_else(|| "115200,8N1".to_owned());
        return Ok(Transport::Serial { device: device.into(), framing: serial_params::parse(&params)? });
    }
    let host = host(Id::ChannelAddress, "vmchannel address (-A)")?;
    Ok(Transport::Vmchannel { host: host.unwrap_or_else(|| CHANNEL.to_owned()), port })
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
