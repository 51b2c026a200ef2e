//! The requester on the command line.

use std::fmt;
use std::net::IpAddr;

/// Requester that a person asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AskedRequester {
    /// Peer of a network listener.
    Address(IpAddr),
    /// Peer of a vsock listener.
    Cid(u32),
    /// VM with a key of its own, by the name of the key.
    Key(String),
    /// VM, by its name or UUID.
    Vm(String),
}

impl AskedRequester {
    /// Parses an address (a scope, `%eth0`, is dropped), a CID (`5` or `cid:5`), the key of a VM (`key:node1`), or the
    /// name or UUID of a VM.
    /// Errors: a sentence about a CID that is none.
    pub(super) fn parse(text: &str) -> Result<AskedRequester, String> {
        let text = text.trim();
        if let Some(name) = text.strip_prefix("key:") {
            return Ok(AskedRequester::Key(name.to_owned()));
        }
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let cid = text.strip_prefix("cid:").or(Some(text).filter(|text| is_number(text)));
        if let Some(cid) = cid {
            let number = Some(cid).filter(|cid| is_number(cid)).and_then(|cid| cid.parse().ok());
            return number.map(AskedRequester::Cid).ok_or_else(|| format!("{cid:?} is not a CID of 32 bits"));
        }
        let bare = text.split_once('%').map_or(text, |(bare, _)| bare);
        Ok(match bare.parse::<IpAddr>() {
            Ok(address) => AskedRequester::Address(address.to_canonical()),
            Err(_) => AskedRequester::Vm(text.to_owned()),
        })
    }
}

impl fmt::Display for AskedRequester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskedRequester::Address(address) => write!(f, "address {address}"),
            AskedRequester::Cid(cid) => write!(f, "CID {cid}"),
            AskedRequester::Key(name) => write!(f, "key {name:?}"),
            AskedRequester::Vm(name) => write!(f, "VM {name:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_cids_and_vms_are_told_apart() {
        let address = |text: &str| Ok(AskedRequester::Address(text.parse().unwrap()));
        assert_eq!(AskedRequester::parse("192.0.2.7"), address("192.0.2.7"));
        assert_eq!(AskedRequester::parse("::ffff:192.0.2.7"), address("192.0.2.7"));
        assert_eq!(AskedRequester::parse("fe80::1%eth0"), address("fe80::1"));
        assert_eq!(AskedRequester::parse("5"), Ok(AskedRequester::Cid(5)));
        assert_eq!(AskedRequester::parse("cid:5"), Ok(AskedRequester::Cid(5)));
        assert_eq!(AskedRequester::parse("key:node1"), Ok(AskedRequester::Key("node1".to_owned())));
        for vm in ["node1", "44179d3f-6c63-474f-a212-20c8b4b25b16", "50%", "1.2.3"] {
            assert_eq!(AskedRequester::parse(vm), Ok(AskedRequester::Vm(vm.to_owned())));
        }
        assert!(AskedRequester::parse("cid:x").is_err() && AskedRequester::parse("99999999999").is_err());
    }
}
