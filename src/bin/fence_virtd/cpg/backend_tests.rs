//! The backend with libvirt in memory, and a group that the test controls.

#[path = "fencing_tests.rs"]
mod fencing_tests;
#[path = "permission_tests.rs"]
mod permission_tests;
#[path = "race_tests.rs"]
mod race_tests;
#[path = "restraint_tests.rs"]
mod restraint_tests;
#[path = "served_log_tests.rs"]
mod served_log_tests;

use crossbeam_channel::Receiver;

use super::*;
use crate::access::Permissions;
use crate::backend::libvirt::fake::{Fake, FakeLink};
use crate::cpg::fake::FakeGroup;
use crate::cpg::host_fencing::FakeFencer;
use crate::cpg::shared::GroupEvent;
use crate::inbox::Message;
use crate::job::tests::{Answers, answers, job, job_of};
use crate::libvirt::HeldVms;
use crate::logging::captured;
use crate::restraints::SharedRestraints;
use fence_virt::config::HostFencing;
use fence_virt::fence::{Answer, Domain, PowerState, Request, Source, Target, UriIndex, Uuid};
use fence_virt::groups::{Group, Groups, PermittedNames};
use fence_virt::routing::{
    ANSWER_LIMIT, LocalVm, Membership, Names, OnBehalf, Peer, Rules, TELL_LIMIT, Unknown,
};
use fence_virt::wire::cluster::{
    Advertisement, ClusterCall, ClusterMessage, EVERY_NODE, NodeId, Report, RequestNumber,
};

const OWN: &str = "02020202-0202-0202-0202-020202020202";
const OTHER: &str = "01010101-0101-0101-0101-010101010101";
const SECOND: Duration = Duration::from_secs(1);

/// Node 2 of two, with the VM vm2, which runs.
struct Bench {
    backend: Cpg<FakeLink>,
    group: FakeGroup,
    fencer: FakeFencer,
    host: std::sync::Arc<Fake>,
    now: Instant,
    restraints: SharedRestraints,
    inbox: Receiver<Message>,
}

fn peer(node: u32) -> Peer {
    Peer { node: NodeId(node), pid: node }
}

impl Bench {
    fn new(groups: Groups) -> Bench {
        let mut bench = Bench::starting(groups);
        bench.hear(vec![GroupEvent::Joined(peer(2))]);
        bench.becomes_a_member();
        bench
    }

    /// The daemon has started, and the group has said nothing yet.
    fn starting(groups: Groups) -> Bench {
        let host = Fake::with(&[("vm2", OWN, true)]);
        let permissions = Permissions::new(groups, None);
        let (worker, inbox) = crossbeam_channel::unbounded();
        let links = vec![FakeLink::new(0, &host, &worker)];
        let libvirt = LibvirtBackend::new(links, 1, permissions, worker, HeldVms::default());
        let restraints = SharedRestraints::default();
        let libvirt = libvirt.restrained_by(restraints.clone());
        let (group, link) = FakeGroup::new();
        let rules = Rules { names: Names::Both, host_fence_delay: None, unknown: Unknown::Fail };
        let settings = ClusterSettings { rules, host_fencing: HostFencing::None };
        let (fencer, fencing) = FakeFencer::new();
        let backend = Cpg::new(libvirt, link, fencing, Router::new(rules, 1, RequestNumber(1)), settings);
        let mut bench = Bench { backend, group, fencer, host, now: Instant::now(), restraints, inbox };
        bench.backend.router.configured(Some(vec![NodeId(1), NodeId(2)]), bench.now);
        let uuid = Uuid::parse(OWN).unwrap();
        let vm = LocalVm {
            name: "vm2".to_owned(),
            uuid,
            state: PowerState::Running,
            is_active: true,
            may_run_elsewhere: false,
        };
        bench
            .backend
            .event(Event::Domains { uri: UriIndex(0), change: DomainChange::All(vec![vm]) }, bench.now);
        bench
    }

    fn becomes_a_member(&mut self) {
        let members = vec![peer(1), peer(2)];
        let change = Membership { members: members.clone(), left: Vec::new(), joined: members };
        let votes = GroupEvent::Quorum { is_quorate: true, nodes: vec![NodeId(1), NodeId(2)] };
        self.hear(vec![GroupEvent::Changed(change), votes]);
    }

    /// The worker's turn, with what it has to carry out.
    fn turn(&mut self) {
        loop {
            self.backend.turn(self.now);
            if let Some(call) = self.backend.next_local_call() {
                self.backend.begin_local_call(call.id, self.now);
            } else if let Ok(Message::Event(event)) = self.inbox.try_recv() {
                self.backend.event(event, self.now);
            } else {
                return;
            }
        }
    }

    fn hear(&mut self, events: Vec<GroupEvent>) {
        self.group.tell(events);
        self.turn();
    }

    fn says(&mut self, message: &ClusterMessage) {
        let (at, bytes) = (self.now, message.encode().to_vec());
        self.hear(vec![GroupEvent::Message { from: peer(1), bytes, at, is_old: false }]);
    }

