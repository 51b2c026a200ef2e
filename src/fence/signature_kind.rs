use std::fmt;

use super::HashKind;

/// What authenticates a request, ordered by strength: `hash` of a listener and of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignatureKind {
    /// Version 1 of the wire (docs/WIRE.md): H(key ‖ request).
    Hash(HashKind),
    /// Version 2 of the wire (docs/WIRE-2.md), hash type 4: HMAC-SHA-256 over the whole exchange.
    HmacSha256,
}

impl SignatureKind {
    /// All kinds, weakest first.
    pub const ALL: [SignatureKind; 5] = [
        SignatureKind::Hash(HashKind::None),
        SignatureKind::Hash(HashKind::Sha1),
        SignatureKind::Hash(HashKind::Sha256),
        SignatureKind::Hash(HashKind::Sha512),
        SignatureKind::HmacSha256,
    ];

    /// Parses the name used in a configuration and on a command line.
    pub fn from_name(name: &str) -> Option<SignatureKind> {
        SignatureKind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// Name used in a configuration and on a command line.
    pub fn name(self) -> &'static str {
        match self {
            SignatureKind::Hash(kind) => kind.name(),
            SignatureKind::HmacSha256 => "hmac-sha256",
        }
    }
}

impl From<HashKind> for SignatureKind {
    fn from(kind: HashKind) -> SignatureKind {
        SignatureKind::Hash(kind)
    }
}

impl fmt::Display for SignatureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_version_2_is_the_strongest() {
        for kind in SignatureKind::ALL {
            assert_eq!(SignatureKind::from_name(&kind.name().to_uppercase()), Some(kind));
        }
        assert_eq!(SignatureKind::from_name("hmac"), None);
        assert!(SignatureKind::ALL.is_sorted());
    }
}
