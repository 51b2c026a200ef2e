#[path = "serial_pause_tests.rs"]
mod serial_pause_tests;
#[path = "serial_probe_tests.rs"]
mod serial_probe_tests;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::inbox::Message;
use crate::job::{Job, Requester};
use crate::listener::event_loop::EventLoop;
use crate::pauses::PauseMonitor;
use crate::power_journal::PowerJournal;
use crate::status::Counts;
use fence_virt::fence::{HostEntry, ListenerName, Operation, PowerState, Request, Target, Uuid};
use fence_virt::session::{LINE_QUEUE_MAX, STALL_LIMIT};
use fence_virt::sys::mailbox::{MailboxSender, mailbox};
use fence_virt::wire::encode_line_request;

/// Event loop of lines whose jobs the test takes.
struct World {
    event_loop: EventLoop<SerialLines>,
    jobs: Receiver<Message>,
    mailbox: MailboxSender<SerialMail>,
    lost: Arc<Mutex<Vec<LineId>>>,
    pauses: PauseMonitor,
}

/// Time for which nothing must arrive.
const QUIET: Duration = Duration::from_millis(50);

impl World {
    fn new(queue: usize) -> World {
        let (sender, mailbox) = mailbox().unwrap();
        let (job_sender, jobs) = bounded(queue);
        let counts = Arc::new(Counts::new(ListenerName::new("serial", None), PowerJournal::default()));
        let lines = SerialLines::new(Dispatcher::new(counts.clone(), job_sender, sender.clone()));
        let pauses = PauseMonitor::default();
        let event_loop = EventLoop::new(counts, None, lines, mailbox, pauses.reader(Instant::now()));
        World { event_loop, jobs, mailbox: sender, lost: Arc::default(), pauses }
    }

    /// Connects a line of this VM; returns the guest's end.
    fn line(&mut self, line: u64, vm: u8) -> UnixStream {
        let (guest, host) = UnixStream::pair().unwrap();
        guest.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        host.set_nonblocking(true).unwrap();
        let domain = Domain { name: format!("vm{vm}"), uuid: Uuid::from_bytes([vm; 16]) };
        let lost = self.lost.clone();
        let id = LineId(line);
        let event = SerialEvent::Connected(ConnectedLine {
            id,
            stream: host.into(),
            domain: Arc::new(domain),
            path: "/s".into(),
            on_lost: Box::new(move || lost.lock().unwrap().push(id)),
        });
        self.mailbox.post(Mail::Update(event)).unwrap();
        self.turn();
        guest
    }

    fn lines(&self) -> &SerialLines {
        &self.event_loop.service
    }

    /// Lines that were reported lost since the last call.
    fn take_lost(&self) -> Vec<LineId> {
        std::mem::take(&mut self.lost.lock().unwrap())
    }

    /// Runs one turn, which needs an event or a deadline.
    fn turn(&mut self) {
        self.event_loop.turn().unwrap();
    }

    /// Runs turns until there is a job.
    fn job(&mut self) -> Job {
        loop {
            match self.jobs.try_recv() {
                Ok(Message::Job(job)) => return job,
                _ => self.turn(),
            }
        }
    }

    /// Sends requests of a guest and returns the first job.
    fn ask(&mut self, guest: &mut UnixStream, requests: &[Vec<u8>]) -> Job {
        guest.write_all(&requests.concat()).unwrap();
        self.job()
    }

    /// Answers a job, and runs the turn that sends the answer.
    fn answer(&mut self, job: Job, answer: impl Into<Answer>) {
        job.finish(answer, "test");
        self.turn();
    }
}

fn request(operation: Operation, seqno: u32) -> Vec<u8> {
    let target = Target::new(b"node1").unwrap();
    encode_line_request(&Request { operation, target, seqno }, 0).to_vec()
}

fn read(guest: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    guest.read_exact(&mut bytes).unwrap();
    bytes
}

/// Asserts that nothing arrives.
fn assert_silent(guest: &UnixStream) {
    guest.set_read_timeout(Some(QUIET)).unwrap();
    let mut guest = guest;
    assert!(guest.read(&mut [0]).is_err());
    guest.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
}

/// Client that requested a job.
fn source(job: &Job) -> &Source {
    let Requester::Client { source, .. } = &job.requester else { panic!("it is a client's") };
    source
}

