#[path = "leaving_tests.rs"]
mod leaving_tests;
#[path = "record_tests.rs"]
mod record_tests;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::inbox::Message;
use crate::job::{Job, Stale};
use crate::listener::dispatcher::{ADDRESS_JOBS_MAX, JOBS_MAX, JOBS_RESERVE, NETWORK_JOBS_MAX};
use crate::power_journal::PowerJournal;
use crate::status::Counts;
use fence_virt::auth::{HashKind, Key};
use fence_virt::fence::{Endpoint, ListenerName, Operation, Target};
use fence_virt::history::HOLD;
use fence_virt::sys::mailbox::{Mailbox, mailbox};
use fence_virt::sys::poll::PollSet;
use fence_virt::wire::{FAMILY_IPV4, PACKET_LEN, Packet};

fn stream(socket: TcpStream) -> NonblockingStream {
    socket.set_nonblocking(true).unwrap();
    NonblockingStream::connected(socket)
}

/// Sessions whose jobs the test takes, with a clock set by the test.
struct World {
    sessions: Sessions,
    jobs: Receiver<Message>,
    mail: Mailbox<SessionMail>,
    now: Instant,
    /// Time since which what comes has waited.
    waiting_since: Option<Instant>,
}

impl World {
    fn new(queue: usize) -> World {
        let policy = Policy::new(HashKind::None, HashKind::None, Key::new(Vec::new()), Endpoint::LINE);
        let (sender, mail) = mailbox().unwrap();
        let (job_sender, jobs) = bounded(queue);
        let counts = Arc::new(Counts::new(ListenerName::new("tcp", None), PowerJournal::default()));
        let sessions =
            Sessions::new(Arc::new(policy), quota::SESSIONS_MAX, Dispatcher::new(counts, job_sender, sender));
        World { sessions, jobs, mail, now: Instant::now(), waiting_since: None }
    }

    /// Connects a client that has sent these bytes, and reads all of them.
    fn client(&mut self, bytes: &[u8]) -> TcpStream {
        self.client_from("127.0.0.1", bytes)
    }

