//! From the text of a value to its type. The errors are sentences without a place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::auth::HashKind;

use super::diagnostic_sink::quoted;
use super::model::{NameMode, SerialMode, UnknownVm};

/// The names of interfaces are shorter than the kernel's IFNAMSIZ.
const INTERFACE_MAX: usize = 15;

/// The IP family of a listener.
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

/// One of a few words, without regard to case and blanks around.
fn word<T: Copy>(text: &str, what: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("{what} is one of {}, not {}", names.join(", "), quoted(text))
    })
}

pub(super) fn hash(text: &str) -> Result<HashKind, String> {
    word(text, "an algorithm", &HashKind::ALL.map(|kind| (kind.name(), kind)))
}

pub(super) fn family(text: &str) -> Result<Family, String> {
    word(text, "a family", &[Family::V4, Family::V6].map(|family| (family.name(), family)))
}

pub(super) fn serial_mode(text: &str) -> Result<SerialMode, String> {
    word(text, "a mode", &[("serial", SerialMode::Serial), ("vmchannel", SerialMode::VmChannel)])
}

pub(super) fn unknown_vm(text: &str) -> Result<UnknownVm, String> {
    word(text, "an unknown_vm", &[("fail", UnknownVm::Fail), ("off", UnknownVm::Off)])
}

pub(super) fn name_mode(text: &str) -> Result<NameMode, String> {
    word(text, "a name_mode", &[("name", NameMode::Name), ("uuid", NameMode::Uuid)])
}

/// The C daemon took any number, and all but 0 for yes.
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
        Err(_) => word(text, "a switch", &WORDS),
    }
}

pub(super) fn number(text: &str) -> Result<u32, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("a number from 0 to {} is needed, not {}", u32::MAX, quoted(text)))
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    let port = text.trim().parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("a port is a number from 1 to {}, not {}", u16::MAX, quoted(text)))
}

pub(super) fn vsock_port(text: &str) -> Result<u32, String> {
    let port = text.trim().parse().ok().filter(|port| ![0, u32::MAX].contains(port));
    port.ok_or_else(|| format!("a vsock port is a number from 1 to {}, not {}", u32::MAX - 1, quoted(text)))
}

pub(super) fn interface(text: &str) -> Result<String, String> {
    let wrong = if text.len() > INTERFACE_MAX {
        format!("is longer than {INTERFACE_MAX} bytes")
    } else if text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        "holds a blank or a '/'".to_string()
    } else if matches!(text, "." | "..") {
        "is a directory".to_string()
    } else {
        return Ok(text.to_string());
    };
    Err(format!("{} is not the name of an interface: it {wrong}", quoted(text)))
}

/// A folder, from the root on: the daemon's own changes when it detaches.
pub(super) fn file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.is_absolute() && path.file_name().is_some() {
        true => Ok(path),
        false => Err(format!("the name of a file from / on is needed, not {}", quoted(text))),
    }
}

pub(super) fn folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(format!("a folder from / on is needed, not {}", quoted(text))),
    }
}

/// The address a TCP listener binds to. `localhost` is the one host name that
/// needs nobody to look it up.
pub(super) fn tcp_address(text: &str, family: Option<Family>) -> Result<IpAddr, String> {
    if text.trim().eq_ignore_ascii_case("localhost") {
        return Ok(family.unwrap_or(Family::V4).loopback());
    }
    let address = address(text, family)?;
    if address.is_multicast() {
        return Err(format!("{address} is a multicast address, nobody can connect to it"));
    }
    Ok(address)
}

/// The group a multicast listener joins.
pub(super) fn multicast_address(text: &str, family: Option<Family>) -> Result<IpAddr, String> {
    let address = address(text, family)?;
    if address.is_multicast() {
        return Ok(address);
    }
    let range = if address.is_ipv4() { "224.0.0.0 to 239.255.255.255" } else { "ff00::/8" };
    Err(format!("{address} is not a multicast address; those are {range}"))
}

fn address(text: &str, family: Option<Family>) -> Result<IpAddr, String> {
    let parsed = text.trim().parse::<IpAddr>();
    let address = parsed.map_err(|_| format!("an IP address in digits is needed, not {}", quoted(text)))?;
    match family {
        Some(family) if family != Family::of(address) => {
            Err(format!("{address} is not an address of the family {}", family.name()))
        }
        _ => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(hash("SHA512"), Ok(HashKind::Sha512));
        let message = "an algorithm is one of none, sha1, sha256, sha512, not \"md5\"";
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
        assert_eq!(interface("virbr0"), Ok("virbr0".to_string()));
        assert!(interface("123456789012345").is_ok());
        assert_eq!(folder("/var/lib/x/"), Ok(PathBuf::from("/var/lib/x")));
        assert!(folder("s").is_err_and(|message| message.contains("from / on")));
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
        assert!(
            multicast_address("::1", None).is_err()
                && multicast_address("ff05::3:1", Some(Family::V4)).is_err()
        );
    }
}
