use crate::fence::{Operation, Request, Target};

/// Probe for the end of stale answers: a random sequence of harmless queries,
/// whose answers show where the answers to older requests end.
///
/// A response on a line does not identify its request, nor does a call-back of a C daemon. But answers come
/// in the order of the requests: once the answers to the probe have come in order, no older one is pending.
/// No suffix of a probe is also its prefix, so a few older answers before it cannot complete it too early; a
/// full sequence of older ones matches with a chance of 1 in 1,000.
#[derive(Debug, Clone)]
pub struct SyncProbe {
    queries: Vec<Operation>,
    seen: Vec<u8>,
}

/// Beginning of the names that no VM has, for queries that change nothing and tell nothing.
const NOBODY: &str = "no-vm-";

/// Returns a name that no VM has, from 32 random bits: `no-vm-` and 8 hexadecimal digits.
pub fn nobody(random: u32) -> String {
    format!("{NOBODY}{random:08x}")
}

/// True for a query of a probe, by its content: null or status, of a name as [`nobody`] makes them. Whoever sends
/// one touches no VM.
pub fn is_probe(operation: Operation, name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_nobody =
        name.strip_prefix(NOBODY).is_some_and(|digits| digits.len() == 8 && digits.bytes().all(is_digit));
    is_nobody && matches!(operation, Operation::Null | Operation::Status)
}

/// Queries in a probe.
pub const SYNC_PROBE_LEN: usize = 12;

impl SyncProbe {
    /// Makes a probe of 32 random bits.
    pub fn new(random: u32) -> SyncProbe {
        let mut word = random;
        while has_border(word) {
            word = word.wrapping_add(1);
        }
        let query = |at: usize| if bit(word, at) { Operation::Status } else { Operation::Null };
        SyncProbe { queries: (0..SYNC_PROBE_LEN).map(query).collect(), seen: Vec::new() }
    }

    /// Requests to send; `nobody` is a name that no VM has.
    pub fn requests(&self, nobody: &Target, seqno: u32) -> Vec<Request> {
        let request = |(at, &operation): (usize, &Operation)| Request {
            operation,
            target: nobody.clone(),
            seqno: seqno.wrapping_add(at as u32),
        };
        self.queries.iter().enumerate().map(request).collect()
    }

    /// Takes the next answer; returns true once the probe is complete. The answer
    /// to null is failure; to the status of an unknown VM, off or denied.
    pub fn is_over_after(&mut self, answer: u8) -> bool {
        if self.seen.len() == SYNC_PROBE_LEN {
            self.seen.remove(0);
        }
        self.seen.push(answer);
        let fits = |(operation, byte): (&Operation, &u8)| match operation {
            Operation::Status => matches!(byte, 2 | 3),
            _ => *byte == 1,
        };
        self.seen.len() == SYNC_PROBE_LEN && self.queries.iter().zip(&self.seen).all(fits)
    }
}

fn bit(word: u32, at: usize) -> bool {
    word >> at & 1 == 1
}

/// True if a suffix of the word is also its prefix.
fn has_border(word: u32) -> bool {
    (1..SYNC_PROBE_LEN).any(|shift| (shift..SYNC_PROBE_LEN).all(|at| bit(word, at) == bit(word, at - shift)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(probe: &SyncProbe) -> Vec<u8> {
        probe.queries.iter().map(|&query| if query == Operation::Status { 2 } else { 1 }).collect()
    }

    #[test]
    fn a_probe_completes_with_its_last_answer_and_not_before() {
        for choice in 0..1 << SYNC_PROBE_LEN {
            let mut probe = SyncProbe::new(choice);
            let answers = answers(&probe);
            assert!(answers.contains(&1) && answers.contains(&2), "{choice}");
            for older in [&[][..], &[0], &[1], &[2], &[1, 2], &[2, 1, 1], &answers[1..], &answers[..11]] {
                probe.seen.clear();
                let mut all = older.to_vec();
                all.extend(&answers);
                let last = all.pop().unwrap();
                assert!(all.iter().all(|&answer| !probe.is_over_after(answer)), "{choice} {older:?}");
                assert!(probe.is_over_after(last), "{choice} {older:?}");
            }
        }
    }

    #[test]
    fn its_queries_are_harmless() {
        let nobody = Target::new(nobody(0xfe).as_bytes()).unwrap();
        let requests = SyncProbe::new(77).requests(&nobody, u32::MAX - 3);
        assert_eq!(requests.len(), SYNC_PROBE_LEN);
        for (at, request) in requests.iter().enumerate() {
            assert!(is_probe(request.operation, request.target.as_str()), "{request:?}");
            assert_eq!(request.seqno, (u32::MAX - 3).wrapping_add(at as u32));
            assert_eq!(request.target, nobody);
        }
    }

    #[test]
    fn nothing_else_is_a_probe() {
        assert!(is_probe(Operation::Null, "no-vm-000000fe"));
        for operation in Operation::ALL {
            let is_harmless = matches!(operation, Operation::Null | Operation::Status);
            assert_eq!(is_probe(operation, &nobody(7)), is_harmless, "{operation}");
        }
        for name in
            ["", "vm1", "no-vm-", "no-vm-000000f", "no-vm-000000fe0", "no-vm-000000FE", "No-vm-000000fe"]
        {
            assert!(!is_probe(Operation::Status, name), "{name}");
        }
    }
}