#[test]
fn who_asks_is_the_vm_of_the_line() {
    let mut world = World::new(8);
    let mut guest = world.line(0, 1);
    let job = world.ask(&mut guest, &[request(Operation::Off, 7)]);
    assert_eq!((job.request.operation, job.request.seqno), (Operation::Off, 7));
    assert_eq!(source(&job).to_string(), "vm1 (01010101-0101-0101-0101-010101010101)");
    world.answer(job, Verdict::Success);
    assert_eq!(read(&mut guest, 5), b"abba\0");
}

#[test]
fn requests_of_one_line_wait_for_each_other_and_for_no_other_line() {
    let mut world = World::new(8);
    let (mut first, mut second) = (world.line(0, 1), world.line(1, 2));
    let off = world.ask(&mut first, &[request(Operation::Off, 1), request(Operation::Status, 2)]);
    let other = world.ask(&mut second, &[request(Operation::Status, 1)]);
    assert_eq!(other.request.operation, Operation::Status, "the same number on another line is no duplicate");
    world.answer(other, Verdict::Off);
    assert_eq!(read(&mut second, 5), b"abba\x02");
    assert!(world.jobs.is_empty());
    world.answer(off, Verdict::Success);
    let status = world.job();
    assert_eq!(status.request.seqno, 2);
    world.answer(status, Verdict::Denied);
    assert_eq!(read(&mut first, 10), b"abba\0abba\x03");
}

#[test]
fn a_duplicate_on_the_line_is_not_carried_out() {
    let mut world = World::new(8);
    let mut guest = world.line(0, 1);
    let requests = [1, 1, 2].map(|seqno| request(Operation::Off, seqno));
    let job = world.ask(&mut guest, &requests);
    world.answer(job, Verdict::Success);
    let next = world.job();
    assert_eq!(next.request.seqno, 2);
    world.answer(next, Verdict::Success);
    assert_eq!(read(&mut guest, 10), b"abba\0abba\0");
    assert_silent(&guest);
}

#[test]
fn each_request_is_remembered_for_itself() {
    let mut world = World::new(8);
    let mut guest = world.line(0, 1);
    let both = [1, 2].map(|seqno| request(Operation::Off, seqno));
    let first = world.ask(&mut guest, &both);
    // Its answer and the posting of the next one are one turn.
    world.answer(first, Verdict::Success);
    let second = world.job();
    // It was not begun: it may come again, the first may not.
    second.refuse(Verdict::Failure, "test");
    world.turn();
    assert_eq!(read(&mut guest, 10), b"abba\0abba\x01");
    assert!(world.lines().dispatcher.is_idle());
    let again = world.ask(&mut guest, &both);
    assert_eq!(again.request.seqno, 2);
    world.answer(again, Verdict::Success);
    assert_eq!(read(&mut guest, 5), b"abba\0");
    assert_silent(&guest);
}

/// Returns a line whose queue has room for one more request, and a complete one that
/// waits for its deadline; none if this machine was too slow.
fn nearly_full() -> Option<(World, UnixStream, Job, Instant)> {
    let mut world = World::new(8);
    let mut guest = world.line(0, 1);
    let doubtful = request(Operation::Off, u32::from_le_bytes(*b"\0\0ab"));
    let mut bytes: Vec<u8> =
        (0..LINE_QUEUE_MAX as u32).flat_map(|seqno| request(Operation::Status, seqno)).collect();
    bytes.extend(&doubtful);
    guest.write_all(&bytes).unwrap();
    let job = world.job();
    loop {
        let machine = &world.lines().lines[&LineId(0)].machine;
        match machine.deadline() {
            _ if !machine.wants_input() => return None,
            // Not the second that it has to become whole.
            Some(at) if at < Instant::now() + STALL_LIMIT / 2 => return Some((world, guest, job, at)),
            _ => world.turn(),
        }
    }
}

#[test]
fn what_comes_while_the_clock_fills_the_queue_is_no_hang_up() {
    let (mut world, mut guest, _job, deadline) = (0..100).find_map(|_| nearly_full()).expect("once in time");
    // Both are ready in one turn: the clock, and more input.
    while Instant::now() < deadline {
        std::thread::yield_now();
    }
    guest.write_all(b"x").unwrap();
    world.turn();
    assert!(world.lines().lines.contains_key(&LineId(0)), "it is still there");
    assert!(!world.lines().lines[&LineId(0)].machine.wants_input());
}

