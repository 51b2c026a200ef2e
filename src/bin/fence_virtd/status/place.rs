//! ListeningPlace where a listener listens, by its configuration.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use fence_virt::config::{ListenerConfig, SerialMode};

/// ListeningPlace where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListeningPlace {
    /// IP address and port of a tcp or multicast listener.
    Network {
        address: IpAddr,
        port: u16,
        /// The only interface to listen on, of a multicast listener.
        interface: Option<String>,
    },
    /// Port of a vsock listener.
    Vsock { port: u32 },
    /// Sockets of VMs, in one directory if that is set.
    Sockets { kind: &'static str, directory: Option<PathBuf> },
}

impl From<&ListenerConfig> for ListeningPlace {
    fn from(config: &ListenerConfig) -> ListeningPlace {
        match config {
            ListenerConfig::Tcp(tcp) => {
                ListeningPlace::Network { address: tcp.address, port: tcp.port, interface: None }
            }
            ListenerConfig::Multicast(group) => ListeningPlace::Network {
                address: group.address,
                port: group.port,
                interface: group.interface.clone(),
            },
            ListenerConfig::Vsock(vsock) => ListeningPlace::Vsock { port: vsock.port },
            ListenerConfig::Serial(serial) => ListeningPlace::Sockets {
                kind: match serial.mode {
                    SerialMode::Serial => "serial ports",
                    SerialMode::VmChannel => "channels",
                },
                directory: serial.path.clone(),
            },
        }
    }
}

impl fmt::Display for ListeningPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListeningPlace::Network { address, port, .. } => write!(f, "{address} port {port}"),
            ListeningPlace::Vsock { port } => write!(f, "vsock port {port}"),
            ListeningPlace::Sockets { kind, directory: None } => write!(f, "{kind} of VMs"),
            ListeningPlace::Sockets { kind, directory: Some(path) } => {
                write!(f, "{kind} of VMs in {}", path.display())
            }
        }
    }
}
