//! The words of the questions. Which there are, the table of keys says.

use fence_virt::config::{
    BackendConfig, Config, KeySpec, ListenerConfig, NameMode, SerialMode, UnknownVm, ValueKind,
};

/// What a listener or backend is for.
pub(super) const LISTENER_HELP: &str = "\
The listeners take the requests of the guests:
  multicast  requests of fence_xvm to a multicast address; the guests share a network with the host
  tcp        requests of fence_virt -T to an address of this host
  vsock      requests of fence_virt -S over virtual machine sockets, without any network
  serial     requests over serial ports or channels of the guests, without network and key
Name one or several, as in \"multicast, tcp\". A second one of a kind, with a key and a port of its own,
has a label: \"tcp, tcp:cluster-b\".";

pub(super) const BACKEND_HELP: &str = "\
The backend knows the virtual machines:
  libvirt  those of this host
  cpg      those of all hosts of a corosync cluster, each of which runs fence_virtd";

const KEY_FILE: &str = "\
The key that hosts and guests share, 4096 random bytes, from / on. It must be the same on all of them.";
const OLD_KEY_FILE: &str = "\
The key before that, which is accepted too while keys are changed. Reset it when every guest has the new one.";
const HASH: &str = "\
The weakest signature of a request to accept. Stronger ones are accepted too.";
const AUTH: &str = "\
What challenges are made with. The agents must use the same.";
const FAMILY: &str = "\
The IP family. It follows from the address if there is one.";
const MULTICAST_ADDRESS: &str = "\
The multicast address that the agents send to, in digits.";
const TCP_ADDRESS: &str = "\
The address of this host to listen on, in digits. The guests must be able to reach it, so it is usually
that of a bridge; 0.0.0.0 and :: are all addresses.";
const UDP_PORT: &str = "The UDP port, 1 to 65535.";
const TCP_PORT: &str = "The TCP port, 1 to 65535.";
const VSOCK_PORT: &str = "The vsock port, 1 to 4294967294.";
const INTERFACE: &str = "\
The interface to listen on, usually the bridge that the guests are connected to, as virbr0. Without it
every interface that is up and can multicast, except ports of bridges.";
const SERIAL_URI: &str = "The libvirt that knows the guests with the lines.";
const SERIAL_PATH: &str = "\
Only sockets directly in this directory count, which is named from / on. Without it every serial port (or
channel) of type unix, mode bind, is taken for a fence line, also one that is somebody's console.";
const SERIAL_MODE: &str = "Which sockets count: of serial ports, or of channels (vmchannel).";
const LIBVIRT_URI: &str = "\
The libvirt of this host to connect to, see https://libvirt.org/uri.html. There may be several of them.
While one does not answer, a guest that is not seen to run elsewhere cannot be fenced.";
const CPG_URI: &str = "\
The libvirt of this host to connect to, see https://libvirt.org/uri.html. There may be several of them.
Without any here, those of the section libvirt are used.";
const CPG_NAME_MODE: &str = "\
What guests may be asked for by: name or uuid. C daemons among the hosts know them by name unless it is
uuid, which is better where names are not unique in the whole cluster.";
const HOST_FENCE_DELAY: &str = "\
After how many seconds a host that the cluster has lost is off for sure, because the hosts fence each
other. From then on, while this side has quorum, its guests count as off. There is no default: without it
they cannot be fenced until the host is back. Where both sides of a cut have quorum (two_node) it must be
true nevertheless.";
const UNKNOWN_VM: &str = "\
What a guest counts as that no host was ever seen to have, that is gone from where it ran, or that is not
seen to run while there is no quorum: fail (nothing is known of it) or off (as in the C daemon).";

/// What a key means, for people; none if there are no words for it.
pub(super) fn help(spec: &KeySpec) -> Option<&'static str> {
    Some(match (spec.section, spec.name) {
        ("listeners/multicast" | "listeners/tcp" | "listeners/vsock", "key_file") => KEY_FILE,
        ("listeners/multicast" | "listeners/tcp" | "listeners/vsock", "old_key_file") => OLD_KEY_FILE,
        ("listeners/multicast" | "listeners/tcp" | "listeners/vsock", "hash") => HASH,
        ("listeners/multicast" | "listeners/tcp" | "listeners/vsock", "auth") => AUTH,
        ("listeners/multicast" | "listeners/tcp", "family") => FAMILY,
        ("listeners/multicast", "address") => MULTICAST_ADDRESS,
        ("listeners/tcp", "address") => TCP_ADDRESS,
        ("listeners/multicast", "port") => UDP_PORT,
        ("listeners/tcp", "port") => TCP_PORT,
        ("listeners/vsock", "port") => VSOCK_PORT,
        ("listeners/multicast", "interface") => INTERFACE,
        ("listeners/serial", "uri") => SERIAL_URI,
        ("listeners/serial", "path") => SERIAL_PATH,
        ("listeners/serial", "mode") => SERIAL_MODE,
        ("backends/libvirt", "uri") => LIBVIRT_URI,
        ("backends/cpg", "uri") => CPG_URI,
        ("backends/cpg", "name_mode") => CPG_NAME_MODE,
        ("backends/cpg", "host_fence_delay") => HOST_FENCE_DELAY,
        ("backends/cpg", "unknown_vm") => UNKNOWN_VM,
        _ => return None,
    })
}

/// The words that a value can be, if they are few.
pub(super) fn choices(kind: ValueKind) -> Option<&'static str> {
    Some(match kind {
        ValueKind::Hash => "none, sha1, sha256, sha512",
        ValueKind::Family => "ipv4, ipv6",
        ValueKind::SerialMode => "serial, vmchannel",
        ValueKind::NameMode => "name, uuid",
        ValueKind::UnknownVm => "fail, off",
        ValueKind::Boolean => "1, 0",
        _ => return None,
    })
}

/// What it means that a key is not there, if it has no value then.
pub(super) fn absent(spec: &KeySpec) -> Option<&'static str> {
    Some(match (spec.section, spec.name) {
        (_, "family") => "that of the address",
        ("listeners/multicast", "interface") => "all that are up",
        (_, "old_key_file") => "none",
        ("listeners/serial", "uri") => "that of the backend",
        ("listeners/serial", "path") => "all sockets",
        ("backends/cpg", "uri") => "that of libvirt below",
        ("backends/cpg", "name_mode") => "by name and uuid",
        ("backends/cpg", "host_fence_delay") => "not known",
        _ => return None,
    })
}

/// The value of a key of the first listener in effect.
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

/// The value of a key of the backend in effect.
pub(super) fn of_backend(config: &Config, key: &str) -> Option<String> {
    match (&config.backend, key) {
        (BackendConfig::Libvirt { uris }, "uri") => uris.first().cloned(),
        (BackendConfig::Cpg(cpg), "name_mode") => cpg.name_mode.map(|mode| match mode {
            NameMode::Name => "name".to_string(),
            NameMode::Uuid => "uuid".to_string(),
        }),
        (BackendConfig::Cpg(cpg), "unknown_vm") => Some(match cpg.unknown_vm {
            UnknownVm::Fail => "fail".to_string(),
            UnknownVm::Off => "off".to_string(),
        }),
        _ => None,
    }
}
