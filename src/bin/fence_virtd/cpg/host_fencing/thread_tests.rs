//! The thread beside a fencer that does as a test says.

#[path = "source_tests.rs"]
mod source_tests;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use crossbeam_channel::Receiver;

use super::*;
use crate::cpg::host_fencing::fencer::Fencer;
use crate::cpg::scripted::{Scripted, TestScript};
use crate::cpg::shared::GroupEvent;
use crate::inbox::Event;
use fence_virt::config::HostFencing;
use fence_virt::routing::{Departure, Membership, Peer};
use fence_virt::sys::stonith::{FencerEvent, FencingRecord, FencingState};
use fence_virt::wire::cluster::NodeId;

const LIMIT: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_millis(50);

/// What the test says, and what it sees.
#[derive(Default)]
struct Script {
    is_away: bool,
    is_frozen: bool,
    records: BTreeMap<NodeId, Vec<FencingRecord>>,
    /// Kinds of events that are awaited, with the other ends of the connections.
    awaiting: Vec<(FencerEvent, UnixStream)>,
    /// An event that comes while the next question is answered.
    comes_meanwhile: Option<FencerEvent>,
    questions: usize,
    connects: usize,
    /// Connections that are open.
    open: usize,
}

impl Script {
    fn happens(&mut self, event: FencerEvent) {
        for (_, connection) in self.awaiting.iter_mut().filter(|(awaited, _)| *awaited == event) {
            // The connection may have been replaced.
            let _ = connection.write_all(b"x");
        }
    }

    fn adds(&mut self, node: u32, action: &str) {
        let records = self.records.entry(NodeId(node)).or_default();
        let completed = i64::try_from(records.len()).unwrap();
        let [target, origin, delegate, client] = ["n", "n1", "n1", "x.1"].map(str::to_owned);
        let (action, state) = (action.to_owned(), FencingState::Done);
        records.push(FencingRecord { target, action, state, origin, delegate, client, completed });
    }
}

impl TestScript for Script {
    const LIMIT: Duration = LIMIT;
}

type Fake = Scripted<Script>;

impl Fake {
    /// An action has ended with success, as the fencer sees itself.
    fn fences(&self, node: u32, action: &str) {
        let mut script = self.script();
        script.adds(node, action);
        script.happens(FencerEvent::FencingEnded);
    }

    /// The fencer takes over a record.
    fn syncs(&self, node: u32, action: &str) {
        let mut script = self.script();
        script.adds(node, action);
        script.happens(FencerEvent::HistorySynced);
    }
}

impl Script {
    /// No connection is open.
    fn is_left(&self) -> bool {
        self.open == 0
    }
}

struct FakeHandle {
    fake: Fake,
    near: Option<UnixStream>,
    far: UnixStream,
}

impl FencerConnector for Fake {
    type Fencer = FakeHandle;

    fn connect(&self) -> Result<FakeHandle, String> {
        let mut script = self.script();
        script.connects += 1;
        self.changed();
        if script.is_away {
            return Err("it is away".to_owned());
        }
        script.open += 1;
        let (near, far) = UnixStream::pair().unwrap();
        Ok(FakeHandle { fake: self.clone(), near: Some(near), far })
    }

    fn library(&self) -> Option<&str> {
        Some("libfake.so.1")
    }
}

impl Drop for FakeHandle {
    fn drop(&mut self) {
        self.fake.script().open -= 1;
        self.fake.changed();
    }
}

impl Fencer for FakeHandle {
    fn await_event(&mut self, event: FencerEvent) -> Result<(), String> {
        let near = self.near.take().expect("a connection is for one kind of event");
        self.fake.script().awaiting.push((event, near));
        Ok(())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.far.as_fd()
    }

    fn history(&mut self, node: NodeId) -> Result<Vec<FencingRecord>, String> {
        while self.fake.script().is_frozen {
            self.fake.pause(Duration::from_millis(5));
        }
        let mut script = self.fake.script();
        if script.is_away {
            return Err("it has gone".to_owned());
        }
        let records = script.records.get(&node).cloned().unwrap_or_default();
        script.questions += 1;
        if let Some(event) = script.comes_meanwhile.take() {
            script.happens(event);
        }
        self.fake.changed();
        Ok(records)
    }
}

