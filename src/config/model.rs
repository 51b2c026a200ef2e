use std::net::IpAddr;
use std::path::PathBuf;

use super::agent_config::AgentConfig;
use super::vm_key_config::VmKeysConfig;
use crate::auth::HashKind;
use crate::fence::{Carrier, Endpoint, ListenerName, Rights, SignatureKind};
use crate::restraints::PowerOffCap;

/// Highest value of `max_parallel`.
pub const MAX_PARALLEL: usize = 64;

/// Default of `max_parallel`.
pub const DEFAULT_PARALLEL: usize = 32;

/// Configuration of the daemon, with all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Stay in the foreground (default: no).
    pub foreground: bool,
    /// Wait for the backend instead of failing at once (default: no).
    pub wait_for_init: bool,
    /// Maximum of libvirt calls that may take long, at a time and for each URI: 1 to
    /// [`MAX_PARALLEL`] (default: [`DEFAULT_PARALLEL`]).
    pub max_parallel: usize,
    /// Log verbosity; 0, the default, is the lowest.
    pub debug: u32,
    /// Socket of `fence_virtd --status` (default: /run/fence_virtd/status.sock).
    pub status_socket: PathBuf,
    /// File that keeps the history of power operations over restarts; `None`: memory alone.
    pub history_file: Option<PathBuf>,
    /// Listeners in the order of the file: at least one, without duplicate names.
    pub listeners: Vec<NamedListener>,
    /// Keys that VMs have of their own.
    pub keys: VmKeysConfig,
    /// Backend that controls the VMs.
    pub backend: BackendConfig,
    /// Static groups in the order of the file. Empty: permissions are unrestricted.
    pub groups: Vec<GroupConfig>,
}

/// Listener to run, with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedListener {
    /// Name.
    pub name: ListenerName,
    /// Address and authentication.
    pub config: ListenerConfig,
}

/// Configuration of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerConfig {
    /// Requests over TCP.
    Tcp(TcpConfig),
    /// Requests over UDP multicast, answered over TCP.
    Multicast(MulticastConfig),
    /// Requests over AF_VSOCK.
    Vsock(VsockConfig),
    /// Requests over serial ports and channels of the VMs.
    Serial(SerialConfig),
}

impl ListenerConfig {
    /// Key and algorithms; `None` for serial lines.
    pub fn auth(&self) -> Option<&AuthConfig> {
        match self {
            ListenerConfig::Tcp(config) => Some(&config.auth),
            ListenerConfig::Multicast(config) => Some(&config.auth),
            ListenerConfig::Vsock(config) => Some(&config.auth),
            ListenerConfig::Serial(_) => None,
        }
    }

    /// Endpoint that version 2 of the wire authenticates.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            ListenerConfig::Tcp(config) => Endpoint { carrier: Carrier::Tcp, port: config.port.into() },
            ListenerConfig::Multicast(config) => {
                Endpoint { carrier: Carrier::Multicast, port: config.port.into() }
            }
            ListenerConfig::Vsock(config) => Endpoint { carrier: Carrier::Vsock, port: config.port },
            ListenerConfig::Serial(_) => Endpoint::LINE,
        }
    }

    /// Name of this kind in a configuration file.
    pub fn kind(&self) -> &'static str {
        match self {
            ListenerConfig::Tcp(_) => "tcp",
            ListenerConfig::Multicast(_) => "multicast",
            ListenerConfig::Vsock(_) => "vsock",
            ListenerConfig::Serial(_) => "serial",
        }
    }
}

/// Authentication of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// Shared key (default: /etc/cluster/fence_xvm.key).
    pub key_file: PathBuf,
    /// Previous key, also accepted during a change of keys.
    pub old_key_file: Option<PathBuf>,
    /// Weakest accepted signature of a request (default: sha256).
    pub hash: SignatureKind,
    /// Hash of challenges and responses in version 1 of the wire (default: sha256).
    pub auth: HashKind,
    /// False if only keys of VMs count, `shared = "no"` in the section `keys`: the shared key is not read then.
    pub is_shared: bool,
}

impl AuthConfig {
    /// True if requests are signed or challenged with the shared key.
    pub fn needs_key(&self) -> bool {
        self.is_shared && (self.hash != HashKind::None.into() || self.auth != HashKind::None)
    }
}

/// Listener `tcp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConfig {
    /// Key and algorithms.
    pub auth: AuthConfig,
    /// Address to listen on (default: 127.0.0.1 or ::1).
    pub address: IpAddr,
    /// The port to listen on, not 0 (default: 1229).
    pub port: u16,
}

