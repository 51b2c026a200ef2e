//! Texts of the questions. The questions themselves follow from the table of keys.

use fence_virt::config::{
    BackendConfig, Config, HostFencing, KeySpec, ListenerConfig, NameMode, SerialMode, UnknownVm, ValueKind,
};

/// Help on listeners.
pub(super) const LISTENER_HELP: &str = "\
Listeners receive the requests of guests:
  multicast  from fence_xvm, to a multicast address; guests and host share a network
  tcp        from fence_virt -T, to an address of this host
  vsock      from fence_virt -S, over virtual machine sockets, without a network
  serial     over serial ports or channels of the guests, without network and key
Enter one or more, such as \"multicast, tcp\". A second listener of a kind has a label, a key and a port
of its own: \"tcp, tcp:cluster-b\".";

/// Help on backends.
pub(super) const BACKEND_HELP: &str = "\
The backend manages the virtual machines:
  libvirt  those of this host
  cpg      those of all hosts of a corosync cluster, each of which runs fence_virtd";

/// Help on agents of the C suite.
pub(super) const C_AGENTS_HELP: &str = "\
Agents of the C suite speak the old form of the protocol alone. If all agents are of this suite, answer no: then
`hash = \"hmac-sha256\"` is proposed, with which answers are authenticated too. The agents then need the same:
`-c hmac-sha256`, or `hash=hmac-sha256` on their standard input.";

const KEY_FILE: &str = "\
The absolute path of the key that hosts and guests share, 4096 random bytes, the same on all of them.";
const OLD_KEY_FILE: &str = "\
The previous key, still accepted while keys are being replaced. Reset it once every guest has the new one.";
const TCP_ADDRESS: &str = "\
The numeric address of this host to listen on. Guests must be able to reach it, so it is usually that of
a bridge; 0.0.0.0 and :: mean all addresses.";
const INTERFACE: &str = "\
The interface to listen on, usually the bridge of the guests, such as virbr0. Without it, every interface
that is up and supports multicast, except ports of bridges.";
const SERIAL_PATH: &str = "\
The absolute path of a directory: only sockets directly in it are used. Without it, every serial port (or
channel) of type unix, mode bind, is taken for a fence line, even if it is someone's console.";
const SERIAL_MODE: &str = "The kind of sockets to use: those of serial ports, or of channels (vmchannel).";
const LIBVIRT_URI: &str = "\
The libvirt URI to connect to on this host, see https://libvirt.org/uri.html. There may be several. While
one does not answer, guests that are not seen running on another cannot be fenced.";
const CPG_URI: &str = "\
The libvirt URI to connect to on this host, see https://libvirt.org/uri.html. There may be several.
Without any, those of the libvirt section are used.";
const CPG_NAME_MODE: &str = "\
How requests name guests: name or uuid. C daemons among the hosts know guests by name unless this is
uuid, which is better if names are not unique in the whole cluster.";
const HOST_FENCE_DELAY: &str = "\
The number of seconds after which a host that the cluster has lost is certainly off, because the hosts
fence each other. After that, while this partition has quorum, its guests count as off. There is no
default: without it they cannot be fenced until the host is back. The value must hold even if both sides
of a split have quorum (two_node).";
const HOST_FENCING: &str = "\
Where fences of lost hosts are known from: auto (pacemaker, if it runs on this host) or none. A lost host
counts as off once pacemaker has fenced it. Choose none if pacemaker's devices leave a fenced host running
(fence_scsi, fence_mpath, switches).";
const UNKNOWN_VM: &str = "\
The state of a guest that was never seen on any host, that left the host where it ran, or that is not
seen running while there is no quorum: fail (unknown) or off (as in the C daemon).";

