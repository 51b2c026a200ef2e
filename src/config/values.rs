//! Typed values from the text of a file. Errors are messages without a position.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::auth::HashKind;
use crate::fence::SignatureKind;
use crate::restraints::PowerOffCap;

use super::diagnostic_sink::quoted;
use super::model::{HostFencing, MAX_PARALLEL, NameMode, SerialMode, UnknownVm};

/// Maximum length of an interface name: the kernel's IFNAMSIZ without the NUL.
const INTERFACE_MAX: usize = 15;

/// IP family of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
    }

    pub(super) fn loopback(self) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::LOCALHOST.into(),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

/// Parses one of a few words, ignoring case and surrounding blanks.
fn word<T: Copy>(text: &str, what: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("invalid {what} {}; expected one of: {}", quoted(text), names.join(", "))
    })
}

pub(super) fn hash(text: &str) -> Result<SignatureKind, String> {
    word(text, "hash algorithm", &SignatureKind::ALL.map(|kind| (kind.name(), kind)))
}

/// Parses `auth`, which is for version 1 of the wire: version 2 has no choice.
pub(super) fn auth(text: &str) -> Result<HashKind, String> {
    word(text, "hash algorithm", &HashKind::ALL.map(|kind| (kind.name(), kind)))
}

pub(super) fn family(text: &str) -> Result<Family, String> {
    word(text, "family", &[Family::V4, Family::V6].map(|family| (family.name(), family)))
}

pub(super) fn power_off_cap(text: &str) -> Result<PowerOffCap, String> {
    PowerOffCap::parse(text).map_err(|error| format!("invalid max_power_off {}; {error}", quoted(text)))
}

pub(super) fn serial_mode(text: &str) -> Result<SerialMode, String> {
    word(text, "mode", &[("serial", SerialMode::Serial), ("vmchannel", SerialMode::VmChannel)])
}

pub(super) fn host_fencing(text: &str) -> Result<HostFencing, String> {
    word(text, "host_fencing", &[("auto", HostFencing::Auto), ("none", HostFencing::None)])
}

pub(super) fn unknown_vm(text: &str) -> Result<UnknownVm, String> {
    word(text, "unknown_vm", &[("fail", UnknownVm::Fail), ("off", UnknownVm::Off)])
}

pub(super) fn name_mode(text: &str) -> Result<NameMode, String> {
    word(text, "name_mode", &[("name", NameMode::Name), ("uuid", NameMode::Uuid)])
}

/// Parses a switch. Any number but 0 means yes, as in the C daemon.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    const WORDS: [(&str, bool); 8] = [
        ("1", true),
        ("0", false),
        ("yes", true),
        ("no", false),
        ("true", true),
        ("false", false),
        ("on", true),
        ("off", false),
    ];
    match text.trim().parse::<u32>() {
        Ok(number) => Ok(number != 0),
        Err(_) => word(text, "switch", &WORDS),
    }
}

pub(super) fn number(text: &str) -> Result<u32, String> {
    let number = text.trim().parse();
    number.map_err(|_| format!("invalid number {}; expected 0 to {}", quoted(text), u32::MAX))
}

/// Parses a number of seconds from 1 to `max`.
pub(super) fn seconds(text: &str, max: u32) -> Result<u32, String> {
    let number = text.trim().parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| format!("invalid number of seconds {}; expected 1 to {max}", quoted(text)))
}

/// Parses a number from 1 to `max`.
pub(super) fn count(text: &str, max: usize) -> Result<usize, String> {
    let number = text.trim().parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| format!("invalid number {}; expected 1 to {max}", quoted(text)))
}

pub(super) fn max_parallel(text: &str) -> Result<usize, String> {
    count(text, MAX_PARALLEL)
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    let port = text.trim().parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("invalid port {}; expected 1 to {}", quoted(text), u16::MAX))
}

pub(super) fn vsock_port(text: &str) -> Result<u32, String> {
    let port = text.trim().parse().ok().filter(|port| ![0, u32::MAX].contains(port));
    port.ok_or_else(|| format!("invalid vsock port {}; expected 1 to {}", quoted(text), u32::MAX - 1))
}

/// Parses the name of an interface. `none`, which the dialogue of the C daemon teaches, stands for no name.
pub(super) fn interface(text: &str) -> Result<Option<String>, String> {
    if text.trim().eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    let wrong = if text.len() > INTERFACE_MAX {
        format!("longer than {INTERFACE_MAX} bytes")
    } else if text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        "contains a blank, a control character or a '/'".to_string()
    } else if matches!(text, "." | "..") {
        "reserved".to_string()
    } else {
        return Ok(Some(text.to_string()));
    };
    Err(format!("invalid interface name {}: {wrong}", quoted(text)))
}

