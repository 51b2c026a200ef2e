//! Recorded messages and fields in live exchanges.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Child;
use std::thread;

use fence_virt::fence::Operation;
use fence_virt::wire::PACKET_LEN;

use crate::common::agent::AgentRun;
use crate::common::daemon::Daemon;
use crate::common::net::{GUEST_V4, HOST_V4, NamespacePair};
use crate::common::{Missing, ready, require, until};
use crate::exchange::{Exchange, Listener};
use crate::lab::{GROUP, Lab, assert_failed};
use crate::recorded::recorded;
use crate::relay::{FIELDS, LIMIT, Passed, Splice, Step, called_back, relay, relay_call};

/// Operations of agents, in the order of their counts.
const OPERATIONS: [Operation; 4] = [Operation::Off, Operation::On, Operation::Status, Operation::HostList];

/// Number of requests of each operation.
type Counts = [usize; 4];

/// Network with a relay in its middle: the daemon believes that it is the guest, the agents believe that it is the
/// host.
struct Middle {
    lab: Lab,
    daemon: Daemon,
    /// Relay and agents.
    back: NamespacePair,
}

impl Middle {
    fn new() -> Result<Middle, Missing> {
        let lab = Lab::new()?;
        let daemon = lab.daemon();
        Ok(Middle { lab, daemon, back: NamespacePair::new() })
    }

    fn agent(&self, listener: Listener, operation: Operation) -> Child {
        // Only node1, whose status is asked for, stays on: to one that is off a second question follows.
        let vm = if operation.is_power() { "node2" } else { "node1" };
        self.lab.agent(&self.back.guest, listener, operation, vm, 60).spawn().unwrap()
    }

    /// Asserts that the daemon has carried out so many of each operation.
    fn assert_carried_out(&self, listener: Listener, expected: Counts) {
        let counters = self.lab.counters_after(&self.daemon, listener, expected.iter().sum());
        let counts = OPERATIONS.map(|operation| counters.carried_out(listener, Some(operation)));
        assert_eq!(counts, expected, "{listener:?} {OPERATIONS:?}\n{}", self.daemon.log());
    }
}

fn count(counts: &mut Counts, operation: Operation) {
    counts[OPERATIONS.iter().position(|other| *other == operation).unwrap()] += 1;
}

/// Splices, each with the operation of the agent: that of the recorded exchange, so that its answer would do; for its
/// request another one.
fn splices(recorded: &'static [Exchange]) -> impl Iterator<Item = (Operation, Splice<'static>)> {
    let all = recorded.iter().flat_map(|from| FIELDS.map(|field| Splice { field, from }));
    all.filter(Splice::is_possible).map(|splice| match splice.from.operation() {
        Operation::Status if splice.field.0 == Step::Request => (Operation::HostList, splice),
        _ if splice.field.0 == Step::Request => (Operation::Status, splice),
        other => (other, splice),
    })
}

/// Asserts that an exchange got as far as the splice and no further.
fn assert_stopped(passed: &Passed, ran: &AgentRun, splice: &Splice) {
    let step = splice.field.0;
    assert_eq!(passed.is_proven, matches!(step, Step::Proof | Step::Answer), "{splice:?} {ran:?}");
    assert_eq!(passed.answer.is_empty(), step != Step::Answer, "{splice:?} {ran:?}");
    assert_failed(ran, &format!("{splice:?}"));
}

/// Asserts that an agent has told what the daemon has answered.
fn assert_true(passed: &Passed, ran: &AgentRun, operation: Operation) {
    let stdout = match operation {
        Operation::Status => "Status: ON",
        Operation::HostList => "node1",
        _ => "",
    };
    assert!(!passed.answer.is_empty(), "{operation}: {passed:?} {ran:?}");
    assert_eq!((ran.code, ran.stdout.is_empty()), (0, stdout.is_empty()), "{operation}: {ran:?}");
    assert!(ran.stdout.contains(stdout), "{operation}: {ran:?}");
}

#[test]
fn a_recorded_field_in_a_live_exchange_is_noticed_by_tcp() {
    let recorded = require!(recorded());
    let middle = require!(Middle::new());
    let attack = |listener: Listener| {
        let waiting = middle.back.host.inside(|| TcpListener::bind((HOST_V4, listener.port())).unwrap());
        let pass = |operation, splice: Option<&Splice>| -> (Passed, AgentRun) {
            let agent = middle.agent(listener, operation);
            let (stream, _) = ready(&waiting).accept().unwrap();
            let to = || TcpStream::connect((HOST_V4, listener.port())).unwrap();
            let passed = relay(stream, middle.lab.pair.guest.inside(to), splice);
            (passed, agent.wait_with_output().unwrap().into())
        };
        let mut expected = Counts::default();
        for operation in OPERATIONS {
            let (passed, ran) = pass(operation, None);
            assert_true(&passed, &ran, operation);
            count(&mut expected, operation);
        }
        for (operation, splice) in splices(recorded) {
            let (passed, ran) = pass(operation, Some(&splice));
            assert_stopped(&passed, &ran, &splice);
            if splice.field.0 == Step::Answer {
                count(&mut expected, operation);
            }
        }
        middle.assert_carried_out(listener, expected);
    };
    thread::scope(|scope| {
        for listener in [Listener::Tcp, Listener::TcpB] {
            scope.spawn(move || attack(listener));
        }
    });
}