#[test]
fn a_full_queue_fails_at_once_and_in_order() {
    let mut world = World::new(1);
    let (mut first, mut second) = (world.line(0, 1), world.line(1, 2));
    first.write_all(&request(Operation::Off, 1)).unwrap();
    world.turn();
    second.write_all(&[request(Operation::Off, 1), request(Operation::Off, 2)].concat()).unwrap();
    // Reads and refuses the first, has its failure by mail, sends it and refuses the second, and so on.
    for _ in 0..3 {
        world.turn();
    }
    assert_eq!(read(&mut second, 10), b"abba\x01abba\x01");
    drop(world.job());
    world.turn();
    assert_eq!(read(&mut first, 5), b"abba\x01", "a job that is dropped fails");
}

#[test]
fn a_line_that_breaks_is_handed_back_and_its_request_not_begun() {
    let mut world = World::new(8);
    let mut guest = world.line(4, 1);
    let job = world.ask(&mut guest, &[request(Operation::Off, 1)]);
    assert_eq!(job.stale(Instant::now()), None);
    drop(guest);
    world.turn();
    assert!(job.stale(Instant::now()).is_some(), "the VM is gone");
    assert_eq!(world.take_lost(), [LineId(4)]);
    world.answer(job, Verdict::Failure);
    let mut again = world.line(5, 1);
    let job = world.ask(&mut again, &[request(Operation::Off, 2)]);
    world.answer(job, Verdict::Success);
    assert_eq!(read(&mut again, 5), b"abba\0", "and no older answer");
}

#[test]
fn a_line_that_is_taken_away_is_not_handed_back() {
    let mut world = World::new(8);
    let mut guest = world.line(4, 1);
    world.mailbox.post(Mail::Update(SerialEvent::Removed(LineId(4)))).unwrap();
    world.turn();
    assert_eq!(guest.read(&mut [0]).unwrap(), 0, "closed");
    assert_eq!(world.take_lost(), []);
}

#[test]
fn a_guest_that_does_not_read_holds_up_nobody_and_nothing_grows() {
    let mut world = World::new(8);
    let (mut mute, mut other) = (world.line(0, 1), world.line(1, 2));
    mute.set_nonblocking(true).unwrap();
    let entry = || HostEntry { name: "a".into(), uuid: "u".into(), state: PowerState::Off };
    let list = Answer::HostList((0..1000).map(|_| entry()).collect());
    let mut seqno = 0;
    let mut answered = 0;
    // It asks on and on, until nobody takes its requests any more.
    while world.lines().lines[&LineId(0)].machine.wants_input() {
        seqno += 1;
        mute.write_all(&request(Operation::HostList, seqno)).unwrap();
        world.turn();
        if let Ok(Message::Job(job)) = world.jobs.try_recv() {
            job.finish(list.clone(), "test");
            answered += 1;
        }
    }
    assert!((1..20).contains(&answered), "as many as the kernel takes, and one: {answered}");
    let line = &world.lines().lines[&LineId(0)];
    assert!(line.machine.output().len() <= 5 + 1001 * 130 + 5);
    // A hang-up is still seen; until then there is nothing to wake up for.
    assert_eq!(line.interest(false), Interest::Write);
    let job = world.ask(&mut other, &[request(Operation::Status, 1)]);
    assert_eq!(*source(&job), world.lines().lines[&LineId(1)].source());
    world.answer(job, Verdict::Off);
    assert_eq!(read(&mut other, 5), b"abba\x02");
    // It reads on: all its requests are answered, those that waited too.
    mute.set_nonblocking(false).unwrap();
    let reader = std::thread::spawn(move || {
        for _ in 0..seqno {
            let mut begin = [0; 5];
            mute.read_exact(&mut begin).unwrap();
            assert_eq!(&begin, b"abba\xfd");
            let mut rest = vec![0; 1001 * 130 + 5];
            mute.read_exact(&mut rest).unwrap();
        }
    });
    while answered < seqno {
        let job = world.job();
        world.answer(job, list.clone());
        answered += 1;
    }
    while !world.lines().lines[&LineId(0)].machine.output().is_empty() {
        world.turn();
    }
    reader.join().unwrap();
    assert!(seqno as usize > LINE_QUEUE_MAX);
}

#[test]
fn half_a_request_is_given_up_by_the_clock() {
    let mut world = World::new(8);
    let mut guest = world.line(0, 1);
    let began = Instant::now();
    guest.write_all(&request(Operation::Off, 1)[..30]).unwrap();
    while world.lines().timed.is_empty() {
        world.turn();
    }
    // Nothing else happens: only the clock can end these turns.
    let mut turns = 0;
    while !world.lines().timed.is_empty() {
        world.turn();
        turns += 1;
    }
    assert!(began.elapsed() >= STALL_LIMIT);
    assert!(turns < 10, "it slept meanwhile: {turns}");
    guest.write_all(&request(Operation::Status, 2)).unwrap();
    assert_eq!(world.job().request.seqno, 2);
}

