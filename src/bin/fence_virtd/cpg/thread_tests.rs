//! The thread beside a corosync that does as a test says.

#[path = "nodelist_tests.rs"]
mod nodelist_tests;

use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use crossbeam_channel::TryRecvError;

use super::*;
use crate::cpg::group_member::GroupMember;
use crate::cpg::scripted::{Scripted, TestScript};
use crate::cpg::shared::GroupEvent;
use crate::pauses::PAUSE_MAX;
use fence_virt::routing::{Outgoing, Peer, RequestExpiry};
use fence_virt::sys::corosync::{ClusterEvent, CorosyncError, MembershipChange};
use fence_virt::wire::cluster::{MESSAGE_LEN, NodeId};

const TRY_AGAIN: i32 = 6;
const LOST: i32 = 2;
const LIMIT: Duration = Duration::from_secs(10);

/// What the test says, and what it sees.
#[derive(Default)]
struct Script {
    joins: usize,
    /// What joining says, if not that it has worked.
    refuses_to_join: Option<i32>,
    /// What sending says.
    refuses_to_send: Option<i32>,
    /// What it says instead of its first change of the group.
    is_never_a_member: bool,
    /// How long a send takes.
    send_takes: Duration,
    /// What is said while something is sent.
    comes_meanwhile: Vec<u32>,
    is_lost: bool,
    is_frozen: bool,
    to_hear: VecDeque<u32>,
    /// Nodes of this partition, in the quorum events that it hears before the messages.
    quorum: VecDeque<Vec<u32>>,
    /// What the nodelist names.
    nodelist: Option<Vec<u32>>,
    /// What reading it says, if not that it has worked.
    refuses_nodelist: Option<i32>,
    nodelist_reads: usize,
    /// How often something was to be sent.
    attempts: usize,
    sent: Vec<u8>,
    has_left: bool,
}

impl TestScript for Script {
    const LIMIT: Duration = LIMIT;
}

type Fake = Scripted<Script>;

struct FakeMember {
    fake: Fake,
    /// One that is always readable, so that the thread turns, and one that never is.
    fds: (UnixStream, UnixStream),
    is_member: bool,
}

impl GroupConnector for Fake {
    type Member = FakeMember;

    fn join(&self) -> Result<FakeMember, CorosyncError> {
        let mut script = self.script();
        if let Some(code) = script.refuses_to_join {
            return Err(CorosyncError::new("cpg_join", code));
        }
        script.joins += 1;
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(b"x").unwrap();
        Ok(FakeMember { fake: self.clone(), fds: (far, near), is_member: false })
    }
}

impl GroupMember for FakeMember {
    fn peer(&self) -> Peer {
        Peer { node: NodeId(7), pid: 70 }
    }

    fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.fds.0.as_fd(), self.fds.1.as_fd()]
    }

    fn dispatch(&mut self, limit: usize, heard: &mut Vec<ClusterEvent>) -> Result<bool, CorosyncError> {
        self.fake.pause(Duration::from_millis(1));
        self.fake.changed();
        let mut script = self.fake.script();
        if !script.is_never_a_member && !std::mem::replace(&mut self.is_member, true) {
            let members = vec![(3, 30), (7, 70)];
            heard.push(ClusterEvent::Changed(MembershipChange { members, ..MembershipChange::default() }));
        }
        let quorum = script.quorum.drain(..);
        heard.extend(quorum.map(|nodes| ClusterEvent::Quorum { is_quorate: true, nodes }));
        for _ in 0..limit {
            let Some(node) = script.to_hear.pop_front() else { break };
            let bytes = vec![0; MESSAGE_LEN];
            heard.push(ClusterEvent::Message { node, pid: 1, bytes, length: MESSAGE_LEN });
        }
        match std::mem::take(&mut script.is_lost) {
            true => Err(CorosyncError::new("cpg_dispatch", LOST)),
            false => Ok(script.to_hear.is_empty()),
        }
    }

    fn send(&mut self, message: &[u8]) -> Result<(), CorosyncError> {
        let pause = self.fake.script().send_takes;
        self.fake.pause(pause);
        self.fake.changed();
        let mut script = self.fake.script();
        script.attempts += 1;
        if let Some(code) = script.refuses_to_send {
            return Err(CorosyncError::new("cpg_mcast_joined", code));
        }
        script.sent.push(message[0]);
        let meanwhile = std::mem::take(&mut script.comes_meanwhile);
        script.to_hear.extend(meanwhile);
        Ok(())
    }

    fn await_answer(&mut self) -> Result<(), CorosyncError> {
        while self.fake.script().is_frozen {
            self.fake.pause(Duration::from_millis(5));
        }
        Ok(())
    }

    fn configured_nodes(&mut self) -> Result<Option<Vec<NodeId>>, CorosyncError> {
        let mut script = self.fake.script();
        script.nodelist_reads += 1;
        match script.refuses_nodelist {
            Some(code) => Err(CorosyncError::new("cmap_initialize", code)),
            None => Ok(script.nodelist.clone().map(|nodes| nodes.into_iter().map(NodeId).collect())),
        }
    }

    fn leave(self) {
        self.fake.script().has_left = true;
    }
}