    /// Node 1 is of this suite, and tells that vm1 runs there.
    fn tells_all(&mut self) {
        self.says(&ClusterMessage::Hello { is_complete: false });
        let domain = Domain { name: "vm1".to_owned(), uuid: Uuid::parse(OTHER).unwrap() };
        let (owner, state) = (NodeId(1), PowerState::Running);
        self.says(&ClusterMessage::Store(Advertisement { domain, owner, state, is_active: true }));
        self.says(&ClusterMessage::Hello { is_complete: true });
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
        self.group.turns();
        self.turn();
    }

    fn asks(&mut self, operation: Operation, name: &str) -> Answers {
        let (job, mail, _) = job(operation, name, self.now);
        self.group.turns();
        self.backend.begin(job, self.now);
        self.turn();
        mail
    }

    fn calls(&self) -> Vec<ClusterCall> {
        let call = |message| if let ClusterMessage::Request(call) = message { Some(call) } else { None };
        self.group.sent().into_iter().filter_map(call).collect()
    }
}

fn verdicts(mail: &Answers) -> Vec<Verdict> {
    let verdict = |answer| if let Answer::Verdict(verdict) = answer { verdict } else { panic!("a list") };
    answers(mail).into_iter().map(verdict).collect()
}

#[test]
fn a_request_goes_to_the_other_host_and_its_reply_to_the_client() {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    let mail = bench.asks(Operation::Off, "vm1");
    let calls = bench.calls();
    let [call] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((call.target, call.operation, verdicts(&mail)), (NodeId(1), Operation::Off, vec![]));
    let call = ClusterCall { target: NodeId(2), ..call.clone() };
    bench.says(&ClusterMessage::Report(Report { call, response: 0, evidence: 1, moved_to: None }));
    assert_eq!(verdicts(&mail), [Verdict::Success]);
}

#[test]
fn a_request_of_the_other_host_is_carried_out_here() {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    bench.group.sent();
    let call = ClusterCall {
        number: RequestNumber(5),
        target: NodeId(2),
        name: OWN.to_owned(),
        operation: Operation::Off,
        client_number: 0,
    };
    bench.says(&ClusterMessage::Request(call));
    assert_eq!(bench.host.runs(OWN), Some(false));
    let sent = bench.group.sent();
    assert!(
        matches!(
            sent.as_slice(),
            [ClusterMessage::Report(Report {
                call: ClusterCall { number: RequestNumber(5), .. },
                response: 0,
                evidence: 1,
                moved_to: None
            })]
        ),
        "{sent:?}"
    );
}

#[test]
fn what_is_here_is_done_here_and_nobody_is_told_of_it() {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    bench.group.sent();
    let mail = bench.asks(Operation::Status, "vm2");
    assert_eq!((verdicts(&mail), bench.group.sent()), (vec![Verdict::Success], vec![]));
}

#[test]
fn a_list_waits_for_the_last_host_to_tell() {
    let mut bench = Bench::new(Groups::default());
    let mail = bench.asks(Operation::HostList, "-");
    bench.passes(SECOND);
    assert_eq!(answers(&mail), []);
    assert!(bench.backend.deadline().is_some_and(|at| at > bench.now), "and the worker rests");
    bench.tells_all();
    let all = answers(&mail);
    let [Answer::HostList(entries)] = all.as_slice() else { panic!("{all:?}") };
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["vm1", "vm2"]);
}

#[test]
fn a_list_does_not_wait_for_ever_for_a_corosync_that_hangs() {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    bench.group.hangs(10_000);
    let (job, mail, _) = job(Operation::HostList, "-", bench.now);
    bench.backend.begin(job, bench.now);
    for _ in 0..20 {
        assert_eq!(answers(&mail), []);
        assert!(bench.backend.deadline().is_some_and(|at| at > bench.now), "the worker rests");
        bench.now += SECOND;
        bench.turn();
    }
    bench.now += ANSWER_LIMIT;
    bench.turn();
    assert_eq!(verdicts(&mail), [Verdict::Failure]);
}

#[test]
fn requests_wait_for_the_node_to_become_a_member() {
    use Operation::{Devstatus, HostList, Off, Status};
    let mut bench = Bench::starting(Groups::default());
    let asked = [Status, Devstatus, HostList, Off].map(|operation| bench.asks(operation, "vm2"));
    bench.passes(SECOND);
    bench.hear(vec![GroupEvent::Joined(peer(2))]);
    bench.passes(SECOND - Duration::from_millis(1));
    assert!(asked.iter().all(|mail| answers(mail).is_empty()), "they wait");
    assert!(bench.backend.deadline().is_some_and(|at| at > bench.now), "and the worker rests");
    bench.becomes_a_member();
    bench.tells_all();
    bench.backend.event(Event::Probed { uri: UriIndex(0), outcome: Ok(()) }, bench.now);
    bench.turn();
    let [status, monitor, list, off] = &asked;
    for mail in [status, monitor, off] {
        assert_eq!(verdicts(mail), [Verdict::Success]);
    }
    assert!(matches!(answers(list).as_slice(), [Answer::HostList(_)]));
}