/// Listener `multicast`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MulticastConfig {
    /// Key and algorithms.
    pub auth: AuthConfig,
    /// Multicast address (default: 225.0.0.12 or ff05::3:1).
    pub address: IpAddr,
    /// The port to listen on, not 0 (default: 1229).
    pub port: u16,
    /// Interface to listen on; with `None` the kernel chooses.
    pub interface: Option<String>,
}

/// Listener `vsock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VsockConfig {
    /// Key and algorithms.
    pub auth: AuthConfig,
    /// Port to listen on, neither 0 nor `u32::MAX` (default: 1229).
    pub port: u32,
}

/// Listener `serial`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialConfig {
    /// libvirt URI of the VMs; `None`: the URIs of the backend.
    pub uri: Option<String>,
    /// Directory of the sockets to use; `None`: all sockets.
    pub path: Option<PathBuf>,
    /// Kind of sockets to use (default: serial).
    pub mode: SerialMode,
}

/// Kind of sockets of a VM that the serial listener uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SerialMode {
    /// Serial ports.
    Serial,
    /// Channels.
    VmChannel,
}

/// Backend that controls the VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendConfig {
    /// Hypervisors of this host.
    Libvirt {
        /// libvirt URIs: at least one, no duplicates (default: qemu:///system).
        uris: Vec<String>,
    },
    /// Hypervisors of all hosts of a corosync cluster.
    Cpg(CpgConfig),
    /// Hypervisors that fence agents of other projects control, and perhaps those of this host.
    Agent {
        /// libvirt URIs, without duplicates; none if `backend` does not name libvirt.
        uris: Vec<String>,
        /// Agents: at least one, no two with one name.
        agents: Vec<AgentConfig>,
    },
}

/// Backend `cpg`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpgConfig {
    /// libvirt URIs of this host: at least one, no duplicates.
    pub uris: Vec<String>,
    /// VM identifier in requests and between hosts; `None`: name or UUID, and the name towards C daemons.
    pub name_mode: Option<NameMode>,
    /// Seconds after which a lost host is certainly off; `None`: unknown.
    pub host_fence_delay: Option<u32>,
    /// Source of knowledge about fences of lost hosts (default: auto).
    pub host_fencing: HostFencing,
    /// Result for a VM that no host has ever advertised, that is gone from its last
    /// host, or that is not known to run while there is no quorum (default: fail).
    pub unknown_vm: UnknownVm,
}

/// Result of a request for a VM that no host has ever advertised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownVm {
    /// Failure of every operation.
    Fail,
    /// Off, as with the C daemon.
    Off,
}

/// Source of knowledge about fences of lost hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostFencing {
    /// Pacemaker's fencer, where pacemaker runs on the hosts.
    Auto,
    /// None.
    None,
}

impl BackendConfig {
    /// Name of this kind in a configuration file.
    pub fn kind(&self) -> &'static str {
        match self {
            BackendConfig::Libvirt { .. } => "libvirt",
            BackendConfig::Cpg(_) => "cpg",
            BackendConfig::Agent { .. } => "agent",
        }
    }

    /// libvirt URIs of this host, at least one.
    pub fn uris(&self) -> &[String] {
        match self {
            BackendConfig::Libvirt { uris }
            | BackendConfig::Cpg(CpgConfig { uris, .. })
            | BackendConfig::Agent { uris, .. } => uris,
        }
    }

    /// Fence agents; none with another backend than `agent`.
    pub fn agents(&self) -> &[AgentConfig] {
        match self {
            BackendConfig::Libvirt { .. } | BackendConfig::Cpg(_) => &[],
            BackendConfig::Agent { agents, .. } => agents,
        }
    }
}

/// Identifier of VMs between the hosts of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameMode {
    /// libvirt name.
    Name,
    /// UUID.
    Uuid,
}

/// Group of VMs that may fence each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupConfig {
    /// Name for messages: the key `name`, otherwise the label `group = "x" {`.
    pub name: Option<String>,
    /// UUIDs and names of the members, as written.
    pub uuids: Vec<String>,
    /// IP addresses and CIDs of permitted requesters, as written. Without any,
    /// only requests over serial lines are permitted: they identify the VM by UUID.
    pub ips: Vec<String>,
    /// Requesters that are no members, as written: IP addresses, networks, CIDs, UUIDs and names of VMs.
    pub sources: Vec<String>,
    /// UUIDs and names of VMs that may be fenced and may not ask, as written.
    pub targets: Vec<String>,
    /// Operations that requesters may ask for (default: all).
    pub rights: Rights,
    /// Listeners to which the group applies; empty: all.
    pub listeners: Vec<ListenerName>,
    /// Cap of the power-offs of its VMs.
    pub max_power_off: Option<PowerOffCap>,
}
