use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::auth::HashKind;
use crate::fence::SignatureKind;

use super::diagnostic_sink::DiagnosticSink;
use super::fields::SectionFields;
use super::lexer::Span;
use super::model::{
    AuthConfig, ListenerConfig, MulticastConfig, SerialConfig, SerialMode, TcpConfig, VsockConfig,
};
use super::values::{self, Family};

/// Names of all listeners.
pub(super) const LISTENERS: [&str; 4] = ["multicast", "tcp", "vsock", "serial"];

const DEFAULT_KEY_FILE: &str = "/etc/cluster/fence_xvm.key";
const DEFAULT_PORT: u16 = 1229;
const DEFAULT_HASH: SignatureKind = SignatureKind::Hash(HashKind::Sha256);
const DEFAULT_GROUP_V4: Ipv4Addr = Ipv4Addr::new(225, 0, 0, 12);
const DEFAULT_GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 3, 1);

/// Reads the section of one listener. Warns of weak authentication if it is `in_use`.
pub(super) fn read(
    name: &'static str,
    fields: &SectionFields,
    in_use: bool,
    sink: &mut DiagnosticSink,
) -> ListenerConfig {
    let listener = match name {
        "tcp" => tcp(fields, sink),
        "vsock" => vsock(fields, sink),
        "serial" => return serial(fields, sink),
        _ => multicast(fields, sink),
    };
    if in_use {
        warn_of_auth(name, fields, sink);
    }
    listener
}

fn tcp(fields: &SectionFields, sink: &mut DiagnosticSink) -> ListenerConfig {
    let auth = auth(fields, sink);
    let family = fields.read("family", sink, values::family);
    let address = fields.read("address", sink, |text| values::tcp_address(text, family));
    let address = address.unwrap_or(family.unwrap_or(Family::V4).loopback());
    ListenerConfig::Tcp(TcpConfig { auth, address, port: port(fields, sink) })
}

fn multicast(fields: &SectionFields, sink: &mut DiagnosticSink) -> ListenerConfig {
    let auth = auth(fields, sink);
    let family = fields.read("family", sink, values::family);
    let address = fields.read("address", sink, |text| values::multicast_address(text, family));
    let default: IpAddr = match family {
        Some(Family::V6) => DEFAULT_GROUP_V6.into(),
        _ => DEFAULT_GROUP_V4.into(),
    };
    ListenerConfig::Multicast(MulticastConfig {
        auth,
        address: address.unwrap_or(default),
        port: port(fields, sink),
        interface: fields.read("interface", sink, values::interface).flatten(),
    })
}

fn vsock(fields: &SectionFields, sink: &mut DiagnosticSink) -> ListenerConfig {
    let auth = auth(fields, sink);
    let port = fields.read("port", sink, values::vsock_port);
    ListenerConfig::Vsock(VsockConfig { auth, port: port.unwrap_or(DEFAULT_PORT.into()) })
}

fn serial(fields: &SectionFields, sink: &mut DiagnosticSink) -> ListenerConfig {
    ListenerConfig::Serial(SerialConfig {
        uri: fields.read("uri", sink, |text| Ok(text.to_string())),
        path: fields.read("path", sink, values::folder),
        mode: fields.read("mode", sink, values::serial_mode).unwrap_or(SerialMode::Serial),
    })
}

fn port(fields: &SectionFields, sink: &mut DiagnosticSink) -> u16 {
    fields.read("port", sink, values::port).unwrap_or(DEFAULT_PORT)
}

fn auth(fields: &SectionFields, sink: &mut DiagnosticSink) -> AuthConfig {
    AuthConfig {
        key_file: fields.read("key_file", sink, values::file).unwrap_or(DEFAULT_KEY_FILE.into()),
        old_key_file: fields.read("old_key_file", sink, values::file),
        hash: fields.read("hash", sink, values::hash).unwrap_or(DEFAULT_HASH),
        auth: fields.read("auth", sink, values::auth).unwrap_or(HashKind::Sha256),
        is_shared: true,
    }
}

/// Warns of settings with another meaning in fence_virtd 4.x, and of missing authentication.
fn warn_of_auth(name: &str, fields: &SectionFields, sink: &mut DiagnosticSink) {
    let hash_at = fields.value("hash");
    let auth_at = fields.value("auth");
    let hash = hash_at.map_or(Ok(DEFAULT_HASH), |span| values::hash(span.text));
    let auth = auth_at.map_or(Ok(HashKind::Sha256), |span| values::auth(span.text));
    let (Ok(hash), Ok(auth)) = (hash, auth) else { return };
    let SignatureKind::Hash(hash) = hash else { return note_unused_auth(auth_at, sink) };
    // The multicast listener of 4.x used both keys correctly.
    if let Some(span) = auth_at.filter(|_| auth != HashKind::Sha256 && name != "multicast") {
        sink.warning(span.at, legacy_auth(auth, hash_at.map(|span| sink.line(span.at))));
    }
    let (span, message) = match (hash, auth) {
        (HashKind::None, HashKind::None) => {
            (auth_at, "requests are neither signed nor challenged: anyone who reaches this port can fence")
        }
        (_, HashKind::None) => (auth_at, "no challenge: anyone who captures a signed request can replay it"),
        (HashKind::None, _) => (hash_at, "no signature: a request can be modified in transit"),
        _ => return,
    };
    sink.warning(span.map_or(0, |span| span.at), message);
}

/// Warns of an `auth` that no request uses.
fn note_unused_auth(auth_at: Option<Span>, sink: &mut DiagnosticSink) {
    if let Some(span) = auth_at {
        let message = "auth has no effect with hash = \"hmac-sha256\", which always authenticates both sides; remove it";
        sink.warning(span.at, message);
    }
}

/// Warning about `auth` in tcp and vsock sections, which fence_virtd 4.x misread,
/// with the equivalent settings.
fn legacy_auth(auth: HashKind, hash_line: Option<usize>) -> String {
    let instead = hash_line.map_or(String::new(), |line| format!(", instead of the hash on line {line},"));
    format!(
        "fence_virtd 4.x used this auth as the hash{instead} and always challenged with sha256; it now challenges \
         with {auth}; if agents that worked before are refused, write hash = \"{auth}\"; auth = \"sha256\"; (see \
         docs/UPGRADING.md)"
    )
}
