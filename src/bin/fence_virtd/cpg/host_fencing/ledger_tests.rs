use super::*;

const SECOND: Duration = Duration::from_secs(1);
const NODE: NodeId = NodeId(3);

fn record(action: &str, completed: i64) -> FencingRecord {
    FencingRecord {
        target: "n3".to_owned(),
        action: action.to_owned(),
        state: FencingState::Done,
        origin: "n1".to_owned(),
        delegate: "n2".to_owned(),
        client: "pacemaker-controld.29".to_owned(),
        completed,
    }
}

/// The records of node 3, in its first stay, as a test lets them come.
struct Bench {
    ledger: Ledger,
    now: Instant,
    stay: StayNumber,
    records: Vec<FencingRecord>,
    takes: Duration,
}

impl Bench {
    fn new() -> Bench {
        let now = Instant::from_boot(1000 * SECOND);
        let (stay, records, takes) = (StayNumber(1), vec![record("reboot", 1)], Duration::ZERO);
        Bench { ledger: Ledger::new(SETTLE_TIME), now, stay, records, takes }
    }

    fn settled() -> Bench {
        let mut bench = Bench::new();
        bench.settles();
        bench
    }

    fn settles(&mut self) {
        assert_eq!(self.asks(true), []);
        self.now += SETTLE_TIME;
        assert_eq!(self.asks(true), []);
        assert_eq!(self.due(), None);
    }

    /// Asks the fencer; returns the fences that show that the host is off.
    fn asks(&mut self, is_live: bool) -> Vec<FencingRecord> {
        let answer = HistoryAnswer {
            node: NODE,
            stay: self.stay,
            records: self.records.clone(),
            asked_at: self.now,
            answered_at: self.now + self.takes,
        };
        self.now = answer.answered_at;
        let fences = self.ledger.learn(answer, is_live).into_iter();
        fences.filter(|fence| fence.is_off).map(|fence| fence.record).collect()
    }

    fn due(&self) -> Option<Instant> {
        self.ledger.due_at(NODE, self.stay, self.now)
    }
}

#[test]
fn a_record_that_comes_after_the_host_has_settled_is_a_fence_once() {
    for action in ["off", "reboot"] {
        let mut bench = Bench::settled();
        let fence = record(action, 2);
        bench.records.insert(0, fence.clone());
        assert_eq!(bench.asks(true), [fence]);
        assert_eq!(bench.asks(true), []);
        // Another one within the same second.
        let fence = record(action, 2);
        bench.records.push(fence.clone());
        assert_eq!(bench.asks(true), [fence]);
    }
}

#[test]
fn what_is_no_fence_does_not_count() {
    let pending = FencingRecord { state: FencingState::Pending, completed: 0, ..record("off", 0) };
    let failed = FencingRecord { state: FencingState::Failed, ..record("reboot", 2) };
    let by_hand = FencingRecord { delegate: "a human".to_owned(), ..record("off", 2) };
    let on = FencingRecord { client: "stonith_admin.7".to_owned(), ..record("on", 2) };
    for other in [pending, failed, by_hand, on] {
        let mut bench = Bench::settled();
        bench.records.push(other.clone());
        assert_eq!(bench.asks(true), [], "{other:?}");
        // A fence that follows it counts nevertheless.
        bench.records.push(record("off", 3));
        assert_eq!(bench.asks(true), [record("off", 3)]);
    }
}

#[test]
fn a_pending_action_that_ends_with_success_is_a_fence() {
    let mut bench = Bench::settled();
    bench.records.push(FencingRecord { state: FencingState::Pending, completed: 0, ..record("off", 0) });
    assert_eq!(bench.asks(true), []);
    bench.records.pop();
    bench.records.push(record("off", 3));
    assert_eq!(bench.asks(true), [record("off", 3)]);
}

#[test]
fn records_taken_over_from_other_nodes_do_not_count() {
    let mut bench = Bench::settled();
    bench.records.push(record("off", 0));
    assert_eq!(bench.asks(false), []);
    assert_eq!(bench.asks(true), [], "it is known by then");
    bench.records.clear();
    assert_eq!(bench.asks(false), [], "somebody has cleared the history");
    bench.records.push(record("off", 0));
    assert_eq!(bench.asks(false), []);
}

