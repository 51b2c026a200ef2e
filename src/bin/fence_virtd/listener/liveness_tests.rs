//! Questions about the clients of sessions, answered by a real event loop.

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::inbox::Message;
use crate::job::Job;
use crate::listener::dispatcher::Dispatcher;
use crate::listener::event_loop::EventLoop;
use crate::listener::service::Mail;
use crate::listener::sessions::{SessionMail, Sessions};
use crate::pauses::PauseMonitor;
use crate::power_journal::PowerJournal;
use crate::status::Counts;
use fence_virt::auth::{HashKind, Key};
use fence_virt::fence::{Endpoint, ListenerName, Operation, Request, Target};
use fence_virt::quota::SESSIONS_MAX;
use fence_virt::session::Policy;
use fence_virt::sys::mailbox::{MailboxSender, mailbox};
use fence_virt::wire::{PACKET_LEN, Packet};

/// Time that is long for this machine, and short beside the second between probes.
const SOON: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);
const LOCALHOST: Source = Source::Ip(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST));

/// Receiver of the reply to a question.
type Reply = Receiver<Option<Instant>>;

/// Event loop of sessions whose jobs the test takes.
struct World {
    event_loop: EventLoop<Sessions>,
    jobs: Receiver<Message>,
    mailbox: MailboxSender<SessionMail>,
}

impl World {
    fn new() -> World {
        let policy = Policy::new(HashKind::None, HashKind::None, Key::new(Vec::new()), Endpoint::LINE);
        let (sender, mailbox) = mailbox().unwrap();
        let (job_sender, jobs) = bounded(8);
        let counts = Arc::new(Counts::new(ListenerName::new("tcp", None), PowerJournal::default()));
        let dispatcher = Dispatcher::new(counts.clone(), job_sender, sender.clone());
        let sessions = Sessions::new(Arc::new(policy), SESSIONS_MAX, dispatcher);
        World {
            event_loop: EventLoop::new(
                counts,
                None,
                sessions,
                mailbox,
                PauseMonitor::default().reader(Instant::now()),
            ),
            jobs,
            mailbox: sender,
        }
    }

    /// Starts the session of a client that has sent its request.
    fn accept(&mut self, socket: impl Into<OwnedFd>, source: Source) {
        self.event_loop.service.accept(NonblockingStream::connected(socket), source, None, Instant::now());
    }

    /// Job of a client that has sent its request.
    fn job(&mut self, socket: impl Into<OwnedFd>, source: Source) -> Job {
        self.accept(socket, source);
        loop {
            match self.jobs.try_recv() {
                Ok(Message::Job(job)) => return job,
                _ => self.turn(),
            }
        }
    }

    /// A client on TCP and its job.
    fn tcp(&mut self) -> (TcpStream, Job) {
        self.tcp_with(1)
    }

    fn tcp_with(&mut self, seqno: u32) -> (TcpStream, Job) {
        let (server, mut client) = tcp_pair();
        client.write_all(&request(seqno)).unwrap();
        (client, self.job(server, LOCALHOST))
    }

    /// A client on vsock and its job; the kernel shows a unix socket's hang-up as it shows that of vsock.
    fn vsock(&mut self) -> (UnixStream, Job) {
        let (server, mut client) = unix_pair();
        client.write_all(&request(0)).unwrap();
        (client, self.job(server, Source::Cid(3)))
    }

    /// Runs one turn, which needs an event or a deadline.
    fn turn(&mut self) {
        self.event_loop.turn().unwrap();
    }

    /// Runs turns until the reply; returns it.
    fn reply(&mut self, reply: &Reply) -> Option<Instant> {
        loop {
            match reply.try_recv() {
                Ok(sign) => return sign,
                Err(_) => self.turn(),
            }
        }
    }
}

fn request(seqno: u32) -> [u8; PACKET_LEN] {
    let target = Target::new(b"node1").unwrap();
    let request = Request { operation: Operation::Off, target, seqno };
    Packet { request, ..Packet::decode(&[0; PACKET_LEN]).unwrap() }.encode()
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    (server, client)
}

fn unix_pair() -> (UnixStream, UnixStream) {
    let (server, client) = UnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    (server, client)
}

/// Asks whether the client of a job gives a sign of life.
fn prove(job: &Job, after: Instant) -> Reply {
    let (sender, reply) = bounded(1);
    job.caller.as_ref().unwrap().prove(after, move |sign| sender.try_send(sign).is_ok());
    reply
}

#[test]
fn a_tcp_client_that_lives_acknowledges_a_probe_after_a_second_of_silence() {
    let mut world = World::new();
    let (_client, job) = world.tcp();
    let after = Instant::now();
    let reply = prove(&job, after);
    assert!(world.reply(&reply).is_some_and(|sign| sign > after));
    assert!(after.elapsed() < SECOND + SOON, "at the first probe: {:?}", after.elapsed());
    // The probes go on.
    let after = Instant::now();
    let again = [prove(&job, after), prove(&job, after)];
    for reply in again {
        assert!(world.reply(&reply).is_some_and(|sign| sign > after));
    }
    assert!(after.elapsed() < SECOND + SOON, "{:?}", after.elapsed());
    assert_eq!(job.stale(Instant::now()), None);
}