/// Report of the quorum service.
fn votes(nodes: &[u32]) -> GroupEvent {
    GroupEvent::Quorum { is_quorate: true, nodes: nodes.iter().copied().map(NodeId).collect() }
}

struct Bench {
    fake: Fake,
    handle: FencerThreadHandle,
    link: FencingLink,
    worker: Receiver<Message>,
}

impl Bench {
    /// Node 2 with nodes 1 and 3, beside this fencer.
    fn beside(fake: Fake) -> Bench {
        let (sender, worker) = bounded(16);
        let SpawnedFencer { handle, mut link } = spawn_settling(fake.clone(), &sender, SETTLE).unwrap();
        link.set_source(HostFencing::Auto);
        link.hear(&GroupEvent::Joined(Peer { node: NodeId(2), pid: 2 }));
        link.hear(&votes(&[1, 2, 3]));
        Bench { fake, handle, link, worker }
    }

    /// All hosts have settled: each was asked about twice.
    fn settled() -> Bench {
        let bench = Bench::beside(Fake::default());
        bench.fake.until("the hosts do not settle", |script| script.questions == 4);
        bench
    }

    fn loses_1(&mut self) {
        self.link.hear(&votes(&[2, 3]));
    }

    /// Waits until the fencer is asked about all hosts again, some times.
    fn asks_again(&self, times: usize, cause: impl Fn(&Fake)) {
        let before = self.fake.script().questions;
        cause(&self.fake);
        self.fake.until("it does not ask again", |script| script.questions >= before + 2 * times);
    }

    /// Waits for fences of lost hosts.
    fn fenced(&mut self) -> Vec<NodeId> {
        let end = Instant::now() + LIMIT;
        loop {
            let fenced = self.link.take_fenced(Instant::now());
            if !fenced.is_empty() {
                return fenced;
            }
            assert!(Instant::now() < end, "no fence is reported");
            self.fake.pause(Duration::from_millis(2));
        }
    }

    /// Nothing is reported of what the fencer has recorded so far: a fence that follows is the first.
    fn reports_nothing_of_1(&mut self) {
        self.link.hear(&votes(&[2]));
        self.fake.fences(3, "off");
        assert_eq!(self.fenced(), [NodeId(3)]);
    }

    fn awaits(&self, what: &str, is_so: impl Fn(&FencerState) -> bool) {
        let end = Instant::now() + LIMIT;
        while !self.link.state().is_some_and(|state| is_so(&state)) {
            assert!(Instant::now() < end, "{what}");
            self.fake.pause(Duration::from_millis(2));
        }
    }
}

#[test]
fn a_fence_is_reported_and_nothing_is_asked_while_nothing_happens() {
    let mut bench = Bench::settled();
    assert_eq!(bench.link.state(), Some(FencerState::Connected("libfake.so.1".to_owned())));
    assert!(bench.link.answers());
    bench.loses_1();
    bench.fake.pause(4 * SETTLE);
    assert_eq!(bench.fake.script().questions, 4, "a loss is no reason to ask");
    let is_wake = |message| matches!(message, Some(Message::Event(Event::Cluster)));
    assert!(is_wake(bench.worker.try_recv().ok()), "the worker is woken for the state");
    assert!(bench.worker.try_recv().is_err());
    bench.fake.fences(1, "reboot");
    assert!(is_wake(bench.worker.recv_timeout(LIMIT).ok()), "and for the fence");
    assert_eq!(bench.fenced(), [NodeId(1)]);
    assert_eq!(bench.fake.script().questions, 6);
}

#[test]
fn every_fence_of_several_is_reported() {
    let mut bench = Bench::settled();
    bench.link.hear(&votes(&[2]));
    bench.fake.fences(1, "off");
    bench.fake.fences(3, "off");
    let mut fenced = bench.fenced();
    while fenced.len() < 2 {
        fenced.extend(bench.fenced());
    }
    fenced.sort_unstable();
    assert_eq!(fenced, [NodeId(1), NodeId(3)]);
    bench.fake.fences(1, "reboot");
    assert_eq!(bench.fenced(), [NodeId(1)]);
}

#[test]
fn records_that_the_fencer_takes_over_are_no_news() {
    let mut bench = Bench::settled();
    bench.loses_1();
    bench.asks_again(1, |fake| fake.syncs(1, "off"));
    bench.reports_nothing_of_1();
}

