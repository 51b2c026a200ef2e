use std::borrow::Cow;
use std::collections::HashMap;

use crate::fence::{HostEntry, NAME_MAX, PowerState, column};

/// Size of a record of a host list, in bytes: name 64, UUID 64, state 1, pad 1.
pub const RECORD_LEN: usize = 130;

/// Byte that announces a host list, sent instead of a verdict.
pub const LIST_BEGIN: u8 = 253;

const STATE_RUNNING: u8 = 1;
const STATE_OFF: u8 = 5;

/// Encodes the answer to a host list request: byte 253, one record for each
/// VM, a record of zeros, and a last byte 0. States are virDomainState numbers,
/// of which only 1 (running) and 5 (off) are sent: clients print all but 1 as off.
pub fn encode_host_list(entries: &[HostEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + (entries.len() + 1) * RECORD_LEN);
    out.push(LIST_BEGIN);
    for (entry, name) in entries.iter().zip(listed_names(entries)) {
        let mut record = [0; RECORD_LEN];
        put_text(&mut record[..64], &name);
        put_text(&mut record[64..128], &entry.uuid);
        record[128] = match entry.state {
            PowerState::Running => STATE_RUNNING,
            PowerState::Off => STATE_OFF,
        };
        out.extend_from_slice(&record);
    }
    out.extend_from_slice(&[0; RECORD_LEN]);
    out.push(0);
    out
}

/// Names as they are listed, one word each: agents print them, and their callers split lines at blanks.
/// A VM that would then have the listed name of another one is listed by its UUID.
fn listed_names(entries: &[HostEntry]) -> Vec<Cow<'_, str>> {
    let names: Vec<Cow<'_, str>> = entries.iter().map(listed_name).collect();
    let is_changed = |(entry, name): (&HostEntry, &Cow<'_, str>)| *name != entry.name;
    if !entries.iter().zip(&names).any(is_changed) {
        return names;
    }
    let mut uses: HashMap<&str, usize> = HashMap::new();
    names.iter().for_each(|name| *uses.entry(name).or_default() += 1);
    let unique = |(entry, name)| {
        let is_ambiguous = is_changed((entry, name)) && uses.get(&**name).is_some_and(|uses| *uses > 1);
        if is_ambiguous { Cow::Borrowed(entry.uuid.as_str()) } else { name.clone() }
    };
    entries.iter().zip(&names).map(unique).collect()
}

/// Name of a VM as one word of at most [`NAME_MAX`] bytes: cut, or its UUID if an escape would be cut.
fn listed_name(entry: &HostEntry) -> Cow<'_, str> {
    match column(&entry.name) {
        name if name == entry.name => Cow::Borrowed(cut(&entry.name)),
        name if name.len() <= NAME_MAX => Cow::Owned(name),
        _ => Cow::Borrowed(&entry.uuid),
    }
}