#[test]
fn at_the_stop_what_the_worker_has_is_answered_and_nothing_more_taken() {
    let mut world = World::new(8);
    let (mut busy, mut idle) = (world.line(0, 1), world.line(1, 2));
    let job = world.ask(&mut busy, &[request(Operation::Off, 1), request(Operation::Off, 2)]);
    world.mailbox.post(Mail::Stop).unwrap();
    world.turn();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "closed");
    assert!(!world.lines().lines.is_empty());
    world.answer(job, Verdict::Success);
    assert_eq!(read(&mut busy, 5), b"abba\0");
    assert_eq!(busy.read(&mut [0]).unwrap(), 0, "the second is not taken");
    assert!(world.lines().lines.is_empty() && world.jobs.is_empty());
    let mut late = world.line(2, 3);
    assert_eq!(late.read(&mut [0]).unwrap(), 0, "no new line");
}

#[test]
fn after_the_grace_what_is_unanswered_fails_and_is_not_begun() {
    let mut world = World::new(8);
    let mut guest = world.line(0, 1);
    let job = world.ask(&mut guest, &[request(Operation::Off, 1)]);
    world.mailbox.post(Mail::Abort).unwrap();
    world.turn();
    assert_eq!(read(&mut guest, 5), b"abba\x01");
    assert!(job.stale(Instant::now()).is_some());
    assert!(world.lines().lines.is_empty());
}

#[test]
fn lists_that_nobody_reads_are_bounded_over_all_lines() {
    let mut world = World::new(8);
    let entry = || HostEntry { name: "a".into(), uuid: "u".into(), state: PowerState::Off };
    // A third of what there may be.
    let list = Answer::HostList((0..UNREAD_MAX / 3 / RECORD_LEN).map(|_| entry()).collect());
    let mut guests: Vec<UnixStream> = (0..4).map(|line| world.line(line, line as u8)).collect();
    for guest in &mut guests {
        let job = world.ask(guest, &[request(Operation::HostList, 1)]);
        world.answer(job, list.clone());
    }
    assert_eq!(read(&mut guests[0], 5), b"abba\xfd");
    assert_eq!(read(&mut guests[3], 5), b"abba\x01");
}

/// Asks whether the VM of a job gives a sign of life.
fn prove(job: &Job, after: Instant) -> Receiver<Option<Instant>> {
    let (sender, reply) = bounded(1);
    job.caller.as_ref().unwrap().prove(after, move |sign| sender.try_send(sign).is_ok());
    reply
}

#[test]
fn a_vm_lives_as_long_as_its_line_has_not_hung_up() {
    let mut world = World::new(8);
    let mut guest = world.line(0, 1);
    let before = Instant::now();
    let job = world.ask(&mut guest, &[request(Operation::Off, 1)]);
    assert!(job.caller.as_ref().unwrap().alive_at >= before);
    let after = Instant::now();
    let reply = prove(&job, after);
    while reply.is_empty() {
        world.turn();
    }
    assert!(reply.recv().unwrap().is_some_and(|sign| sign > after));
    assert!(after.elapsed() < Duration::from_millis(500), "{:?}", after.elapsed());
    // Its input takes more than one turn to read.
    guest.write_all(&[b'x'; LINE_READ_MAX * 3 / 2]).unwrap();
    drop(guest);
    let reply = prove(&job, Instant::now());
    world.turn();
    assert!(world.lines().lines.contains_key(&LineId(0)), "there is still input");
    assert_eq!(reply.try_recv(), Ok(None));
    while !world.lines().lines.is_empty() {
        world.turn();
    }
    let reply = prove(&job, Instant::now());
    world.turn();
    assert_eq!(reply.try_recv(), Ok(None));
}

#[test]
fn a_request_of_a_line_that_has_hung_up_is_not_dispatched() {
    let mut world = World::new(8);
    let mut guest = world.line(0, 1);
    guest.write_all(&request(Operation::Off, 1)).unwrap();
    drop(guest);
    while !world.lines().lines.is_empty() {
        world.turn();
    }
    assert!(world.jobs.is_empty());
    assert_eq!(world.take_lost(), [LineId(0)]);
}
