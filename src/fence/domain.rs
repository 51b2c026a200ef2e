use std::fmt;

/// UUID of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid(u128);

impl Uuid {
    /// Makes a UUID of its 16 bytes, in the order in which they are written.
    pub fn from_bytes(bytes: [u8; 16]) -> Uuid {
        Uuid(u128::from_be_bytes(bytes))
    }

    /// Returns its 16 bytes, in that order.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Parses a UUID as virUUIDParse does: 32 hexadecimal digits of either case, hyphens anywhere.
    pub fn parse(text: &str) -> Option<Uuid> {
        let mut value = 0;
        let mut digits = 0;
        for c in text.trim().chars().filter(|&c| c != '-') {
            value = value << 4 | u128::from(c.to_digit(16)?);
            digits += 1;
        }
        (digits == 32).then_some(Uuid(value))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0;
        let group = |shift: u32| v >> shift & 0xffff;
        let head = v >> 96;
        let tail = v & 0xffff_ffff_ffff;
        write!(f, "{head:08x}-{:04x}-{:04x}-{:04x}-{tail:012x}", group(80), group(64), group(48))
    }
}

/// VM as libvirt knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Domain {
    /// Name.
    pub name: String,
    /// UUID.
    pub uuid: Uuid,
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name.escape_debug(), self.uuid)
    }
}

/// Index of a libvirt URI in the order of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UriIndex(pub usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_agree() {
        let text = "44179d3f-6c63-474f-a212-20c8b4b25b16";
        let uuid = Uuid::parse(text).unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(Uuid::parse("44179D3F6C63474FA21220C8B4B25B16"), Some(uuid));
        let bytes = *b"\x44\x17\x9d\x3f\x6c\x63\x47\x4f\xa2\x12\x20\xc8\xb4\xb2\x5b\x16";
        assert_eq!(Uuid::from_bytes(bytes), uuid);
        assert_eq!(Uuid::parse("00000000-0000-0000-0000-000000000001").unwrap().to_string().len(), 36);
        for wrong in
            ["", "node1", "44179d3f-6c63-474f-a212-20c8b4b25b1", "44179d3f-6c63-474f-a212-20c8b4b25b161"]
        {
            assert_eq!(Uuid::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_cannot_break_the_log() {
        let domain = Domain { name: "a\nb".to_owned(), uuid: Uuid::from_bytes([0; 16]) };
        assert_eq!(domain.to_string(), "a\\nb (00000000-0000-0000-0000-000000000000)");
    }
}