/// Returns the help text of a key, if it has one.
pub(super) fn help(spec: &KeySpec) -> Option<&'static str> {
    Some(match (spec.section, spec.name) {
        (_, "key_file") => KEY_FILE,
        (_, "old_key_file") => OLD_KEY_FILE,
        (_, "hash") => "The weakest hash of signed requests to accept. Stronger ones are accepted too.",
        (_, "auth") => "The hash of challenges. The agents must use the same.",
        ("listeners/multicast" | "listeners/tcp", "family") => {
            "The IP family. It follows from the address if there is one."
        }
        ("listeners/multicast", "address") => "The numeric multicast address that the agents send to.",
        ("listeners/tcp", "address") => TCP_ADDRESS,
        ("listeners/multicast", "port") => "The UDP port, 1 to 65535.",
        ("listeners/tcp", "port") => "The TCP port, 1 to 65535.",
        ("listeners/vsock", "port") => "The vsock port, 1 to 4294967294.",
        ("listeners/multicast", "interface") => INTERFACE,
        ("listeners/serial", "uri") => "The libvirt URI of the guests with the lines.",
        ("listeners/serial", "path") => SERIAL_PATH,
        ("listeners/serial", "mode") => SERIAL_MODE,
        ("backends/libvirt", "uri") => LIBVIRT_URI,
        ("backends/cpg", "uri") => CPG_URI,
        ("backends/cpg", "name_mode") => CPG_NAME_MODE,
        ("backends/cpg", "host_fence_delay") => HOST_FENCE_DELAY,
        ("backends/cpg", "host_fencing") => HOST_FENCING,
        ("backends/cpg", "unknown_vm") => UNKNOWN_VM,
        _ => return None,
    })
}

/// Returns the possible values of a kind, if they are few.
pub(super) fn choices(kind: ValueKind) -> Option<&'static str> {
    Some(match kind {
        ValueKind::Signature => "none, sha1, sha256, sha512, hmac-sha256",
        ValueKind::Hash => "none, sha1, sha256, sha512",
        ValueKind::Family => "ipv4, ipv6",
        ValueKind::SerialMode => "serial, vmchannel",
        ValueKind::NameMode => "name, uuid",
        ValueKind::UnknownVm => "fail, off",
        ValueKind::HostFencing => "auto, none",
        ValueKind::Boolean => "1, 0",
        _ => return None,
    })
}

/// Returns the meaning of a missing key that has no default value.
pub(super) fn absent(spec: &KeySpec) -> Option<&'static str> {
    Some(match (spec.section, spec.name) {
        (_, "family") => "from the address",
        ("listeners/multicast", "interface") => "all that are up",
        (_, "old_key_file") => "none",
        ("listeners/serial", "uri") => "the backend's",
        ("listeners/serial", "path") => "all sockets",
        ("backends/cpg", "uri") => "those of libvirt below",
        ("backends/cpg", "name_mode") => "by name and uuid",
        ("backends/cpg", "host_fence_delay") => "unset",
        _ => return None,
    })
}

/// Returns the effective value of a listener's key.
pub(super) fn of_listener(config: &ListenerConfig, key: &str) -> Option<String> {
    if let (Some(auth), "key_file" | "hash" | "auth") = (config.auth(), key) {
        return Some(match key {
            "key_file" => auth.key_file.display().to_string(),
            "hash" => auth.hash.to_string(),
            _ => auth.auth.to_string(),
        });
    }
    match (config, key) {
        (ListenerConfig::Multicast(multicast), "address") => Some(multicast.address.to_string()),
        (ListenerConfig::Multicast(multicast), "port") => Some(multicast.port.to_string()),
        (ListenerConfig::Tcp(tcp), "address") => Some(tcp.address.to_string()),
        (ListenerConfig::Tcp(tcp), "port") => Some(tcp.port.to_string()),
        (ListenerConfig::Vsock(vsock), "port") => Some(vsock.port.to_string()),
        (ListenerConfig::Serial(serial), "mode") => Some(match serial.mode {
            SerialMode::Serial => "serial".to_string(),
            SerialMode::VmChannel => "vmchannel".to_string(),
        }),
        _ => None,
    }
}

/// Returns the effective value of a backend's key.
pub(super) fn of_backend(config: &Config, key: &str) -> Option<String> {
    match (&config.backend, key) {
        (BackendConfig::Libvirt { uris }, "uri") => uris.first().cloned(),
        (BackendConfig::Cpg(cpg), "name_mode") => cpg.name_mode.map(|mode| match mode {
            NameMode::Name => "name".to_string(),
            NameMode::Uuid => "uuid".to_string(),
        }),
        (BackendConfig::Cpg(cpg), "host_fencing") => Some(match cpg.host_fencing {
            HostFencing::Auto => "auto".to_string(),
            HostFencing::None => "none".to_string(),
        }),
        (BackendConfig::Cpg(cpg), "unknown_vm") => Some(match cpg.unknown_vm {
            UnknownVm::Fail => "fail".to_string(),
            UnknownVm::Off => "off".to_string(),
        }),
        _ => None,
    }
}
