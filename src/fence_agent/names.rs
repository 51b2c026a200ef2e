//! Names of VMs that an agent can be asked for, and the UUIDs of those that have none.

use sha1::{Digest, Sha1};

use crate::fence::Uuid;

/// Maximum length of a plug, in bytes.
const PLUG_MAX: usize = 128;

/// Namespace of the UUIDs of VMs that an agent lists without one; a random number of this suite's own.
const NAMESPACE: [u8; 16] =
    [0x5d, 0x1f, 0x3c, 0x0e, 0x9b, 0x7a, 0x4e, 0x62, 0x8c, 0x11, 0x27, 0xd4, 0xa0, 0x6f, 0xe3, 0x58];

/// Returns the reason why an agent must not be asked for a VM of this name. An agent trims its values, splits
/// them at commas (fencing.py: several plugs at once), and may pass them to a shell (fence_virsh).
pub fn plug_problem(plug: &str) -> Option<String> {
    let is_plain = |c: char| c.is_alphanumeric() || " ._:@+/-".contains(c);
    if plug.is_empty() {
        return Some("it is empty".to_owned());
    }
    if plug.len() > PLUG_MAX {
        return Some(format!("it is longer than {PLUG_MAX} bytes"));
    }
    if plug.trim() != plug || plug.starts_with('-') || plug.contains(" -") {
        return Some("it begins or ends with a blank, or a word of it begins with a hyphen".to_owned());
    }
    // An agent may write it into a URL, where "100/../101" is 101.
    if plug.split('/').skip(1).any(|part| part.is_empty())
        || plug.split('/').any(|part| part == "." || part == "..")
    {
        return Some("it has a part of a path that leads elsewhere".to_owned());
    }
    let odd = plug.chars().find(|&c| !is_plain(c))?;
    Some(format!("it contains {odd:?}: only letters, digits, blanks and ._:@+/- reach an agent unchanged"))
}

/// Returns the UUID by which a VM without one is known: of version 5 (RFC 9562), from the place and the plug. It
/// is the same on each host and after each start.
pub fn place_uuid(place: &str, plug: &str) -> Uuid {
    let digest = Sha1::new().chain_update(NAMESPACE).chain_update(place).chain_update([0]).chain_update(plug);
    let digest = digest.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_an_agent_would_change_or_split_are_refused() {
        for good in ["100", "vm-1.example", "Größe 2", "qemu/100", "/dc/vm", "..a", "a:b@c+d"] {
            assert_eq!(plug_problem(good), None, "{good}");
        }
        for bad in [
            "", " a", "a ", "-a", "a -b", "a,b", "a;b", "a\nb", "a\"b", "$(a)", "a`b", "a=b", "a#b", "a\0",
            "a/../b", "./a", "..", "a//b", "a/",
        ] {
            assert!(plug_problem(bad).is_some(), "{bad:?}");
        }
        assert!(plug_problem(&"x".repeat(PLUG_MAX + 1)).is_some());
    }

    #[test]
    fn a_uuid_depends_on_the_place_and_the_plug_alone() {
        let uuid = place_uuid("agent:pve", "100");
        assert_eq!(uuid, place_uuid("agent:pve", "100"));
        assert_ne!(uuid, place_uuid("agent:pve", "101"));
        assert_ne!(uuid, place_uuid("agent:pve2", "100"));
        assert_ne!(place_uuid("a", "bc"), place_uuid("ab", "c"));
        let text = uuid.to_string();
        assert_eq!((&text[14..15], matches!(&text[19..20], "8" | "9" | "a" | "b")), ("5", true), "{text}");
    }
}
