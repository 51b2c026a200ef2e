//! The backend with libvirt in memory, and a group that the test controls.

use crossbeam_channel::Receiver;

use super::*;
use crate::access::Permissions;
use crate::backend::libvirt::fake::{Fake, FakeLink};
use crate::cpg::fake::FakeGroup;
use crate::inbox::Message;
use crate::job::tests::{Answers, answers, job, job_of};
use crate::libvirt::HeldVms;
use crate::logging::captured;
use fence_virt::fence::{Answer, Domain, PowerState, Source, UriIndex, Uuid};
use fence_virt::groups::{Group, Groups};
use fence_virt::routing::{LocalVm, Membership, Names, Peer, Rules, TELL_LIMIT, Unknown};
use fence_virt::wire::cluster::{
    Advertisement, ClusterCall, ClusterMessage, EVERY_NODE, NodeId, RequestNumber,
};

const OWN: &str = "02020202-0202-0202-0202-020202020202";
const OTHER: &str = "01010101-0101-0101-0101-010101010101";
const SECOND: Duration = Duration::from_secs(1);

/// Node 2 of two, with the VM vm2, which runs.
struct Bench {
    backend: Cpg<FakeLink>,
    group: FakeGroup,
    host: std::sync::Arc<Fake>,
    now: Instant,
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
        let (group, link) = FakeGroup::new();
        let rules = Rules { names: Names::Both, host_fence_delay: None, unknown: Unknown::Fail };
        let backend = Cpg::new(libvirt, link, Router::new(rules, 1, RequestNumber(1)));
        let mut bench = Bench { backend, group, host, now: Instant::now(), inbox };
        let uuid = Uuid::parse(OWN).unwrap();
        let vm = LocalVm { name: "vm2".to_owned(), uuid, state: PowerState::Running, is_active: true };
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
    bench.says(&ClusterMessage::Reply {
        call: ClusterCall { target: NodeId(2), ..call.clone() },
        response: 0,
    });
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
            [ClusterMessage::Reply { call: ClusterCall { number: RequestNumber(5), .. }, response: 0 }]
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
fn a_group_that_has_the_uuid_alone_permits_the_name_when_the_vm_is_told() {
    let group = Group::new(&["192.0.2.1".to_owned()], &[OTHER.to_owned()]);
    let mut bench = Bench::new(Groups::new(vec![group]));
    let mail = bench.asks(Operation::Off, "vm1");
    assert_eq!(verdicts(&mail), [], "it is not told yet");
    bench.tells_all();
    let calls = bench.calls();
    let off = calls.iter().filter(|call| call.operation == Operation::Off);
    assert_eq!((verdicts(&mail), off.count()), (vec![], 1), "now it is asked for");
    let mail = bench.asks(Operation::Off, "vm2");
    assert_eq!(verdicts(&mail), [Verdict::Denied]);

    let group = Group::new(&["192.0.2.1".to_owned()], &[OTHER.to_owned()]);
    let mut bench = Bench::new(Groups::new(vec![group]));
    let mail = bench.asks(Operation::Off, "vm1");
    bench.passes(TELL_LIMIT);
    assert_eq!(verdicts(&mail), [Verdict::Denied], "nobody has told it");
}

/// A group of the clients' address that lists this VM.
fn listing(listed: &[&str]) -> Groups {
    let listed: Vec<String> = listed.iter().map(|name| name.to_string()).collect();
    Groups::new(vec![Group::new(&["192.0.2.1".to_owned()], &listed)])
}

/// Node 1, of this suite or a C daemon, has a VM of this name, which has the UUID of vm2, and is off.
fn borrows(bench: &mut Bench, name: &str, is_extended: bool) {
    if is_extended {
        bench.says(&ClusterMessage::Hello { is_complete: false });
    }
    let domain = Domain { name: name.to_owned(), uuid: Uuid::parse(OWN).unwrap() };
    let (owner, state) = (NodeId(1), PowerState::Off);
    bench.says(&ClusterMessage::Store(Advertisement { domain, owner, state, is_active: false }));
    if is_extended {
        bench.says(&ClusterMessage::Hello { is_complete: true });
    }
    bench.passes(TELL_LIMIT);
    bench.group.sent();
}

#[test]
fn a_group_that_lists_the_name_of_one_copy_permits_no_other() {
    for is_extended in [true, false] {
        for (listed, expected) in [
            (&["mine"][..], vec![Verdict::Denied]),
            (&["vm2"], vec![Verdict::Denied]),
            (&["mine", "VM2"], vec![]),
            (&[OWN], vec![]),
        ] {
            for name in ["mine", "vm2", OWN] {
                let mut bench = Bench::new(listing(listed));
                borrows(&mut bench, "mine", is_extended);
                let mail = bench.asks(Operation::Off, name);
                assert_eq!(verdicts(&mail), expected, "{name} {listed:?} {is_extended}");
                assert_eq!(bench.host.runs(OWN), Some(!expected.is_empty()), "{name} {listed:?}");
                assert_eq!(bench.calls().is_empty(), !expected.is_empty(), "{name} {listed:?}");
            }
        }
    }
}

#[test]
fn a_list_shows_a_vm_of_the_cluster_under_a_name_by_which_it_is_permitted() {
    for (listed, expected) in [("mine", "mine"), ("vm2", "vm2"), (OWN, "vm2")] {
        let mut bench = Bench::new(listing(&[listed]));
        borrows(&mut bench, "mine", true);
        let mail = bench.asks(Operation::HostList, "-");
        let all = answers(&mail);
        let [Answer::HostList(entries)] = all.as_slice() else { panic!("{all:?}") };
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, [expected], "{listed}");
    }
}