#[test]
fn a_record_that_comes_with_events_of_both_kinds_is_no_news() {
    // Both have come before the question, or one while it is answered.
    for (first, then) in [
        (FencerEvent::FencingEnded, None),
        (FencerEvent::HistorySynced, Some(FencerEvent::FencingEnded)),
        (FencerEvent::FencingEnded, Some(FencerEvent::HistorySynced)),
    ] {
        let mut bench = Bench::settled();
        bench.loses_1();
        // The second one makes it ask once more.
        bench.asks_again(1 + usize::from(then.is_some()), |fake| {
            let mut script = fake.script();
            script.adds(1, "off");
            script.comes_meanwhile = then;
            script.happens(first);
            if then.is_none() {
                script.happens(FencerEvent::HistorySynced);
            }
        });
        bench.reports_nothing_of_1();
    }
}

#[test]
fn an_event_that_comes_while_it_asks_about_another_host_counts() {
    let mut bench = Bench::settled();
    bench.loses_1();
    // Node 4 appears, so that something is asked.
    {
        let mut script = bench.fake.script();
        script.adds(1, "off");
        script.comes_meanwhile = Some(FencerEvent::FencingEnded);
    }
    bench.link.hear(&votes(&[2, 3, 4]));
    assert_eq!(bench.fenced(), [NodeId(1)]);
}

#[test]
fn a_host_that_is_back_has_to_settle() {
    let mut bench = Bench::settled();
    bench.loses_1();
    let before = bench.fake.script().questions;
    bench.link.hear(&votes(&[1, 2, 3]));
    bench.fake.until("it does not settle", |script| script.questions == before + 2);
    // Its daemon joins the group: it may have been off before that.
    let peer = Peer { node: NodeId(1), pid: 7 };
    let change = Membership { members: vec![peer], left: Vec::new(), joined: vec![peer] };
    bench.link.hear(&GroupEvent::Changed(change.clone()));
    bench.fake.until("it does not settle again", |script| script.questions == before + 4);
    let left = vec![(peer, Departure::Node)];
    bench.link.hear(&GroupEvent::Changed(Membership { members: Vec::new(), left, joined: Vec::new() }));
    bench.loses_1();
    bench.fake.fences(1, "off");
    assert_eq!(bench.fenced(), [NodeId(1)]);
}

#[test]
fn a_fencer_that_is_back_begins_anew() {
    let mut bench = Bench::settled();
    bench.loses_1();
    {
        let mut script = bench.fake.script();
        script.is_away = true;
        // The other ends are closed: the connections are readable.
        script.awaiting.clear();
    }
    bench.awaits("the loss is not noticed", |state| *state == FencerState::Lost("it is away".to_owned()));
    {
        let mut script = bench.fake.script();
        // While nobody watched.
        script.adds(1, "off");
        (script.is_away, script.questions) = (false, 0);
    }
    bench.awaits("it does not connect again", |state| matches!(state, FencerState::Connected(_)));
    bench.fake.until("the hosts do not settle", |script| script.questions == 4);
    bench.reports_nothing_of_1();
}

#[test]
fn a_fencer_that_was_never_there_is_absent() {
    let fake = Fake::default();
    fake.script().is_away = true;
    let bench = Bench::beside(fake);
    bench.awaits("it is not absent", |state| *state == FencerState::Absent("it is away".to_owned()));
    bench.fake.script().is_away = false;
    bench.awaits("it does not try again", |state| matches!(state, FencerState::Connected(_)));
    bench.handle.begin_stop();
    bench.handle.join();
    assert!(bench.link.commands.post(FencerCommand::HostsChanged).is_err(), "it has ended");
}

#[test]
fn a_frozen_fencer_holds_up_neither_the_worker_nor_the_end() {
    let mut bench = Bench::settled();
    bench.fake.script().is_frozen = true;
    for _ in 0..1000 {
        bench.link.hear(&votes(&[2, 3]));
        bench.link.hear(&votes(&[1, 2, 3]));
    }
    assert_eq!(bench.link.take_fenced(Instant::now()), []);
    bench.handle.begin_stop();
    let began = Instant::now();
    bench.handle.join();
    assert!(began.elapsed() < LIMIT / 2);
    bench.fake.script().is_frozen = false;
}
