//! Settings of the agent, validated from its options.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::action::{ACTIONS, AgentAction};
use super::agent::Agent;
use super::options::Id;
use super::raw_options::RawOptions;
use super::serial_params;
use crate::auth::HashKind;
use crate::fence::{Carrier, Endpoint, NameError, SignatureKind, Target, did_you_mean};
use crate::sys::tty::Framing;

const GROUP_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(225, 0, 0, 12));
const GROUP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 3, 1));
const CHANNEL: &str = "10.0.2.179";
const KEY_FILE: &str = "/etc/cluster/fence_xvm.key";

/// Number of characters of an invalid name that a message shows.
const NAME_SHOWN: usize = 80;

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
    /// Listener that requests are for.
    pub(super) fn endpoint(&self) -> Endpoint {
        match self {
            Transport::Multicast { port, .. } => {
                Endpoint { carrier: Carrier::Multicast, port: (*port).into() }
            }
            Transport::Tcp { port, .. } => Endpoint { carrier: Carrier::Tcp, port: (*port).into() },
            Transport::Vsock { port, .. } => Endpoint { carrier: Carrier::Vsock, port: (*port).into() },
            Transport::Serial { .. } | Transport::Vmchannel { .. } => Endpoint::LINE,
        }
    }

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
    pub(super) hash: SignatureKind,
    pub(super) auth: HashKind,
    pub(super) key_file: PathBuf,
    pub(super) timeout: Duration,
    pub(super) delay: Duration,
}

impl Settings {
    /// Validates the options.
    /// Errors: a message about the first invalid option.
    pub(super) fn new(agent: Agent, options: &RawOptions) -> Result<Settings, String> {
        let action = action(options)?;
        if action == AgentAction::Metadata {
            // Printed regardless of the other options.
            return Settings::with(agent, action, Target::default(), &RawOptions::default());
        }
        let name = options.domain()?.map_or(&b""[..], OsStrExt::as_bytes);
        let target = Target::new(name).map_err(|error| bad_name(name, error))?;
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
            hash: hash(options)?,
            auth: auth(options)?,
            key_file: key_file(options)?,
            timeout: timeout(options)?,
            delay: Duration::from_secs(number(options, Id::Delay, "delay (-w)", 0, 0)?.into()),
        })
    }
}

fn bad_name(name: &[u8], error: NameError) -> String {
    let shown: String = String::from_utf8_lossy(name).chars().take(NAME_SHOWN).collect();
    let reason = match error {
        NameError::TooLong => {
            "longer than 63 bytes, the most that a request carries; use the VM's UUID, which virsh domuuid on the host \
             prints"
        }
        NameError::NotText => "not printable UTF-8 text",
    };
    format!("invalid VM name {shown:?}: {reason}")
}

fn text(options: &RawOptions, id: Id) -> Option<String> {
    options.last(id).map(|value| value.to_string_lossy().into_owned())
}

fn action(options: &RawOptions) -> Result<AgentAction, String> {
    let name = text(options, Id::Action).unwrap_or_else(|| "reboot".to_owned());
    AgentAction::from_name(&name).ok_or_else(|| {
        let names = || ACTIONS.iter().map(|(name, _)| *name);
        let hint = match did_you_mean(&name, names()) {
            hint if hint.is_empty() => format!(": must be one of {}", names().collect::<Vec<_>>().join(", ")),
            hint => hint,
        };
        // pacemaker recognises the first two words.
        format!("Unrecognised action {name:?}{hint}")
    })
}

fn number(options: &RawOptions, id: Id, name: &str, default: u32, least: u32) -> Result<u32, String> {
    let Some(text) = text(options, id) else { return Ok(default) };
    let number = text.parse().ok().filter(|number| *number >= least && *number <= i32::MAX as u32);
    number.ok_or_else(|| format!("invalid {name} {text:?}: must be a number of {least} or more"))
}

fn port(options: &RawOptions) -> Result<u16, String> {
    let Some(text) = text(options, Id::Ipport) else { return Ok(1229) };
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("invalid port (-p) {text:?}: must be 1 to 65535"))
}

fn switch(options: &RawOptions, id: Id, name: &str) -> Result<bool, String> {
    let Some(text) = text(options, id) else { return Ok(false) };
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" | "" => Ok(false),
        _ => Err(format!("invalid {name} {text:?}: must be 1 or 0")),
    }
}

/// True if debug messages are enabled: by any value but a no.
pub(super) fn is_debug(options: &RawOptions) -> bool {
    switch(options, Id::Debug, "debug").unwrap_or(true)
}

pub(super) fn key_file(options: &RawOptions) -> Result<PathBuf, String> {
    match options.last(Id::KeyFile) {
        None => Ok(KEY_FILE.into()),
        Some(path) if path.is_empty() => Err("empty name of the key file (-k)".to_owned()),
        Some(path) => Ok(path.into()),
    }
}

pub(super) fn timeout(options: &RawOptions) -> Result<Duration, String> {
    Ok(Duration::from_secs(number(options, Id::Timeout, "timeout (-t)", 30, 1)?.into()))
}

fn hash(options: &RawOptions) -> Result<SignatureKind, String> {
    let Some(text) = text(options, Id::Hash) else { return Ok(HashKind::Sha256.into()) };
    let names = SignatureKind::ALL.map(SignatureKind::name);
    SignatureKind::from_name(&text).ok_or_else(|| no_such_hash("hash (-c)", &text, &names))
}

fn auth(options: &RawOptions) -> Result<HashKind, String> {
    let Some(text) = text(options, Id::Auth) else { return Ok(HashKind::Sha256) };
    let names = HashKind::ALL.map(HashKind::name);
    HashKind::from_name(&text).ok_or_else(|| no_such_hash("auth (-C)", &text, &names))
}

fn no_such_hash(option: &str, text: &str, names: &[&'static str]) -> String {
    let hint = did_you_mean(text, names.iter().copied());
    format!("invalid {option} {text:?}: must be one of {}{hint}", names.join(", "))
}

fn multicast(options: &RawOptions) -> Result<Transport, String> {
    let family = text(options, Id::IpFamily).unwrap_or_else(|| "auto".to_owned());
    let wants_ipv4 = match family.to_ascii_lowercase().as_str() {
        "auto" => None,
        "ipv4" => Some(true),
        "ipv6" => Some(false),
        _ => return Err(format!("invalid family (-i) {family:?}: must be one of auto, ipv4, ipv6")),
    };
    let group = match text(options, Id::MulticastAddress) {
        None if wants_ipv4 == Some(false) => GROUP_V6,
        None => GROUP_V4,
        Some(text) => match text.parse::<IpAddr>() {
            Ok(address) if address.is_multicast() => address,
            _ => {
                return Err(format!(
                    "{text:?} (-a) is not a multicast address (224.0.0.0 to 239.255.255.255, or ff00::/8)"
                ));
            }
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
        let cid = number.ok_or_else(|| format!("invalid CID (-S) {cid:?}: must be 1 to 4294967294"))?;
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
