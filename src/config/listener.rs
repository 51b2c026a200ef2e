use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::auth::HashKind;

use super::diagnostic_sink::Report;
use super::fields::Fields;
use super::lexer::Spot;
use super::model::{
    AuthConfig, ListenerConfig, MulticastConfig, SerialConfig, SerialMode, TcpConfig, VsockConfig,
};
use super::values::{self, Family};

/// The names of all listeners.
pub(super) const LISTENERS: [&str; 4] = ["multicast", "tcp", "vsock", "serial"];

const DEFAULT_KEY_FILE: &str = "/etc/cluster/fence_xvm.key";
const DEFAULT_PORT: u16 = 1229;
const DEFAULT_GROUP_V4: Ipv4Addr = Ipv4Addr::new(225, 0, 0, 12);
const DEFAULT_GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 3, 1);

/// Reads the section of one listener. `in_use` says whether it will run, and
/// so whether its authentication is worth a warning.
pub(super) fn read(name: &'static str, fields: &Fields, in_use: bool, report: &mut Report) -> ListenerConfig {
    let listener = match name {
        "tcp" => tcp(fields, report),
        "vsock" => vsock(fields, report),
        "serial" => return serial(fields, report),
        _ => multicast(fields, report),
    };
    if in_use {
        warn_of_auth(name, fields, report);
    }
    listener
}

fn tcp(fields: &Fields, report: &mut Report) -> ListenerConfig {
    let auth = auth(fields, report);
    let family = fields.read("family", report, values::family);
    let address = fields.read("address", report, |text| values::tcp_address(text, family));
    let address = address.unwrap_or(family.unwrap_or(Family::V4).loopback());
    ListenerConfig::Tcp(TcpConfig { auth, address, port: port(fields, report) })
}

fn multicast(fields: &Fields, report: &mut Report) -> ListenerConfig {
    let auth = auth(fields, report);
    let family = fields.read("family", report, values::family);
    let address = fields.read("address", report, |text| values::multicast_address(text, family));
    let default: IpAddr = match family {
        Some(Family::V6) => DEFAULT_GROUP_V6.into(),
        _ => DEFAULT_GROUP_V4.into(),
    };
    ListenerConfig::Multicast(MulticastConfig {
        auth,
        address: address.unwrap_or(default),
        port: port(fields, report),
        interface: fields.read("interface", report, values::interface),
    })
}

fn vsock(fields: &Fields, report: &mut Report) -> ListenerConfig {
    let auth = auth(fields, report);
    let port = fields.read("port", report, values::vsock_port);
    ListenerConfig::Vsock(VsockConfig { auth, port: port.unwrap_or(DEFAULT_PORT.into()) })
}

fn serial(fields: &Fields, report: &mut Report) -> ListenerConfig {
    ListenerConfig::Serial(SerialConfig {
        uri: fields.read("uri", report, |text| Ok(text.to_string())),
        path: fields.read("path", report, values::folder),
        mode: fields.read("mode", report, values::serial_mode).unwrap_or(SerialMode::Serial),
    })
}

fn port(fields: &Fields, report: &mut Report) -> u16 {
    fields.read("port", report, values::port).unwrap_or(DEFAULT_PORT)
}

fn auth(fields: &Fields, report: &mut Report) -> AuthConfig {
    let key_file = fields.read("key_file", report, |text| Ok(PathBuf::from(text)));
    AuthConfig {
        key_file: key_file.unwrap_or(DEFAULT_KEY_FILE.into()),
        old_key_file: fields.read("old_key_file", report, |text| Ok(PathBuf::from(text))),
        hash: fields.read("hash", report, values::hash).unwrap_or(HashKind::Sha256),
        auth: fields.read("auth", report, values::hash).unwrap_or(HashKind::Sha256),
    }
}

/// Warns of settings that do not mean what they meant to fence_virtd 4.x, and
/// of those that leave the door open.
fn warn_of_auth(name: &str, fields: &Fields, report: &mut Report) {
    let valid = |spot: Option<Spot>| spot.map_or(Some(HashKind::Sha256), |spot| values::hash(spot.text).ok());
    let (hash_at, auth_at) = (fields.value("hash"), fields.value("auth"));
    let (Some(hash), Some(auth)) = (valid(hash_at), valid(auth_at)) else { return };
    // Multicast always took the two for what they are.
    if let Some(spot) = auth_at.filter(|_| auth != HashKind::Sha256 && name != "multicast") {
        report.warning(spot.at, legacy_auth(auth, hash_at.map(|spot| report.line(spot.at))));
    }
    let place = |spot: Option<Spot>| spot.map_or(0, |spot| spot.at);
    match (hash, auth) {
        (HashKind::None, HashKind::None) => {
            let message = "requests are neither signed nor challenged: whoever reaches this port can fence";
            report.warning(place(auth_at), message);
        }
        (_, HashKind::None) => {
            report.warning(
                place(auth_at),
                "no challenge: whoever overhears a signed request can send it again",
            );
        }
        (HashKind::None, _) => {
            report.warning(place(hash_at), "no signature: a request can be altered on its way");
        }
        _ => {}
    }
}

/// What fence_virtd 4.x made of an `auth` in tcp and vsock sections, and what
/// to write now.
fn legacy_auth(auth: HashKind, hash_line: Option<usize>) -> String {
    let instead = hash_line.map_or(String::new(), |line| format!(", in place of the hash on line {line},"));
    format!(
        "fence_virtd 4.x mistook this auth for the hash{instead} and challenged with sha256 all the same; now it \
         challenges with {auth}; if agents that worked before are turned away, write hash = \"{auth}\"; auth = \
         \"sha256\"; (see docs/UPGRADING.md)"
    )
}
