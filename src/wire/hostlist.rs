use crate::fence::{HostEntry, NAME_MAX, PowerState};

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
    for entry in entries {
        let mut record = [0; RECORD_LEN];
        put_text(&mut record[..64], &entry.name);
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

/// Puts text into a NUL-padded field; text that is too long is cut between characters.
fn put_text(field: &mut [u8], text: &str) {
    let end = (0..=NAME_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    field[..end].copy_from_slice(&text.as_bytes()[..end]);
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

    #[test]
    fn records_survive_a_round_trip() {
        let entry = |state| HostEntry { name: "vm é".into(), uuid: "u-1".into(), state };
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