    /// The same for a client with this address.
    fn client_from(&mut self, address: &str, bytes: &[u8]) -> TcpStream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(bytes).unwrap();
        let socket = listener.accept().unwrap().0;
        self.sessions.accept(
            stream(socket),
            Source::ip(address.parse().unwrap()),
            self.waiting_since,
            self.now,
        );
        self.deliver();
        client
    }

    /// Sends the bytes of a client with this address, which then hangs up.
    fn hang_up_from(&mut self, address: &str, bytes: &[u8]) {
        drop(self.client_from(address, bytes));
        if !self.is_empty() {
            self.turn();
        }
    }

    /// Puts the listener on a bridge with the prefixes fd00:2::/64 and 192.0.2.0/24.
    fn on_a_bridge(mut self) -> World {
        let prefixes = [("fd00:2::1", "ffff:ffff:ffff:ffff::"), ("192.0.2.1", "255.255.255.0")];
        let prefixes = prefixes.map(|(ip, mask)| Prefix::new(ip.parse().unwrap(), mask.parse().unwrap()));
        let prefixes: Arc<[Prefix]> = prefixes.into_iter().flatten().collect();
        self.sessions.update(SessionsUpdate::Prefixes(prefixes), self.now);
        self
    }

    /// Waits until a session is ready, attends to it, and delivers the mail.
    fn turn(&mut self) {
        let mut set = PollSet::new();
        let mut slots = Vec::new();
        self.sessions
            .register(self.now, |id, fd, interest| slots.push((id, interest, set.add(fd, interest))));
        set.wait(Some(Duration::from_secs(10))).unwrap();
        let ready: Vec<_> =
            slots.iter().map(|&(id, interest, slot)| (id, interest, set.ready(slot))).collect();
        drop(set);
        self.sessions.set_waiting_since(self.waiting_since);
        for (id, interest, ready) in ready.into_iter().filter(|(.., ready)| ready.any()) {
            self.sessions.attend(id, interest, ready, self.now);
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        for mail in self.mail.take() {
            if let SessionMail::Answered(answered) = mail {
                self.sessions.answered(answered, self.now);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.sessions.open_count() == 0
    }

    fn job(&mut self) -> Job {
        match self.jobs.try_recv().unwrap() {
            Message::Job(job) => job,
            other => panic!("{other:?}"),
        }
    }

    fn answer_job(&mut self) {
        self.job().finish(Verdict::Success, "done");
        self.deliver();
    }

    /// Sends a request that is carried out.
    fn assert_served(&mut self, seqno: u32) {
        let mut client = self.client(&packet(seqno).encode());
        self.answer_job();
        assert_eq!(rest(&mut client), [0]);
    }
}

fn packet(seqno: u32) -> Packet {
    let target = Target::new(b"node1").unwrap();
    let request = Request { operation: Operation::Off, target, seqno };
    Packet { request, ..Packet::decode(&[0; PACKET_LEN]).unwrap() }
}

fn rest(client: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_duplicate_is_dropped_while_the_worker_has_it_and_ten_seconds_after() {
    let mut world = World::new(8);
    let mut first = world.client(&packet(1).encode());
    assert_eq!(rest(&mut world.client(&packet(1).encode())), [], "while the worker has it");
    world.now += HOLD * 3;
    assert_eq!(rest(&mut world.client(&packet(1).encode())), [], "however long that takes");
    world.answer_job();
    assert_eq!(rest(&mut first), [0]);
    world.now += HOLD - Duration::from_millis(1);
    assert_eq!(rest(&mut world.client(&packet(1).encode())), [], "shortly after");
    world.now += Duration::from_millis(1);
    world.assert_served(1);
    assert!(world.jobs.is_empty());
}

#[test]
fn a_full_queue_is_a_failure_at_once_and_may_be_tried_again() {
    let mut world = World::new(1);
    let mut first = world.client(&packet(1).encode());
    assert_eq!(rest(&mut world.client(&packet(2).encode())), [1]);
    world.answer_job();
    assert_eq!(rest(&mut first), [0]);
    world.assert_served(2);
}

#[test]
fn a_client_that_hangs_up_is_gone_for_the_worker() {
    let mut world = World::new(8);
    let client = world.client(&packet(1).encode());
    let job = world.job();
    assert_eq!(job.stale(world.now), None);
    drop(client);
    world.turn();
    assert_eq!(job.stale(world.now), Some(Stale::HungUp));
    assert!(world.is_empty());
}

#[test]
fn a_client_that_talks_on_is_gone_for_the_worker() {
    let mut world = World::new(8);
    let mut client = world.client(&packet(1).encode());
    let job = world.job();
    client.write_all(&[1]).unwrap();
    world.turn();
    assert_eq!(job.stale(world.now), Some(Stale::HungUp));
}

#[test]
fn stopping_closes_unauthenticated_sessions_and_aborting_fails_the_rest() {
    let mut world = World::new(8);
    let mut waiting = world.client(&packet(1).encode());
    let job = world.job();
    let mut silent = world.client(&[]);
    let mut halfway = world.client(&packet(2).encode()[..100]);
    world.sessions.stop(world.now);
    assert_eq!((rest(&mut silent).len(), rest(&mut halfway).len()), (0, 0));
    assert_eq!(job.stale(world.now), None, "what is in flight goes on");
    world.sessions.abort(world.now);
    assert_eq!(rest(&mut waiting), [1]);
    assert_eq!(job.stale(world.now), Some(Stale::HungUp), "and is not begun after that");
    assert!(world.is_empty());
}

#[test]
fn a_session_past_its_deadline_is_closed() {
    let mut world = World::new(8);
    let mut silent = world.client(&[]);
    world.sessions.expire(world.now + Duration::from_millis(9999));
    assert!(!world.is_empty());
    let deadline = world.sessions.deadline(world.now).unwrap();
    assert_eq!(deadline, world.now + fence_virt::session::HANDSHAKE_LIMIT);
    world.sessions.expire(deadline);
    assert!(world.is_empty());
    assert_eq!(rest(&mut silent), []);
}

#[test]
fn a_repeated_datagram_brings_one_call_back() {
    let mut world = World::new(8);
    let waiting = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut address = [0; 28];
    address[..4].copy_from_slice(&[127, 0, 0, 1]);
    let port = waiting.local_addr().unwrap().port();
    let datagram = Packet { address, address_len: 4, family: FAMILY_IPV4, port, ..packet(1) }.encode();
    world.sessions.call_back(&datagram, 1, None, world.now);
    world.sessions.call_back(&datagram, 1, None, world.now);
    assert_eq!(world.sessions.open_count(), 1, "while the call-back is open");
    let (mut client, _) = waiting.accept().unwrap();
    world.turn();
    world.sessions.call_back(&datagram, 1, None, world.now);
    assert_eq!(world.sessions.open_count(), 1, "while the worker has it");
    world.answer_job();
    assert_eq!(rest(&mut client), [0]);
    world.sessions.call_back(&datagram, 1, None, world.now);
    assert!(world.is_empty(), "shortly after");
    world.sessions.call_back(&datagram, 1, None, world.now + HOLD);
    assert_eq!(world.sessions.open_count(), 1);
}

#[test]
fn a_hang_up_behind_the_request_is_seen_before_it_is_posted() {
    let mut world = World::new(8);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(&packet(1).encode()).unwrap();
    client.shutdown(std::net::Shutdown::Both).unwrap();
    let (socket, peer) = listener.accept().unwrap();
    world.sessions.accept(stream(socket), Source::ip(peer.ip()), None, world.now);
    assert!(world.jobs.is_empty() && world.is_empty());
}

#[test]
fn a_request_with_more_behind_it_is_not_posted() {
    let mut world = World::new(8);
    let mut client = world.client(&[&packet(1).encode()[..], &[0]].concat());
    assert!(world.jobs.is_empty() && world.is_empty());
    assert_eq!(rest(&mut client), []);
}

#[test]
fn what_was_refused_may_come_again() {
    let mut world = World::new(8);
    let mut first = world.client(&packet(1).encode());
    world.job().refuse(Verdict::Denied, "no group");
    world.deliver();
    assert_eq!(rest(&mut first), [3]);
    world.assert_served(1);
}

#[test]
fn one_origin_cannot_fill_the_queue() {
    let mut world = World::new(1000);
    let mut clients: Vec<TcpStream> =
        (0..=JOBS_MAX).map(|at| world.client(&packet(at as u32).encode())).collect();
    assert_eq!(rest(&mut clients[JOBS_MAX]), [1], "at once");
    drop(clients);
    world.turn();
    let mut more = world.client(&packet(5000).encode());
    assert_eq!(rest(&mut more), [1], "hanging up makes no room");
    assert_eq!(world.jobs.len(), JOBS_MAX);
}

#[test]
fn one_address_of_a_64_fails_no_request_of_its_neighbours() {
    let mut world = World::new(1000).on_a_bridge();
    for at in 0..JOBS_MAX {
        drop(world.client_from("fd00:2::66", &packet(at as u32).encode()));
    }
    assert_eq!(rest(&mut world.client_from("fd00:2::66", &packet(5000).encode())), [1]);
    world.client_from("fd00:2::2", &packet(5001).encode());
    assert_eq!(world.jobs.len(), JOBS_MAX + 1);
}

#[test]
fn requests_of_many_addresses_that_hang_fail_none_of_established_ones_and_of_other_networks() {
    let mut world = World::new(2000).on_a_bridge();
    world.hang_up_from("fd00:2::2", &packet(1).encode());
    world.answer_job();
    // None of these is answered: they are for a VM that hangs.
    for at in 0..2 * NETWORK_JOBS_MAX as u32 {
        world.hang_up_from(&format!("fd00:2::1:{at:x}"), &packet(10 + at).encode());
    }
    assert_eq!(world.jobs.len(), NETWORK_JOBS_MAX);
    let neighbours: Vec<TcpStream> = (0..JOBS_RESERVE as u32)
        .map(|at| world.client_from("fd00:2::2", &packet(5000 + at).encode()))
        .collect();
    let other = world.client_from("192.0.2.9", &packet(6000).encode());
    assert_eq!(world.jobs.len(), NETWORK_JOBS_MAX + JOBS_RESERVE + 1);
    assert_eq!(
        rest(&mut world.client_from("fd00:2::2", &packet(7000).encode())),
        [1],
        "its reserve is used up"
    );
    drop((neighbours, other));
    // All networks of the link together are bounded.
    for at in 0..130 * JOBS_RESERVE as u32 {
        world.hang_up_from(&format!("192.0.2.{}", 20 + at % 130), &packet(8000 + at).encode());
        world.hang_up_from(&format!("fe80::{:x}", 20 + at % 130), &packet(9000 + at).encode());
        world.hang_up_from(&format!("fd00:2::1:{:x}", at % 130), &packet(10_000 + at).encode());
    }
    assert!((ADDRESS_JOBS_MAX..=1024).contains(&world.jobs.len()), "{}", world.jobs.len());
}

#[test]
fn an_open_session_outlasts_a_flood_of_its_64() {
    let mut world = World::new(8).on_a_bridge();
    let request = packet(1).encode();
    let mut client = world.client_from("fd00:2::2", &request[..100]);
    for at in 0..1000 {
        drop(world.client_from(&format!("fd00:2::1:{at:x}"), &[]));
    }
    assert_eq!(world.sessions.open_count(), quota::SESSIONS_MAX);
    // The flood may have taken seconds: a clock so far behind would count as a pause of the daemon.
    world.now = Instant::now();
    client.write_all(&request[100..]).unwrap();
    world.turn();
    world.answer_job();
    assert_eq!(rest(&mut client), [0]);
}

/// World whose daemon stood still for 40 s until now.
fn after_a_pause() -> World {
    let mut world = World::new(8);
    world.waiting_since = Some(world.now);
    world.now += Duration::from_secs(40);
    world
}

#[test]
fn a_connection_that_waited_is_a_failure_and_may_be_tried_again() {
    let mut world = after_a_pause();
    assert_eq!(rest(&mut world.client(&packet(1).encode())), [1]);
    assert!(world.jobs.is_empty());
    world.waiting_since = None;
    world.assert_served(1);
}

#[test]
fn a_request_that_waited_on_an_open_connection_is_a_failure() {
    let mut world = World::new(8);
    let mut client = world.client(&packet(1).encode()[..100]);
    client.write_all(&packet(1).encode()[100..]).unwrap();
    world.waiting_since = Some(world.now);
    world.turn();
    assert_eq!(rest(&mut client), [1]);
    world.waiting_since = None;
    world.assert_served(1);
}

#[test]
fn a_connection_that_waited_and_proves_itself_now_is_as_old_as_the_pause() {
    let mut world = after_a_pause();
    let paused = world.waiting_since;
    let mut client = world.client(&[]);
    world.waiting_since = None;
    client.write_all(&packet(1).encode()).unwrap();
    world.turn();
    let job = world.job();
    assert_eq!(Some(job.received), paused);
    assert_eq!(job.stale(world.now), Some(Stale::TooOld));
}

#[test]
fn a_pause_after_the_reading_of_the_clock_counts_too() {
    let mut world = World::new(8);
    // The turn began 40 s before the dispatch.
    world.now = Instant::now() - Duration::from_secs(40);
    assert_eq!(rest(&mut world.client(&packet(1).encode())), [1]);
    assert!(world.jobs.is_empty());
}