struct Bench {
    fake: Fake,
    thread: CpgThreadHandle,
    link: GroupLink,
    first: FirstJoin,
    heard: VecDeque<GroupEvent>,
    _worker: Receiver<Message>,
}

fn bench(fake: Fake) -> Bench {
    let (sender, worker) = bounded(16);
    let SpawnedThread { handle: thread, link, first } = spawn(fake.clone(), &sender).unwrap();
    Bench { fake, thread, link, first, heard: VecDeque::new(), _worker: worker }
}

impl Bench {
    fn joined() -> Bench {
        let mut bench = bench(Fake::default());
        assert_eq!(bench.first.recv_timeout(LIMIT), Ok(Ok(())));
        assert!(matches!(bench.next(), GroupEvent::Joined(Peer { node: NodeId(7), pid: 70 })));
        bench
    }

    /// What is heard next, but for changes of the group, and that there is no nodelist.
    fn next(&mut self) -> GroupEvent {
        let end = Instant::now() + LIMIT;
        loop {
            let heard = self.link.fetch().unwrap().into_iter();
            let is_left_out =
                |event: &GroupEvent| matches!(event, GroupEvent::Changed(_) | GroupEvent::Configured(None));
            self.heard.extend(heard.filter(|event| !is_left_out(event)));
            if let Some(event) = self.heard.pop_front() {
                return event;
            }
            assert!(Instant::now() < end, "nothing is heard");
            self.fake.pause(Duration::from_millis(1));
        }
    }

    fn send(&self, mark: u8, expires: Option<Instant>) {
        let request = |at| RequestExpiry { at, node: NodeId(2), number: RequestNumber(mark.into()) };
        self.link.send(Outgoing { bytes: [mark; MESSAGE_LEN], expiry: expires.map(request) });
    }

    fn stop(self) -> Fake {
        self.thread.stop(Instant::now() + LIMIT);
        self.fake
    }
}

#[test]
fn what_corosync_does_not_take_is_sent_later_in_its_order() {
    let bench = Bench::joined();
    bench.fake.script().refuses_to_send = Some(TRY_AGAIN);
    (1..=3).for_each(|mark| bench.send(mark, None));
    bench.fake.until("it is not tried again", |script| script.attempts > 3);
    assert!(bench.fake.script().sent.is_empty());
    bench.fake.script().refuses_to_send = None;
    bench.fake.until("it is not sent", |script| script.sent == [1, 2, 3]);
}

#[test]
fn what_has_expired_comes_back() {
    let mut bench = Bench::joined();
    bench.fake.script().refuses_to_send = Some(TRY_AGAIN);
    bench.send(1, Some(Instant::now() + Duration::from_millis(30)));
    bench.send(2, Some(Instant::now() + LIMIT));
    bench.send(3, None);
    let GroupEvent::Unsent(request) = bench.next() else { panic!("it does not come back") };
    assert_eq!((request.number.0, bench.fake.script().sent.len()), (1, 0));
    bench.fake.script().refuses_to_send = None;
    bench.fake.until("the others are not sent", |script| script.sent == [2, 3]);
    assert!(bench.link.has_room());
}

#[test]
fn what_was_for_a_group_that_is_lost_is_not_sent_into_the_next() {
    let mut bench = Bench::joined();
    bench.fake.script().is_lost = true;
    bench.fake.until("it does not join again", |script| script.joins == 2);
    // The worker has not heard of the loss yet.
    bench.send(1, None);
    assert!(matches!(bench.next(), GroupEvent::Lost(reason) if reason.contains("corosync is not running")));
    assert!(matches!(bench.next(), GroupEvent::Joined(_)));
    bench.send(2, None);
    bench.fake.until("nothing is sent", |script| script.sent == [2]);
}

