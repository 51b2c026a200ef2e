//! Callers that have to show that they live, for requests that the other host carries out.

use super::*;
use crate::caller::tests::Questions;
use crate::job::CancelToken;

/// A client here has asked for vm1 of node 1, and node 1 asks whether it lives.
struct Contested {
    bench: Bench,
    mail: Answers,
    questions: Questions,
    cancel: CancelToken,
    number: RequestNumber,
}

/// This host powers vm2 off for node 1, if `is_fenced`, while a client here waits for node 1 to fence vm1. Then node
/// 1 asks whether that client lives.
fn contested(is_fenced: bool) -> Contested {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    let (job, mail, cancel, questions) = job_of(source(), Operation::Off, "vm1", bench.now);
    bench.group.turns();
    bench.backend.begin(job, bench.now);
    bench.turn();
    let calls = bench.calls();
    let [ClusterCall { number, .. }] = calls.as_slice() else { panic!("{calls:?}") };
    let number = *number;
    if is_fenced {
        bench.now += Duration::from_millis(1);
        bench.says(&ClusterMessage::Request(ClusterCall {
            number: RequestNumber(5),
            target: NodeId(2),
            name: OWN.to_owned(),
            operation: Operation::Off,
            client_number: 0,
        }));
        assert_eq!(bench.host.runs(OWN), Some(false));
    }
    bench.group.sent();
    bench.now += Duration::from_millis(1);
    let mut contested = Contested { bench, mail, questions, cancel, number };
    contested.asks_for_proof();
    contested
}

fn source() -> Source {
    Source::ip([192, 0, 2, 1].into())
}

impl Contested {
    fn asks_for_proof(&mut self) {
        let number = self.number;
        self.bench.says(&ClusterMessage::ProveCaller { to: NodeId(2), number });
    }

    /// Returns the proofs that were sent since the last call.
    fn proofs(&self) -> Vec<bool> {
        let proof = |message| match message {
            ClusterMessage::CallerProof { to: NodeId(1), number, lives } if number == self.number => {
                Some(lives)
            }
            _ => None,
        };
        self.bench.group.sent().into_iter().filter_map(proof).collect()
    }
}

#[test]
fn a_caller_is_asked_and_the_other_host_is_told_whether_it_lives() {
    for lives in [true, false] {
        let mut contested = contested(true);
        assert_eq!(contested.proofs(), []);
        let mut asked = contested.questions.take();
        let [question] = asked.as_mut_slice() else { panic!("{asked:?}") };
        contested.bench.now += Duration::from_millis(10);
        assert!(question.answer(lives.then_some(contested.bench.now)));
        contested.bench.turn();
        assert_eq!(contested.proofs(), [lives]);
        // The other host says whether it has carried the request out.
        assert_eq!(verdicts(&contested.mail), []);
    }
}

#[test]
fn a_caller_that_nobody_can_have_fenced_is_not_asked() {
    let contested = contested(false);
    assert_eq!((contested.questions.take().len(), contested.proofs()), (0, vec![true]));
}

#[test]
fn a_caller_that_has_hung_up_does_not_live() {
    let mut contested = contested(false);
    assert_eq!(contested.proofs(), [true]);
    contested.cancel.cancel();
    contested.asks_for_proof();
    assert_eq!((contested.questions.take().len(), contested.proofs()), (0, vec![false]));
}

#[test]
fn a_caller_that_gives_no_sign_in_time_does_not_live() {
    let mut contested = contested(true);
    let question = contested.questions.take();
    contested.bench.passes(ANSWER_LIMIT);
    assert_eq!((contested.proofs(), verdicts(&contested.mail)), (vec![false], vec![Verdict::Failure]));
    drop(question);
}
