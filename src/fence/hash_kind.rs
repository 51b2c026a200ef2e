use std::fmt;

/// Hash function that signs a request or answers a challenge, ordered by
/// strength. The numbers are those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum HashKind {
    /// No signature, no challenge.
    None = 0,
    /// SHA-1, 20 bytes.
    Sha1 = 1,
    /// SHA-256, 32 bytes.
    Sha256 = 2,
    /// SHA-512, 64 bytes.
    Sha512 = 3,
}

impl HashKind {
    /// All kinds, weakest first.
    pub const ALL: [HashKind; 4] = [HashKind::None, HashKind::Sha1, HashKind::Sha256, HashKind::Sha512];

    /// Decodes a kind.
    pub fn from_wire(number: u8) -> Option<HashKind> {
        HashKind::ALL.get(usize::from(number)).copied()
    }

    /// Number on the wire.
    pub fn to_wire(self) -> u8 {
        self as u8
    }

    /// Parses the name used in a configuration and on a command line.
    pub fn from_name(name: &str) -> Option<HashKind> {
        HashKind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// Name used in a configuration and on a command line.
    pub fn name(self) -> &'static str {
        match self {
            HashKind::None => "none",
            HashKind::Sha1 => "sha1",
            HashKind::Sha256 => "sha256",
            HashKind::Sha512 => "sha512",
        }
    }
}

impl fmt::Display for HashKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for kind in HashKind::ALL {
            assert_eq!(HashKind::from_name(&kind.name().to_uppercase()), Some(kind));
            assert_eq!(HashKind::from_wire(kind.to_wire()), Some(kind));
        }
        assert_eq!(HashKind::from_wire(4), None);
        assert!(HashKind::None < HashKind::Sha1 && HashKind::Sha256 < HashKind::Sha512);
    }
}