#[test]
fn a_requester_whose_name_or_uuid_another_host_has_is_not_known_by_its_name() {
    const FREE: &str = "03030303-0303-0303-0303-030303030303";
    for (name, uuid, expected) in [
        ("mine", OWN, Verdict::Denied),
        ("vm2", FREE, Verdict::Denied),
        ("vm2", OWN, Verdict::Success),
        ("mine", FREE, Verdict::Success),
    ] {
        let mut bench = Bench::new(Groups::new(vec![Group::new(&[], &["vm2".to_owned()])]));
        bench.says(&ClusterMessage::Hello { is_complete: false });
        let domain = Domain { name: name.to_owned(), uuid: Uuid::parse(uuid).unwrap() };
        let (owner, state) = (NodeId(1), PowerState::Off);
        bench.says(&ClusterMessage::Store(Advertisement { domain, owner, state, is_active: false }));
        bench.says(&ClusterMessage::Hello { is_complete: true });
        let domain = Domain { name: "vm2".to_owned(), uuid: Uuid::parse(OWN).unwrap() };
        let source = Source::Domain(std::sync::Arc::new(domain));
        for operation in [Operation::Status, Operation::HostList] {
            let (job, mail, ..) = job_of(source.clone(), operation, OWN, bench.now);
            bench.group.turns();
            bench.backend.begin(job, bench.now);
            bench.turn();
            match answers(&mail).as_slice() {
                [Answer::Verdict(verdict)] => assert_eq!(*verdict, expected, "{name} {uuid}"),
                [Answer::HostList(entries)] => {
                    assert_eq!(entries.is_empty(), expected == Verdict::Denied, "{name} {uuid}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn off(number: u32, target: NodeId, name: &str) -> ClusterMessage {
    let (number, name) = (RequestNumber(number), name.to_owned());
    ClusterMessage::Request(ClusterCall { number, target, name, operation: Operation::Off, client_number: 0 })
}

fn responses(bench: &Bench) -> Vec<u32> {
    let response = |message| match message {
        ClusterMessage::Reply { response, .. } => Some(response),
        _ => None,
    };
    bench.group.sent().into_iter().filter_map(response).collect()
}

#[test]
fn another_host_permits_the_name_that_it_was_told_and_no_other() {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    bench.group.sent();
    // No event has told this yet.
    bench.host.domains.borrow_mut().get_mut(OWN).unwrap().name = "renamed".to_owned();
    bench.says(&off(5, NodeId(2), OWN));
    assert_eq!((bench.host.runs(OWN), responses(&bench)), (Some(true), vec![1]));
    let uuid = Uuid::parse(OWN).unwrap();
    let vm = LocalVm { name: "renamed".to_owned(), uuid, state: PowerState::Running, is_active: true };
    bench.backend.event(Event::Domains { uri: UriIndex(0), change: DomainChange::One(vm) }, bench.now);
    bench.turn();
    bench.group.sent();
    bench.says(&off(6, NodeId(2), OWN));
    assert_eq!((bench.host.runs(OWN), responses(&bench)), (Some(false), vec![0]));
}

#[test]
fn a_c_daemon_permits_what_it_names() {
    for (name, expected) in [("mine", 1), ("vm2", 0), (OWN, 0)] {
        let mut bench = Bench::new(Groups::default());
        borrows(&mut bench, "mine", false);
        bench.says(&off(5, EVERY_NODE, name));
        assert_eq!(
            (bench.host.runs(OWN), responses(&bench)),
            (Some(expected == 1), vec![expected]),
            "{name}"
        );
    }
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
        bench.backend.local_calls.job(id, false).unwrap().caller.map(|caller| caller.source)
    });
    assert_eq!((for_client, for_node), (Some(Source::ip("192.0.2.1".parse().unwrap())), None));
}

#[test]
fn what_is_done_for_another_host_is_logged_like_a_clients_request() {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    captured();
    let call = |operation, name: &str, number| {
        let (target, number) = (NodeId(2), RequestNumber(number));
        ClusterMessage::Request(ClusterCall {
            name: name.to_owned(),
            operation,
            number,
            target,
            client_number: 0,
        })
    };
    let received = bench.now;
    bench.host.hold(&format!("power-off {OWN}"));
    bench.says(&call(Operation::Off, OWN, 1));
    assert_eq!(captured(), [""; 0], "not yet");
    bench.now = received + SECOND;
    bench.host.release();
    bench.turn();
    let done = format!("INFO: cpg: node 1: off \"{OWN}\": success: destroyed on uri0, verified off: 1000 ms");
    assert_eq!(captured(), [done]);
    bench.says(&call(Operation::Status, OWN, 2));
    let status = format!("INFO: cpg: node 1: status \"{OWN}\": off: off on uri0: 0 ms");
    assert_eq!(captured(), [status]);
    bench.host.domains.borrow_mut().clear();
    bench.says(&call(Operation::Off, OWN, 3));
    let [gone] = captured().try_into().unwrap();
    assert!(gone.starts_with(&format!("WARN: cpg: node 1: off \"{OWN}\": failure: ")), "{gone}");
    // For a client of this host, the line of its listener says it.
    let _mail = bench.asks(Operation::Status, "vm2");
    assert_eq!(captured(), [""; 0]);
}

#[test]
fn what_is_done_for_a_host_that_has_left_is_logged_too() {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    bench.host.hold(&format!("power-off {OWN}"));
    let (target, number) = (NodeId(2), RequestNumber(1));
    let call =
        ClusterCall { name: OWN.to_owned(), operation: Operation::Off, number, target, client_number: 0 };
    bench.says(&ClusterMessage::Request(call));
    captured();
    let left = vec![(peer(1), fence_virt::routing::Departure::Process)];
    let change = Membership { members: vec![peer(2)], left, joined: Vec::new() };
    bench.hear(vec![GroupEvent::Changed(change)]);
    bench.host.release();
    bench.turn();
    let [line] = captured().try_into().unwrap();
    assert!(line.starts_with(&format!("WARN: cpg: node 1: off \"{OWN}\": failure: ")), "{line}");
}

#[test]
fn an_answer_for_a_vm_that_no_host_has_is_logged_too() {
    let mut bench = Bench::new(Groups::default());
    captured();
    let (target, number) = (fence_virt::wire::cluster::EVERY_NODE, RequestNumber(1));
    let name = "vm9".to_owned();
    let call = ClusterCall { name, operation: Operation::Off, number, target, client_number: 0 };
    bench.says(&ClusterMessage::Request(call));
    let mut lines = Vec::new();
    for _ in 0..30 {
        bench.passes(SECOND);
        lines.extend(captured());
    }
    let [line] = lines.try_into().unwrap();
    assert!(line.starts_with("WARN: cpg: node 1: off \"vm9\": failure: "), "{line}");
}
