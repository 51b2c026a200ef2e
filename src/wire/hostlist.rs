use crate::fence::{HostEntry, NAME_MAX, PowerState};

/// Size of a record of a host list, in bytes: name 64, UUID 64, state 1, pad 1.
pub const RECORD_LEN: usize = 130;

const BEGIN: u8 = 253;
const STATE_RUNNING: u8 = 1;
const STATE_OFF: u8 = 5;

/// The answer to a host list request: the byte 253, a record a VM, a record
/// of zeros, and a last byte 0. States are virDomainState numbers, of which
/// only 1 (running) and 5 (off) are sent: clients print all but 1 as off.
pub fn encode_host_list(entries: &[HostEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + (entries.len() + 1) * RECORD_LEN);
    out.push(BEGIN);
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

/// Puts text into a NUL-padded field, cut between characters where it is too long.
fn put_text(field: &mut [u8], text: &str) {
    let end = (0..=NAME_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    field[..end].copy_from_slice(&text.as_bytes()[..end]);
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
    fn records_stand_where_clients_read_them() {
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
}