#[test]
fn a_question_about_later_waits_and_a_silent_tcp_client_is_probed_at_once() {
    let mut world = World::new();
    let clients = [1, 2, 3, 4, 5, 6].map(|seqno| world.tcp_with(seqno));
    let (_other, other) = world.vsock();
    let after = Instant::now() + SECOND + SOON;
    let local = prove(&other, after);
    // At different times within the kernel's jiffies: no acknowledgement is too early to count.
    let remote = [0, 11, 23, 37, 41, 53].map(|millis| after + Duration::from_millis(millis));
    let remote: Vec<_> = remote.iter().zip(&clients).map(|(&at, (_, job))| (at, prove(job, at))).collect();
    assert!(world.reply(&local).is_some_and(|sign| sign > after));
    assert!(remote.iter().all(|(_, reply)| reply.is_empty()));
    for (after, reply) in remote {
        assert!(world.reply(&reply).is_some_and(|sign| sign > after));
        assert!(after.elapsed() < SOON, "{:?}", after.elapsed());
    }
}

#[test]
fn a_hang_up_is_no_sign_of_life_at_once() {
    let mut world = World::new();
    let ((client, remote), (other, local)) = (world.tcp(), world.vsock());
    let begun = Instant::now();
    // The second has its answer as soon as its client is gone, whatever it waits for.
    let replies = [prove(&remote, begun), prove(&local, begun + SECOND)];
    drop(client);
    drop(other);
    assert_eq!(replies.map(|reply| world.reply(&reply)), [None, None]);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(world.reply(&prove(&remote, begun)), None, "nor later");
}

#[test]
fn a_vsock_client_that_lives_has_not_hung_up() {
    let mut world = World::new();
    let (_client, job) = world.vsock();
    let after = Instant::now();
    let reply = prove(&job, after);
    assert!(world.reply(&reply).is_some_and(|sign| sign > after));
    assert!(after.elapsed() < SOON, "{:?}", after.elapsed());
}

#[test]
fn a_caller_lived_when_its_last_data_came() {
    let mut world = World::new();
    let begun = Instant::now();
    let (server, mut client) = tcp_pair();
    client.write_all(&request(1)).unwrap();
    let sent = Instant::now();
    while sent.elapsed() < SOON {
        std::thread::yield_now();
    }
    let alive_at = world.job(server, LOCALHOST).caller.unwrap().alive_at;
    assert!(alive_at <= sent && alive_at + SOON > begun);
    let before = Instant::now();
    let (_client, job) = world.vsock();
    assert!(job.caller.unwrap().alive_at >= before);
}

#[test]
fn a_request_whose_client_has_hung_up_is_not_dispatched() {
    let mut world = World::new();
    let (server, mut client) = unix_pair();
    client.write_all(&request(1)).unwrap();
    client.shutdown(Shutdown::Both).unwrap();
    world.accept(server, Source::Cid(3));
    assert!(world.jobs.is_empty());
    assert_eq!(
        Liveness::Local.alive_at(&NonblockingStream::connected(client), Instant::now(), Instant::now()),
        None
    );
}

#[test]
fn a_reply_without_room_is_repeated() {
    let mut world = World::new();
    let (client, job) = world.vsock();
    let (sender, reply) = bounded(1);
    sender.send(Some(Instant::now())).unwrap();
    let after = Instant::now();
    job.caller.as_ref().unwrap().prove(after, move |sign| sender.try_send(sign).is_ok());
    world.turn();
    world.turn();
    assert!(reply.recv().unwrap().is_some_and(|at| at < after), "the other message");
    drop(client);
    assert!(world.reply(&reply).is_some_and(|sign| sign > after), "that of the first turn");
}

#[test]
fn a_listener_that_stops_still_answers() {
    let mut world = World::new();
    let (_client, job) = world.vsock();
    world.mailbox.post(Mail::Stop).unwrap();
    world.turn();
    let reply = prove(&job, Instant::now());
    assert!(world.reply(&reply).is_some());
}

#[test]
fn a_listener_that_ends_answers_none() {
    let mut world = World::new();
    let (_client, job) = world.tcp();
    let (pending, unread) = (prove(&job, Instant::now()), prove(&job, Instant::now() + SECOND));
    world.turn();
    world.mailbox.post(Mail::Abort).unwrap();
    world.turn();
    assert_eq!([pending, unread].map(|reply| reply.try_recv()), [Ok(None), Ok(None)]);
    let unread = prove(&job, Instant::now());
    drop(world);
    let late = prove(&job, Instant::now());
    assert_eq!([unread, late].map(|reply| reply.try_recv()), [Ok(None), Ok(None)]);
}