#[test]
fn records_before_the_host_has_settled_do_not_count() {
    let mut bench = Bench::new();
    assert_eq!(bench.due(), Some(bench.now), "at once");
    assert_eq!(bench.asks(true), []);
    assert_eq!(bench.due(), Some(bench.now + SETTLE_TIME));
    bench.now += SETTLE_TIME - SECOND;
    bench.records.push(record("off", 2));
    assert_eq!(bench.asks(true), []);
    bench.now += SECOND;
    bench.records.push(record("off", 3));
    assert_eq!(bench.asks(true), []);
    bench.records.push(record("off", 4));
    assert_eq!(bench.asks(true), [record("off", 4)]);
}

#[test]
fn an_answer_that_takes_long_settles_nothing() {
    let mut bench = Bench::new();
    bench.takes = PROMPT_MAX + SECOND;
    assert_eq!(bench.asks(true), []);
    assert_eq!(bench.due(), Some(bench.now - bench.takes + SETTLE_TIME));
    bench.now += SETTLE_TIME;
    bench.takes = Duration::ZERO;
    assert_eq!(bench.asks(true), []);
    bench.now += SETTLE_TIME - SECOND;
    bench.takes = PROMPT_MAX + SECOND;
    assert_eq!(bench.asks(true), [], "the second one is slow");
    bench.takes = Duration::ZERO;
    bench.records.push(record("off", 2));
    assert_eq!(bench.asks(true), []);
    bench.now += SETTLE_TIME;
    assert_eq!(bench.asks(true), []);
    // Once it has settled, a slow answer is as good as any.
    bench.takes = PROMPT_MAX + SECOND;
    bench.records.push(record("off", 3));
    assert_eq!(bench.asks(true), [record("off", 3)]);
}

#[test]
fn a_host_that_is_back_has_to_settle_again() {
    let mut bench = Bench::settled();
    bench.records.push(record("off", 2));
    assert_eq!(bench.asks(true), [record("off", 2)]);
    bench.stay = StayNumber(2);
    assert_eq!(bench.due(), Some(bench.now));
    bench.records.push(record("off", 3));
    assert_eq!(bench.asks(true), [], "of the earlier stay, perhaps");
    bench.now += SETTLE_TIME;
    assert_eq!(bench.asks(true), []);
    bench.records.push(record("off", 4));
    assert_eq!(bench.asks(true), [record("off", 4)]);
}

#[test]
fn a_host_that_is_forgotten_has_to_settle_again() {
    let mut bench = Bench::settled();
    bench.ledger.retain(&BTreeMap::from([(NODE, bench.stay)]));
    assert_eq!(bench.due(), None);
    bench.ledger.retain(&BTreeMap::new());
    bench.records.push(record("off", 2));
    assert_eq!(bench.asks(true), []);
    assert_eq!(bench.due(), Some(bench.now + SETTLE_TIME));
}

#[test]
fn a_host_that_pacemaker_unfences_by_itself_is_not_off() {
    for client in ["pacemaker-controld.29", "pacemaker-fenced.91"] {
        let mut bench = Bench::settled();
        bench.records.push(FencingRecord { client: client.to_owned(), ..record("on", 2) });
        bench.records.push(record("off", 3));
        assert_eq!(bench.asks(true), [], "{client}");
    }
    let mut bench = Bench::settled();
    bench.records.push(record("on", 2));
    assert_eq!(bench.asks(true), []);
    bench.records.push(record("off", 3));
    assert_eq!(bench.asks(true), []);
    // The same fence is reported as one that does not count.
    bench.records.push(record("off", 4));
    let (node, stay, asked_at) = (NODE, bench.stay, bench.now);
    let records = bench.records.clone();
    let answer = HistoryAnswer { node, stay, records, asked_at, answered_at: asked_at };
    assert_eq!(bench.ledger.learn(answer, true), [NewFence { record: record("off", 4), is_off: false }]);
}

#[test]
fn lists_are_subtracted_with_their_repetitions() {
    let subtracted = |list: &[u8], other: &[u8]| without(list, other).copied().collect::<Vec<_>>();
    assert_eq!(subtracted(&[1, 2, 2, 3, 5], &[0, 2, 3, 4]), [1, 2, 5]);
    assert_eq!(subtracted(&[], &[1]), []);
    assert_eq!(subtracted(&[1, 1], &[]), [1, 1]);
}
