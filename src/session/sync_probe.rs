use crate::fence::{Operation, Request, Target};

/// A random row of harmless questions, whose answers tell where the answers
/// to older requests end.
///
/// Responses on a line do not say which request they answer, and a C daemon
/// that calls back does not say for which. But it answers in the order of the
/// requests: when the answers to the row have come in their order, nothing
/// older is left. No end of a row is its beginning, so that a few older
/// answers before it cannot make it seem over too early; a whole row of older
/// ones fits by a chance of 1 in 1,000.
#[derive(Debug, Clone)]
pub struct SyncProbe {
    questions: Vec<Operation>,
    seen: Vec<u8>,
}

/// Questions in a row.
pub const SYNC_PROBE_LEN: usize = 12;

impl SyncProbe {
    /// Makes a row of random bits.
    pub fn new(choice: u32) -> SyncProbe {
        let mut word = choice;
        while has_border(word) {
            word = word.wrapping_add(1);
        }
        let question = |at: usize| if bit(word, at) { Operation::Status } else { Operation::Null };
        SyncProbe { questions: (0..SYNC_PROBE_LEN).map(question).collect(), seen: Vec::new() }
    }

    /// The questions, about nothing or about `nobody`, which is a name that no VM has.
    pub fn requests(&self, nobody: &Target, seqno: u32) -> Vec<Request> {
        let request = |(at, &operation): (usize, &Operation)| Request {
            operation,
            target: nobody.clone(),
            seqno: seqno.wrapping_add(at as u32),
        };
        self.questions.iter().enumerate().map(request).collect()
    }

    /// An answer came; true when the row is over. null is failure; the status
    /// of a VM that does not exist is off, or nobody may ask for it.
    pub fn is_over_after(&mut self, answer: u8) -> bool {
        if self.seen.len() == SYNC_PROBE_LEN {
            self.seen.remove(0);
        }
        self.seen.push(answer);
        let fits = |(operation, byte): (&Operation, &u8)| match operation {
            Operation::Status => matches!(byte, 2 | 3),
            _ => *byte == 1,
        };
        self.seen.len() == SYNC_PROBE_LEN && self.questions.iter().zip(&self.seen).all(fits)
    }
}

fn bit(word: u32, at: usize) -> bool {
    word >> at & 1 == 1
}

/// Whether an end of the word is also its beginning.
fn has_border(word: u32) -> bool {
    (1..SYNC_PROBE_LEN).any(|shift| (shift..SYNC_PROBE_LEN).all(|at| bit(word, at) == bit(word, at - shift)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(row: &SyncProbe) -> Vec<u8> {
        row.questions.iter().map(|&question| if question == Operation::Status { 2 } else { 1 }).collect()
    }

    #[test]
    fn a_row_is_over_with_its_last_answer_and_not_before() {
        for choice in 0..1 << SYNC_PROBE_LEN {
            let mut row = SyncProbe::new(choice);
            let answers = answers(&row);
            assert!(answers.contains(&1) && answers.contains(&2), "{choice}");
            for older in [&[][..], &[0], &[1], &[2], &[1, 2], &[2, 1, 1], &answers[1..], &answers[..11]] {
                row.seen.clear();
                let mut all = older.to_vec();
                all.extend(&answers);
                let last = all.pop().unwrap();
                assert!(all.iter().all(|&answer| !row.is_over_after(answer)), "{choice} {older:?}");
                assert!(row.is_over_after(last), "{choice} {older:?}");
            }
        }
    }

    #[test]
    fn its_questions_do_nothing() {
        let nobody = Target::new(b"nobody").unwrap();
        let requests = SyncProbe::new(77).requests(&nobody, u32::MAX - 3);
        assert_eq!(requests.len(), SYNC_PROBE_LEN);
        for (at, request) in requests.iter().enumerate() {
            assert!(matches!(request.operation, Operation::Null | Operation::Status));
            assert_eq!(request.seqno, (u32::MAX - 3).wrapping_add(at as u32));
            assert_eq!(request.target, nobody);
        }
    }
}