/// Relay of datagrams and call-backs.
struct CallRelay<'a> {
    middle: &'a Middle,
    /// Where the agents' datagrams arrive.
    from_agents: UdpSocket,
    to_daemon: UdpSocket,
    /// Where the daemon calls back.
    waiting: TcpListener,
}

impl CallRelay<'_> {
    fn new(middle: &Middle) -> CallRelay<'_> {
        let from_agents = middle.back.host.inside(|| {
            let socket = UdpSocket::bind((GROUP, 1229)).unwrap();
            socket.join_multicast_v4(&GROUP, &HOST_V4.parse().unwrap()).unwrap();
            socket
        });
        from_agents.set_read_timeout(Some(LIMIT)).unwrap();
        let (to_daemon, waiting) = middle.lab.pair.guest.inside(|| {
            (UdpSocket::bind((GUEST_V4, 0)).unwrap(), TcpListener::bind((GUEST_V4, 1229)).unwrap())
        });
        CallRelay { middle, from_agents, to_daemon, waiting }
    }

    /// Starts an agent and returns its datagram.
    fn ask(&self, operation: Operation) -> (Child, Vec<u8>) {
        let mut datagram = [0; 2 * PACKET_LEN];
        self.from_agents.set_nonblocking(true).unwrap();
        let stale = std::iter::repeat_with(|| self.from_agents.recv(&mut [0]));
        let end = stale.skip_while(Result::is_ok).map(|end| end.unwrap_err().kind()).next();
        assert_eq!(end, Some(ErrorKind::WouldBlock));
        self.from_agents.set_nonblocking(false).unwrap();
        let agent = self.middle.agent(Listener::Multicast, operation);
        let length = self.from_agents.recv(&mut datagram).unwrap();
        (agent, datagram[..length].to_vec())
    }

    /// Sends a datagram to the daemon, which calls back, and passes what follows.
    fn pass(&self, datagram: &[u8], splice: Option<&Splice>) -> Passed {
        let daemon = called_back(&self.waiting, || {
            self.to_daemon.send_to(datagram, (GROUP, 1229)).unwrap();
        });
        let agent = self.middle.back.host.inside(|| TcpStream::connect((GUEST_V4, 1229)).unwrap());
        relay_call(agent, daemon, splice)
    }
}

#[test]
fn a_recorded_field_in_a_live_call_is_noticed() {
    let recorded = require!(recorded());
    let middle = require!(Middle::new());
    let relay = CallRelay::new(&middle);
    let mut expected = Counts::default();
    let mut refused = 0;
    for (operation, splice) in splices(recorded) {
        let (agent, datagram) = relay.ask(operation);
        let ends = || -> AgentRun { agent.wait_with_output().unwrap().into() };
        let step = splice.field.0;
        let mut spliced = datagram.clone();
        splice.apply(Step::Request, &mut spliced);
        if matches!(step, Step::Proof | Step::Answer) {
            let passed = relay.pass(&datagram, Some(&splice));
            assert_stopped(&passed, &ends(), &splice);
            if step == Step::Answer {
                count(&mut expected, operation);
            }
            continue;
        }
        // A recorded datagram is called back too.
        let is_recorded = splice.from.listener == Listener::Multicast && splice.from.request[..] == spliced;
        if step == Step::Challenge || is_recorded {
            let passed = relay.pass(&spliced, Some(&splice));
            assert!(passed.is_challenged && !passed.is_proven, "{splice:?} {passed:?}");
        } else {
            relay.to_daemon.send_to(&spliced, (GROUP, 1229)).unwrap();
            refused += 1;
        }
        // The agent has gone on waiting for its host.
        let passed = relay.pass(&datagram, None);
        assert_true(&passed, &ends(), operation);
        count(&mut expected, operation);
    }
    until("the altered datagrams are refused", LIMIT, || {
        middle.lab.counters(&middle.daemon).refused_datagrams() >= refused
    });
    middle.assert_carried_out(Listener::Multicast, expected);
    relay.waiting.set_nonblocking(true).unwrap();
    assert!(relay.waiting.accept().is_err(), "nobody is called back for an altered datagram");
}