#[test]
fn it_has_joined_when_the_worker_can_know_that() {
    let fake = Fake::default();
    fake.script().is_never_a_member = true;
    let mut bench = bench(fake);
    bench.fake.until("it does not join", |script| script.joins == 1);
    bench.fake.script().to_hear.push_back(1);
    while !matches!(bench.next(), GroupEvent::Message { .. }) {}
    assert_eq!(bench.first.try_recv(), Err(TryRecvError::Empty), "the group has not said so");
    bench.fake.script().is_never_a_member = false;
    assert_eq!(bench.first.recv_timeout(LIMIT), Ok(Ok(())));
    let batch = bench.link.fetch().unwrap();
    assert!(matches!(batch.as_slice(), [GroupEvent::Changed(_)]), "it is there to be fetched");
}

#[test]
fn a_corosync_that_ends_before_the_group_has_changed_is_a_failure_to_join() {
    let fake = Fake::default();
    (fake.script().is_never_a_member, fake.script().is_lost) = (true, true);
    let bench = bench(fake);
    let first = bench.first.recv_timeout(LIMIT).unwrap();
    assert!(first.unwrap_err().contains("corosync is not running"));
}

#[test]
fn it_joins_as_soon_as_corosync_is_there() {
    let fake = Fake::default();
    fake.script().refuses_to_join = Some(LOST);
    let mut bench = bench(fake);
    let first = bench.first.recv_timeout(LIMIT).unwrap();
    assert!(first.unwrap_err().contains("corosync is not running"));
    assert!(matches!(bench.next(), GroupEvent::Lost(_)));
    bench.fake.script().refuses_to_join = None;
    while !matches!(bench.next(), GroupEvent::Joined(_)) {}
}

#[test]
fn the_last_words_are_said_before_it_leaves() {
    let bench = Bench::joined();
    bench.fake.script().refuses_to_send = Some(TRY_AGAIN);
    bench.send(1, None);
    let fake = bench.fake.clone();
    let later = thread::spawn(move || {
        fake.until("it is not tried again", |script| script.attempts > 20);
        let mut script = fake.script();
        assert!(!script.has_left);
        script.refuses_to_send = None;
    });
    let fake = bench.stop();
    later.join().unwrap();
    let script = fake.script();
    assert_eq!((script.sent.as_slice(), script.has_left), ([1].as_slice(), true));
}

#[test]
fn a_frozen_corosync_is_noticed_though_nothing_is_sent() {
    let bench = Bench::joined();
    assert!(!bench.link.is_unresponsive());
    bench.fake.script().is_frozen = true;
    let end = Instant::now() + LIMIT;
    while !bench.link.is_unresponsive() {
        assert!(Instant::now() < end, "it is not noticed");
        bench.fake.pause(Duration::from_millis(5));
    }
    assert!(bench.link.is_behind(), "nor is anything judged meanwhile");
    bench.fake.script().is_frozen = false;
    while bench.link.is_unresponsive() {
        assert!(Instant::now() < end, "it is silent for ever");
        bench.fake.pause(Duration::from_millis(5));
    }
}

#[test]
fn a_worker_that_does_not_fetch_loses_nothing() {
    let mut bench = Bench::joined();
    const COUNT: u32 = 100_000;
    bench.fake.script().to_hear.extend(0..COUNT);
    let is_full = |link: &GroupLink| link.events.is_full();
    let end = Instant::now() + LIMIT;
    while !is_full(&bench.link) {
        assert!(Instant::now() < end, "it does not read");
        bench.fake.pause(Duration::from_millis(1));
    }
    assert!(bench.fake.script().to_hear.len() > 50_000, "no more is read than can be kept");
    assert!(bench.link.is_behind());
    for expected in 0..COUNT {
        let GroupEvent::Message { from, is_old, .. } = bench.next() else { panic!("something else") };
        assert_eq!((from.node, is_old), (NodeId(expected), false));
    }
}

#[test]
fn what_was_there_while_it_could_not_read_may_be_old() {
    let mut bench = Bench::joined();
    bench.fake.script().send_takes = PAUSE_MAX + Duration::from_millis(200);
    bench.fake.script().comes_meanwhile.push(1);
    bench.send(1, None);
    let GroupEvent::Message { is_old: true, .. } = bench.next() else { panic!("it is young") };
    bench.fake.script().to_hear.push_back(2);
    let GroupEvent::Message { is_old: false, .. } = bench.next() else { panic!("it is old") };
}