/// Parses an absolute file path: the working directory changes when the daemon detaches.
pub(super) fn file(text: &str) -> Result<PathBuf, String> {
    let path = Some(PathBuf::from(text)).filter(|path| path.is_absolute() && path.file_name().is_some());
    path.ok_or_else(|| format!("expected an absolute file path, not {}", quoted(text)))
}

pub(super) fn folder(text: &str) -> Result<PathBuf, String> {
    let path = Some(PathBuf::from(text)).filter(|path| path.is_absolute());
    path.ok_or_else(|| format!("expected an absolute directory path, not {}", quoted(text)))
}

/// Parses the address of a TCP listener. `localhost` is the only accepted host
/// name, since it needs no resolver.
pub(super) fn tcp_address(text: &str, family: Option<Family>) -> Result<IpAddr, String> {
    if text.trim().eq_ignore_ascii_case("localhost") {
        return Ok(family.unwrap_or(Family::V4).loopback());
    }
    let address = address(text, family)?;
    if address.is_multicast() {
        return Err(format!("{address} is a multicast address, which accepts no connections"));
    }
    Ok(address)
}

/// Parses the multicast address that a listener joins.
pub(super) fn multicast_address(text: &str, family: Option<Family>) -> Result<IpAddr, String> {
    let address = address(text, family)?;
    if address.is_multicast() {
        return Ok(address);
    }
    let range = if address.is_ipv4() { "224.0.0.0 to 239.255.255.255" } else { "ff00::/8" };
    Err(format!("{address} is not a multicast address; expected {range}"))
}

fn address(text: &str, family: Option<Family>) -> Result<IpAddr, String> {
    let parsed = text.trim().parse::<IpAddr>();
    let address = parsed.map_err(|_| format!("expected a numeric IP address, not {}", quoted(text)))?;
    match family {
        Some(family) if family != Family::of(address) => {
            Err(format!("{address} is not of family {}", family.name()))
        }
        _ => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(hash("SHA512"), Ok(HashKind::Sha512.into()));
        assert_eq!(hash("HMAC-SHA256"), Ok(SignatureKind::HmacSha256));
        assert!(auth("hmac-sha256").is_err(), "version 2 has no choice of challenges");
        let message =
            "invalid hash algorithm \"md5\"; expected one of: none, sha1, sha256, sha512, hmac-sha256";
        assert_eq!(hash("md5"), Err(message.to_string()));
        assert_eq!(family(" IPv6 "), Ok(Family::V6));
        assert!(family("inet").is_err() && serial_mode("tty").is_err() && name_mode("id").is_err());
        for (text, value) in
            [("1", true), ("Yes", true), ("2", true), ("on", true), ("0", false), ("OFF", false)]
        {
            assert_eq!(boolean(text), Ok(value), "{text}");
        }
        assert!(boolean("maybe").is_err() && boolean("-1").is_err());
    }

    #[test]
    fn numbers() {
        assert_eq!([port("1"), port("65535"), port(" 02000\n")], [Ok(1), Ok(65535), Ok(2000)]);
        for wrong in ["0", "-1", "65536", "0x4cd", "1229x", "", "x"] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
        assert_eq!(vsock_port("4294967294"), Ok(4_294_967_294));
        for wrong in ["0", "-1", "4294967295", "4294967296"] {
            assert!(vsock_port(wrong).is_err(), "{wrong}");
        }
        assert_eq!(number("9"), Ok(9));
        assert!(number("-1").is_err());
    }

    #[test]
    fn interfaces() {
        assert_eq!(interface("virbr0"), Ok(Some("virbr0".to_string())));
        assert_eq!([interface("none"), interface(" NONE ")], [Ok(None), Ok(None)]);
        assert_eq!(interface("none0"), Ok(Some("none0".to_string())));
        assert!(interface("123456789012345").is_ok());
        assert_eq!(folder("/var/lib/x/"), Ok(PathBuf::from("/var/lib/x")));
        assert!(folder("s").is_err_and(|message| message.contains("absolute")));
        for wrong in ["1234567890123456", "a/b", "a b", "a\n", " ", ".", ".."] {
            assert!(interface(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn addresses() {
        let v6 = Some(Family::V6);
        assert_eq!(tcp_address("localhost", v6), Ok(IpAddr::from(Ipv6Addr::LOCALHOST)));
        assert_eq!(tcp_address("0.0.0.0", None), Ok(IpAddr::from([0, 0, 0, 0])));
        assert!(tcp_address("127.0.0.1", v6).is_err_and(|message| message.contains("family ipv6")));
        assert!(tcp_address("225.0.0.12", None).is_err() && tcp_address("example.org", None).is_err());
        assert!(multicast_address("ff05::3:1", v6).is_ok() && multicast_address("225.0.0.12", None).is_ok());
        assert!(multicast_address("10.0.0.1", None).is_err_and(|message| message.contains("224.0.0.0")));
        assert!(multicast_address("::1", None).is_err());
        assert!(multicast_address("ff05::3:1", Some(Family::V4)).is_err());
    }
}
