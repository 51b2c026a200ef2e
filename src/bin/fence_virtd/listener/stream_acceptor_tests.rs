use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crossbeam_channel::bounded;

use super::*;
use crate::listener::dispatcher::Dispatcher;
use crate::listener::service::Service;
use crate::power_journal::PowerJournal;
use crate::status::Counts;
use fence_virt::auth::{HashKind, Key};
use fence_virt::fence::{Endpoint, ListenerName};
use fence_virt::quota::SESSIONS_MAX;
use fence_virt::session::Policy;
use fence_virt::sys::mailbox::mailbox;

/// Socket with connections that are pending, of a process without a free descriptor.
#[derive(Default)]
struct CrowdedSocket {
    pending: RefCell<VecDeque<(UnixStream, Source)>>,
    /// Calls of accept that still fail before one does not.
    failures: Cell<usize>,
    /// Calls that fail before each connection.
    failures_each: usize,
}

impl ListeningSocket for CrowdedSocket {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn accept(&self) -> io::Result<(NonblockingStream, Source)> {
        if self.failures.get() > 0 {
            self.failures.set(self.failures.get() - 1);
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        self.failures.set(self.failures_each);
        let next = self.pending.borrow_mut().pop_front();
        let (socket, source) = next.ok_or(io::ErrorKind::WouldBlock)?;
        Ok((NonblockingStream::connected(socket), source))
    }
}

struct World {
    acceptor: StreamAcceptor<CrowdedSocket>,
    sessions: Sessions,
    now: Instant,
}

impl World {
    fn new() -> World {
        let policy = Policy::new(HashKind::None, HashKind::None, Key::new(Vec::new()), Endpoint::LINE);
        let (sender, _) = mailbox().unwrap();
        let counts = Arc::new(Counts::new(ListenerName::new("tcp", None), PowerJournal::default()));
        let dispatcher = Dispatcher::new(counts, bounded(1).0, sender);
        let sessions = Sessions::new(Arc::new(policy), SESSIONS_MAX, dispatcher);
        World { acceptor: StreamAcceptor::new(CrowdedSocket::default()), sessions, now: Instant::now() }
    }

    /// Opens a session that sends nothing; returns the end of the client.
    fn open(&mut self, host: u8) -> UnixStream {
        let (client, socket) = pair();
        self.sessions.accept(NonblockingStream::connected(socket), source(host), None, self.now);
        client
    }

    /// Lets these clients connect where each accept fails so many times; returns their ends.
    fn accept(&mut self, hosts: &[u8], failures: usize) -> Vec<UnixStream> {
        let (clients, pending) = hosts
            .iter()
            .map(|&host| (pair(), host))
            .map(|((client, socket), host)| (client, (socket, source(host))))
            .unzip();
        let pending = RefCell::new(pending);
        self.acceptor.socket =
            CrowdedSocket { pending, failures: Cell::new(failures), failures_each: failures };
        self.acceptor.accept(&[true], &mut self.sessions, self.now);
        clients
    }
}

fn pair() -> (UnixStream, UnixStream) {
    let (client, socket) = UnixStream::pair().unwrap();
    client.set_nonblocking(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    (client, socket)
}

fn source(host: u8) -> Source {
    Source::Ip([192, 0, 2, host].into())
}

fn is_open(mut client: &UnixStream) -> bool {
    client.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn without_a_descriptor_the_largest_source_makes_room() {
    let mut world = World::new();
    let honest = world.open(2);
    let flood: Vec<UnixStream> = (0..10).map(|_| world.open(66)).collect();
    let newcomers = world.accept(&[3, 66, 4], 1);
    assert!(is_open(&honest) && newcomers.iter().all(is_open));
    assert_eq!(flood.iter().filter(|client| is_open(client)).count(), 7);
    assert!(flood[..3].iter().all(|client| !is_open(client)), "the oldest");
    assert_eq!(world.sessions.open_count(), 11);
    assert!(world.acceptor.spare.is_some());
    assert_eq!(world.acceptor.deadline(), None, "no pause");
}

#[test]
fn a_connection_for_which_no_session_can_go_is_closed() {
    let mut world = World::new();
    let newcomers = world.accept(&[3, 4], 1);
    assert!(newcomers.iter().all(|client| !is_open(client)));
    assert_eq!(world.acceptor.deadline(), None, "no pause");
}

#[test]
fn a_descriptor_that_another_thread_takes_costs_a_pause_and_the_next_attempt_frees_one() {
    let mut world = World::new();
    let flood: Vec<UnixStream> = (0..10).map(|_| world.open(66)).collect();
    let newcomer = world.accept(&[3], 2);
    assert!(world.acceptor.deadline().is_some_and(|at| at == world.now + PAUSE));
    assert!(flood.iter().all(is_open), "nobody came");
    drop(newcomer);
    world.now += PAUSE;
    world.acceptor.spare = None;
    let newcomer = world.accept(&[3], 1);
    assert!(is_open(&newcomer[0]) && !is_open(&flood[0]));
    assert!(world.acceptor.spare.is_some());
}

#[test]
fn without_sessions_and_a_spare_descriptor_it_pauses() {
    let mut world = World::new();
    world.acceptor.spare = None;
    world.accept(&[3], 1);
    assert!(world.acceptor.deadline().is_some());
}
