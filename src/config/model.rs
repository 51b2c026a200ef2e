use std::net::IpAddr;
use std::path::PathBuf;

use crate::auth::HashKind;
use crate::fence::ListenerName;

/// What the daemon is to run, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Stay in the foreground (default: no).
    pub foreground: bool,
    /// Wait for the backend instead of giving up at once (default: no).
    pub wait_for_init: bool,
    /// How much to log; 0, the default, is the least.
    pub debug: u32,
    /// Where `fence_virtd --status` asks (default: /run/fence_virtd/status.sock).
    pub status_socket: PathBuf,
    /// At least one, no name twice, in the order of the file.
    pub listeners: Vec<NamedListener>,
    /// Where the virtual machines are.
    pub backend: BackendConfig,
    /// The static groups in the order of the file. None at all: there is no map.
    pub groups: Vec<GroupConfig>,
}

/// A listener that is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedListener {
    /// What it is called.
    pub name: ListenerName,
    /// How it listens.
    pub config: ListenerConfig,
}

/// One way for requests to come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerConfig {
    /// Requests over TCP.
    Tcp(TcpConfig),
    /// Requests over UDP multicast, answered over TCP.
    Multicast(MulticastConfig),
    /// Requests over AF_VSOCK.
    Vsock(VsockConfig),
    /// Requests over serial ports and channels of the machines.
    Serial(SerialConfig),
}

impl ListenerConfig {
    /// Key and algorithms; lines have none.
    pub fn auth(&self) -> Option<&AuthConfig> {
        match self {
            ListenerConfig::Tcp(config) => Some(&config.auth),
            ListenerConfig::Multicast(config) => Some(&config.auth),
            ListenerConfig::Vsock(config) => Some(&config.auth),
            ListenerConfig::Serial(_) => None,
        }
    }

    /// The name of this kind in a configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            ListenerConfig::Tcp(_) => "tcp",
            ListenerConfig::Multicast(_) => "multicast",
            ListenerConfig::Vsock(_) => "vsock",
            ListenerConfig::Serial(_) => "serial",
        }
    }
}

/// How a listener knows its agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// The shared key (default: /etc/cluster/fence_xvm.key).
    pub key_file: PathBuf,
    /// The key before a change of keys, which is accepted too.
    pub old_key_file: Option<PathBuf>,
    /// The weakest signature of a request to accept (default: sha256).
    pub hash: HashKind,
    /// What challenges and their answers are made with (default: sha256).
    pub auth: HashKind,
}

impl AuthConfig {
    /// Whether anything is signed or challenged, so that there must be a key.
    pub fn needs_key(&self) -> bool {
        self.hash != HashKind::None || self.auth != HashKind::None
    }
}

/// The listener `tcp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConfig {
    /// Key and algorithms.
    pub auth: AuthConfig,
    /// The address to listen on (default: 127.0.0.1 or ::1).
    pub address: IpAddr,
    /// The port to listen on, not 0 (default: 1229).
    pub port: u16,
}

/// The listener `multicast`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MulticastConfig {
    /// Key and algorithms.
    pub auth: AuthConfig,
    /// The multicast address (default: 225.0.0.12 or ff05::3:1).
    pub address: IpAddr,
    /// The port to listen on, not 0 (default: 1229).
    pub port: u16,
    /// The interface to listen on; none leaves it to the kernel.
    pub interface: Option<String>,
}

/// The listener `vsock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VsockConfig {
    /// Key and algorithms.
    pub auth: AuthConfig,
    /// The port to listen on, neither 0 nor `u32::MAX` (default: 1229).
    pub port: u32,
}

/// The listener `serial`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialConfig {
    /// The libvirt that knows the machines; none means those of the backend.
    pub uri: Option<String>,
    /// Only sockets in this directory count; none means all.
    pub path: Option<PathBuf>,
    /// Which kind of sockets to register (default: serial).
    pub mode: SerialMode,
}

/// Which sockets of a machine the serial listener registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SerialMode {
    /// Serial ports.
    Serial,
    /// Channels.
    VmChannel,
}

/// Where the virtual machines are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendConfig {
    /// The hypervisors of this host.
    Libvirt {
        /// What to connect to, at least one, no two alike (default: qemu:///system).
        uris: Vec<String>,
    },
    /// The hypervisors of all hosts of a corosync cluster.
    Cpg(CpgConfig),
}

/// The backend `cpg`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpgConfig {
    /// What to connect to on this host, at least one, no two alike.
    pub uris: Vec<String>,
    /// What machines are called among hosts, and may be asked for by; none
    /// means by name and UUID, and by name where C daemons are asked.
    pub name_mode: Option<NameMode>,
    /// How many seconds after its loss a host is off for sure; none if that is not known.
    pub host_fence_delay: Option<u32>,
    /// What a machine counts as that no host was ever seen to have, that is gone
    /// from where it ran, or that is not seen to run while there is no quorum (default: fail).
    pub unknown_vm: UnknownVm,
}

/// What a machine counts as that no host was ever seen to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownVm {
    /// Nothing is known of it: every operation fails.
    Fail,
    /// As off, as with the C daemon.
    Off,
}

impl BackendConfig {
    /// The name of this kind in a configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            BackendConfig::Libvirt { .. } => "libvirt",
            BackendConfig::Cpg(_) => "cpg",
        }
    }

    /// What to connect to on this host, at least one.
    pub fn uris(&self) -> &[String] {
        match self {
            BackendConfig::Libvirt { uris } | BackendConfig::Cpg(CpgConfig { uris, .. }) => uris,
        }
    }
}

/// What the hosts of a cluster call a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameMode {
    /// By its name.
    Name,
    /// By its UUID.
    Uuid,
}

/// A group of machines that may fence each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupConfig {
    /// For people to read: the key `name`, else the label `group = "x" {`.
    pub name: Option<String>,
    /// UUIDs and names of the members, as written.
    pub uuids: Vec<String>,
    /// IP addresses and CIDs that may ask for them, as written. Without any
    /// only the serial listener's machines may, which are known by UUID.
    pub ips: Vec<String>,
    /// The listeners whose requests it is for; none means all.
    pub listeners: Vec<ListenerName>,
}