/// Asks about a client that hangs up, with no room for the reply; then runs the event loop in a thread.
/// Returns the channel of the reply, with another message in it, and the channel of the loop's end.
fn end_with_undelivered_reply(end: SessionMail) -> (Reply, Receiver<()>) {
    let mut world = World::new();
    let (client, job) = world.vsock();
    let (sender, reply) = bounded(1);
    sender.send(Some(Instant::now())).unwrap();
    job.caller.as_ref().unwrap().prove(Instant::now(), move |sign| sender.try_send(sign).is_ok());
    drop(client);
    world.turn();
    world.mailbox.post(end).unwrap();
    world.turn();
    let (end_sender, ended) = bounded(1);
    std::thread::spawn(move || {
        world.event_loop.run().unwrap();
        end_sender.send(()).unwrap();
    });
    (reply, ended)
}

#[test]
fn a_listener_that_stops_ends_once_the_last_reply_is_delivered_and_one_that_aborts_at_once() {
    let (reply, ended) = end_with_undelivered_reply(Mail::Stop);
    assert!(ended.recv_timeout(SOON).is_err());
    assert!(reply.recv_timeout(SOON).unwrap().is_some(), "the other message");
    assert_eq!(reply.recv_timeout(SOON), Ok(None));
    assert_eq!(ended.recv_timeout(SOON), Ok(()));
    let (_reply, ended) = end_with_undelivered_reply(Mail::Abort);
    assert_eq!(ended.recv_timeout(SOON), Ok(()));
}

/// A TCP client in a network namespace of its own, behind a veth pair.
struct FarClient {
    server: TcpStream,
    client: TcpStream,
    /// Takes its interface down when it is dropped.
    cut: crossbeam_channel::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

fn ip(args: &str) {
    let output = std::process::Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Moves this thread into a network namespace of its own, which ends with it and its sockets.
fn enter_namespace() -> nix::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
}

impl FarClient {
    /// Connects it. None without the privilege to make namespaces.
    fn connect() -> Option<FarClient> {
        std::thread::spawn(|| {
            enter_namespace().ok()?;
            let (id_sender, id) = bounded(1);
            let (address_sender, address) = bounded::<SocketAddr>(1);
            let (client_sender, client) = bounded(1);
            let (cut, is_cut) = bounded::<()>(0);
            let thread = std::thread::spawn(move || {
                enter_namespace().unwrap();
                id_sender.send(nix::unistd::gettid()).unwrap();
                let address = address.recv().unwrap();
                ip("addr add 192.0.2.2/24 dev eth0");
                ip("link set eth0 up");
                client_sender.send(TcpStream::connect(address).unwrap()).unwrap();
                assert!(is_cut.recv().is_err());
                ip("link set eth0 down");
            });
            ip(&format!("link add eth0 type veth peer name eth0 netns {}", id.recv().unwrap()));
            ip("addr add 192.0.2.1/24 dev eth0");
            ip("link set eth0 up");
            let listener = TcpListener::bind("192.0.2.1:0").unwrap();
            address_sender.send(listener.local_addr().unwrap()).unwrap();
            let client = client.recv().unwrap();
            let (server, _) = listener.accept().unwrap();
            server.set_nonblocking(true).unwrap();
            Some(FarClient { server, client, cut, thread })
        })
        .join()
        .unwrap()
    }
}

/// Reports a test that is skipped, as the harness in tests/common does.
#[allow(clippy::print_stderr)]
fn skip(test: &str, why: &str) {
    assert!(std::env::var("FENCE_SKIP").as_deref() != Ok("fail"), "{test} was skipped: {why}");
    let line = format!("*** SKIPPED {test}: {why} ***\n");
    eprint!("\n{line}\n");
    if let Some(path) = std::env::var_os("FENCE_SKIPPED") {
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

#[test]
fn a_tcp_client_that_vanishes_without_a_word_gives_no_sign() {
    let Some(FarClient { server, mut client, cut, thread }) = FarClient::connect() else {
        let test = "a_tcp_client_that_vanishes_without_a_word_gives_no_sign";
        return skip(test, "it needs root, for network namespaces");
    };
    let mut world = World::new();
    client.write_all(&request(1)).unwrap();
    let job = world.job(server, Source::ip("192.0.2.2".parse().unwrap()));
    let after = Instant::now();
    let reply = prove(&job, after);
    assert!(world.reply(&reply).is_some_and(|sign| sign > after), "it lives");
    drop(cut);
    thread.join().unwrap();
    let after = Instant::now();
    let reply = prove(&job, after);
    assert_eq!(world.reply(&reply), None);
    let took = after.elapsed();
    // The limit, and much time for a busy host.
    assert!((3 * SECOND..10 * SECOND).contains(&took), "{took:?}");
    assert_eq!(world.reply(&prove(&job, after)), None, "nor later");
    assert_eq!(job.stale(Instant::now()), None, "the connection is still open");
    drop(client);
}