#[test]
fn requests_wait_two_seconds_for_that_and_not_when_corosync_is_gone() {
    let mut bench = Bench::starting(Groups::default());
    let mail = bench.asks(Operation::Off, "vm2");
    bench.passes(2 * SECOND);
    assert_eq!(verdicts(&mail), [Verdict::Failure]);

    let mut bench = Bench::starting(Groups::default());
    let mail = bench.asks(Operation::Off, "vm2");
    bench.hear(vec![GroupEvent::Lost("corosync is not running".to_owned())]);
    assert_eq!(verdicts(&mail), [Verdict::Failure]);
    let mail = bench.asks(Operation::Off, "vm2");
    assert_eq!(verdicts(&mail), [Verdict::Failure], "at once");
    // It joins again.
    bench.hear(vec![GroupEvent::Joined(peer(2))]);
    let mail = bench.asks(Operation::Off, "vm2");
    assert_eq!(verdicts(&mail), []);
    let stale = bench.asks(Operation::Off, "vm2");
    bench.backend.stop();
    assert_eq!((verdicts(&mail), verdicts(&stale)), (vec![Verdict::Failure], vec![Verdict::Failure]));
    assert_eq!(bench.host.runs(OWN), Some(true));
}

#[test]
fn monitor_fails_without_the_group() {
    let mut bench = Bench::new(Groups::default());
    let mail = bench.asks(Operation::Devstatus, "-");
    assert_eq!(verdicts(&mail), [], "libvirt is asked");
    bench.group.hangs(10_000);
    let (job, mail, _) = job(Operation::Devstatus, "-", bench.now);
    bench.backend.begin(job, bench.now);
    assert_eq!(verdicts(&mail), [Verdict::Failure]);
    bench.hear(vec![GroupEvent::Lost("corosync has ended".to_owned())]);
    for operation in [Operation::Devstatus, Operation::HostList, Operation::Status, Operation::Off] {
        let mail = bench.asks(operation, "vm2");
        assert_eq!(verdicts(&mail), [Verdict::Failure], "{operation}");
    }
    assert_eq!(bench.host.runs(OWN), Some(true));
}

#[test]
fn a_crowd_of_questions_does_not_hold_the_worker() {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    let ask = |number| {
        let (target, name) = (EVERY_NODE, format!("nosuch{number}"));
        let number = RequestNumber(number);
        let call = ClusterCall { number, target, name, operation: Operation::Status, client_number: 0 };
        let bytes = ClusterMessage::Request(call).encode().to_vec();
        GroupEvent::Message { from: peer(3), bytes, at: bench.now, is_old: false }
    };
    let members = vec![peer(1), peer(2), peer(3)];
    let change = Membership { members, left: Vec::new(), joined: vec![peer(3)] };
    let crowd = (0..500).map(ask).collect();
    bench.hear(vec![GroupEvent::Changed(change)]);
    bench.now += TELL_LIMIT;
    bench.group.tell(crowd);
    bench.backend.turn(bench.now);
    assert!(bench.backend.deadline().is_some_and(|at| at <= Instant::now()), "there is more to do");
    let before = bench.host.finds();
    assert!(before < 200, "{before} lookups in one turn");
    for _ in 0..20 {
        bench.group.turns();
        bench.backend.turn(bench.now);
    }
    assert_eq!(bench.host.finds(), 500, "and in the end all are looked up");
}

#[test]
fn a_request_of_another_host_is_not_begun_while_nothing_is_heard_of_the_group() {
    for (silence, is_done) in [(0, true), (60_000, false)] {
        let mut bench = Bench::new(Groups::default());
        bench.tells_all();
        bench.group.sent();
        let (number, name) = (RequestNumber(5), OWN.to_owned());
        let operation = Operation::Off;
        let call = ClusterCall { number, target: NodeId(2), name, operation, client_number: 0 };
        let (at, bytes) = (bench.now, ClusterMessage::Request(call).encode().to_vec());
        bench.group.tell(vec![GroupEvent::Message { from: peer(1), bytes, at, is_old: false }]);
        bench.backend.turn(bench.now);
        bench.group.hangs(silence);
        bench.turn();
        assert_eq!(bench.host.runs(OWN), Some(!is_done), "{silence}");
    }
}

#[test]
fn a_call_for_a_client_of_this_host_has_its_caller_and_one_for_another_host_has_none() {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    let _waiting = bench.asks(Operation::Off, "vm1");
    let client = *bench.backend.clients.keys().next().unwrap();
    let [for_client, for_node] = [OnBehalf::Client(client), OnBehalf::Node(NodeId(1))].map(|on_behalf| {
        let request = Request { operation: Operation::Off, target: Target::new(b"vm2").unwrap(), seqno: 0 };
        let call = bench.backend.local_call(request, PermittedNames::All, on_behalf, bench.now, bench.now);
        let id = JobId(99);
        bench.backend.local_calls.add(id, call);
        bench.backend.local_calls.job(id, false, false).unwrap().caller.map(|caller| caller.source)
    });
    assert_eq!((for_client, for_node), (Some(Source::ip("192.0.2.1".parse().unwrap())), None));
}