/// Text, cut between characters if it is longer than [`NAME_MAX`] bytes.
fn cut(text: &str) -> &str {
    let end = (0..=NAME_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

/// Puts text into a NUL-padded field; text that is too long is cut between characters.
fn put_text(field: &mut [u8], text: &str) {
    let text = cut(text).as_bytes();
    field[..text.len()].copy_from_slice(text);
}

/// Decoded record of a host list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// VM.
    Entry(HostEntry),
    /// All zero: end of the list.
    End,
    /// Invalid: a name or UUID that is empty or has no closing NUL.
    Malformed,
}

/// Decodes a record. Every state but 5 (off) counts as running: a C daemon
/// sends libvirt's number, and a VM that is paused or crashed is not off.
pub fn decode_record(bytes: &[u8; RECORD_LEN]) -> Record {
    if bytes.iter().all(|&byte| byte == 0) {
        return Record::End;
    }
    let (Some(name), Some(uuid)) = (text(&bytes[..64]), text(&bytes[64..128])) else {
        return Record::Malformed;
    };
    let state = if bytes[128] == STATE_OFF { PowerState::Off } else { PowerState::Running };
    Record::Entry(HostEntry { name, uuid, state })
}

/// Returns the text up to its NUL, which is required. Bytes after it are ignored: C daemons leave stray ones.
fn text(field: &[u8]) -> Option<String> {
    let end = field.iter().position(|&byte| byte == 0).filter(|&end| end > 0)?;
    Some(String::from_utf8_lossy(&field[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_begin_zeros_and_a_last_byte() {
        let mut expected = vec![253];
        expected.extend([0; 131]);
        assert_eq!(encode_host_list(&[]), expected);
    }

    #[test]
    fn records_are_where_clients_read_them() {
        let entry = |name: &str, state| HostEntry { name: name.into(), uuid: "u-1".into(), state };
        let bytes = encode_host_list(&[entry("vm1", PowerState::Running), entry("vm2", PowerState::Off)]);
        assert_eq!(bytes.len(), 1 + 3 * RECORD_LEN + 1);
        assert_eq!(&bytes[1..5], b"vm1\0");
        assert_eq!(&bytes[65..69], b"u-1\0");
        assert_eq!(bytes[129], 1);
        assert_eq!(bytes[129 + RECORD_LEN], 5);
    }

    #[test]
    fn long_names_keep_their_closing_nul_and_whole_characters() {
        let name = "é".repeat(40);
        let entry = HostEntry { name, uuid: String::new(), state: PowerState::Off };
        let bytes = encode_host_list(&[entry]);
        assert_eq!(&bytes[61..65], "é\0\0".as_bytes());
    }

    /// Names that a list of VMs with these names and the UUIDs u0, u1 and so on has.
    fn listed(names: &[&str]) -> Vec<String> {
        let entry = |(at, name): (usize, &&str)| HostEntry {
            name: name.to_string(),
            uuid: format!("u{at}"),
            state: PowerState::Off,
        };
        let entries: Vec<HostEntry> = names.iter().enumerate().map(entry).collect();
        let bytes = encode_host_list(&entries);
        let decoded = |record: &[u8]| match decode_record(record.try_into().unwrap()) {
            Record::Entry(entry) => entry.name,
            other => panic!("{other:?}"),
        };
        bytes[1..1 + names.len() * RECORD_LEN].chunks(RECORD_LEN).map(decoded).collect()
    }

    #[test]
    fn a_listed_name_is_one_printable_word() {
        let names = ["vm-1", "my vm", "x\u{202e}", "a\\nb", "a\u{2028}on"];
        assert_eq!(listed(&names), ["vm-1", "my\\u{20}vm", "x\\u{202e}", "a\\u{5c}nb", "a\\u{2028}on"]);
        let long = " ".repeat(20);
        assert_eq!(listed(&[&long]), ["u0"], "no escape is cut");
    }

    #[test]
    fn a_vm_is_not_listed_by_the_name_of_another() {
        let exact = "n".repeat(63);
        let [one, other] = ["a", "b"].map(|end| exact.clone() + end);
        assert_eq!(listed(&[&one]), [exact.as_str()]);
        assert_eq!(listed(&[&one, &other, "c"]), ["u0", "u1", "c"]);
        assert_eq!(listed(&[&exact, &one]), [exact.as_str(), "u1"], "which can be asked for by its name");
        assert_eq!(listed(&["a b", "a\\u{20}b"]), ["u0", "a\\u{20}b"]);
        assert_eq!(listed(&["a", "a"]), ["a", "a"], "VMs with one name keep it");
    }

    #[test]
    fn records_survive_a_round_trip() {
        let entry = |state| HostEntry { name: "vm-é".into(), uuid: "u-1".into(), state };
        for state in [PowerState::Running, PowerState::Off] {
            let bytes = encode_host_list(&[entry(state)]);
            assert_eq!(decode_record(bytes[1..131].try_into().unwrap()), Record::Entry(entry(state)));
            assert_eq!(decode_record(bytes[131..261].try_into().unwrap()), Record::End);
        }
    }

    #[test]
    fn every_state_of_libvirt_but_off_counts_as_running() {
        let mut record = [0; RECORD_LEN];
        record[0] = b'a';
        record[64] = b'u';
        for state in 0..=u8::MAX {
            record[128] = state;
            let Record::Entry(entry) = decode_record(&record) else { panic!("{state}") };
            assert_eq!(entry.state == PowerState::Off, state == 5, "{state}");
        }
    }

    #[test]
    fn fields_without_a_closing_nul_are_malformed() {
        let mut record = [b'a'; RECORD_LEN];
        assert_eq!(decode_record(&record), Record::Malformed);
        record[63] = 0;
        assert_eq!(decode_record(&record), Record::Malformed, "the UUID runs on");
        record[127] = 0;
        assert!(matches!(decode_record(&record), Record::Entry(_)));
        record[0] = 0;
        assert_eq!(decode_record(&record), Record::Malformed, "no name");
    }
}
