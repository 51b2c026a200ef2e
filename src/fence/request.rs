use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Domain, KeyHolder, KeyId, Operation, Uuid};

/// Maximum length of a VM's name or UUID on the wire, in bytes: 64 less the closing NUL.
pub const NAME_MAX: usize = 63;

/// VM that a request is about, as the client wrote it: a name or a UUID.
/// At most [`NAME_MAX`] bytes, no NUL; empty where the operation needs no VM.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Target(String);

/// Reason why bytes are not a valid VM name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Longer than [`NAME_MAX`] bytes.
    TooLong,
    /// Not UTF-8 (libvirt's names are), or with a control character.
    NotText,
}

impl Target {
    /// Validates a name or UUID.
    ///
    /// # Errors
    ///
    /// [`NameError`] if no VM can have this name.
    pub fn new(name: &[u8]) -> Result<Target, NameError> {
        if name.len() > NAME_MAX {
            return Err(NameError::TooLong);
        }
        let text = std::str::from_utf8(name).map_err(|_| NameError::NotText)?;
        if text.chars().any(char::is_control) {
            return Err(NameError::NotText);
        }
        Ok(Target(text.to_owned()))
    }

    /// Name or UUID as the client sent it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::TooLong => write!(f, "the VM name is longer than {NAME_MAX} bytes"),
            NameError::NotText => f.write_str("the VM name is not printable UTF-8 text"),
        }
    }
}

/// Requester, as far as the transport proves it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// Peer of a TCP connection, or the address that a multicast call-back reached.
    Ip(IpAddr),
    /// Context id of a vsock peer: 3 and more are VMs, 2 the host, 1 the machine itself (vsock(7)).
    Cid(u32),
    /// VM that owns the serial line or channel of the request, according to libvirt.
    Domain(Arc<Domain>),
    /// VM that has proven a key of its own.
    Key(Arc<KeyedSource>),
}

impl Source {
    /// Makes a source of a peer's address; an IPv4-mapped IPv6 address becomes IPv4.
    pub fn ip(address: IpAddr) -> Source {
        Source::Ip(address.to_canonical())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Ip(address) => address.fmt(f),
            Source::Cid(cid) => write!(f, "CID {cid}"),
            Source::Domain(domain) => domain.fmt(f),
            Source::Key(keyed) => keyed.fmt(f),
        }
    }
}

/// Requester that has proven a VM's own key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyedSource {
    /// VM whose key it is: the requester, whatever its address.
    pub holder: Arc<KeyHolder>,
    /// Address or CID from which the request came.
    pub via: Source,
}

impl fmt::Display for KeyedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.holder, self.via)
    }
}

/// Identity of a request, equal for duplicates: operation, sequence number
/// and target, the target without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    operation: Operation,
    seqno: u32,
    name: String,
    requester: Option<Asker>,
}

/// Requester of which alone a request is a duplicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asker {
    Vm(Uuid),
    Key(KeyId),
}

impl Identity {
    /// Operation.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Makes the identity specific to this VM. On lines a request never comes
    /// twice by different ways, but two VMs may choose the same number.
    pub fn requested_by(self, requester: Uuid) -> Identity {
        Identity { requester: Some(Asker::Vm(requester)), ..self }
    }

    /// Makes the identity specific to this key, so that nobody with another key can use up the number.
    pub fn signed_with(self, key: KeyId) -> Identity {
        Identity { requester: Some(Asker::Key(key)), ..self }
    }
}

/// Request, independent of its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Operation.
    pub operation: Operation,
    /// Target VM.
    pub target: Target,
    /// Sequence number, chosen by the client.
    pub seqno: u32,
}

impl Request {
    /// Identity for the detection of duplicates.
    pub fn identity(&self) -> Identity {
        let name = self.target.as_str().to_lowercase();
        Identity { operation: self.operation, seqno: self.seqno, name, requester: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_text() {
        assert_eq!(Target::new(&[b'a'; 63]).unwrap().as_str().len(), 63);
        assert_eq!(Target::new(&[b'a'; 64]), Err(NameError::TooLong));
        assert_eq!(Target::new(b"\xff"), Err(NameError::NotText));
        assert_eq!(Target::new(b"a\nb"), Err(NameError::NotText));
        assert_eq!(Target::new(b"").unwrap(), Target::default());
    }

    #[test]
    fn identity_ignores_case_of_the_name_only() {
        let request = |name: &[u8], seqno| {
            Request { operation: Operation::Off, target: Target::new(name).unwrap(), seqno }.identity()
        };
        assert_eq!(request(b"Node", 1), request(b"nODE", 1));
        assert_ne!(request(b"node", 1), request(b"node", 2));
        let a = Uuid::from_bytes([1; 16]);
        let b = Uuid::from_bytes([2; 16]);
        assert_ne!(request(b"node", 1).requested_by(a), request(b"node", 1).requested_by(b));
        assert_eq!(request(b"node", 1).requested_by(a), request(b"nODE", 1).requested_by(a));
        let signed = |key| request(b"node", 1).signed_with(KeyId::from_bytes([key; 16]));
        assert_ne!(signed(1), signed(2));
        assert_ne!(signed(1), request(b"node", 1).requested_by(a), "a UUID is no key");
    }

    #[test]
    fn a_mapped_address_is_unwrapped() {
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(Source::ip(mapped), Source::Ip("192.0.2.1".parse().unwrap()));
    }
}
