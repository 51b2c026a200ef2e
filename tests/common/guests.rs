//! Guests on serial lines and vmchannels: sockets that the test binds instead
//! of QEMU, and requests and responses on them.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fence_virt::fence::{Operation, Request, Target};
use fence_virt::sys::poll::{Interest, PollSet};
use fence_virt::wire::encode_line_request;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const LIMIT: Duration = Duration::from_secs(30);

static NUMBERS: AtomicU32 = AtomicU32::new(0);

/// Encoded request of a guest.
pub fn request(operation: Operation, vm: &str, seqno: u32) -> Vec<u8> {
    let target = Target::new(vm.as_bytes()).unwrap();
    encode_line_request(&Request { operation, target, seqno }, 0).to_vec()
}

/// Element `<serial>` with this socket.
pub fn serial(path: &Path) -> String {
    format!("<serial type='unix'><source mode='bind' path='{}'/></serial>", path.display())
}

/// Element `<channel>` with this socket.
pub fn channel(path: &Path) -> String {
    format!(
        "<channel type='unix'><source mode='bind' path='{}'/>\
         <target type='guestfwd' address='10.0.2.179' port='1229'/></channel>",
        path.display()
    )
}

/// Raises the soft limit of descriptors: each guest needs two.
pub fn raise_descriptor_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(1 << 20), hard).unwrap();
}

/// Socket of a serial line, and the daemon's connection to it.
pub struct Socket {
    pub path: PathBuf,
    listener: UnixListener,
    line: Option<UnixStream>,
    seqno: u32,
}

impl Socket {
    pub fn bind(path: PathBuf) -> Socket {
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        // Different sequence numbers on each line.
        let seqno = NUMBERS.fetch_add(1 << 16, Ordering::Relaxed);
        Socket { path, listener, line: None, seqno }
    }

    /// Accepts the connection of the daemon.
    pub fn accept(&mut self) -> &mut UnixStream {
        let mut set = PollSet::new();
        set.add(self.listener.as_fd(), Interest::Read);
        set.wait(Some(LIMIT)).unwrap();
        let (line, _) = self.listener.accept().expect("the daemon connects");
        line.set_nonblocking(false).unwrap();
        line.set_read_timeout(Some(LIMIT)).unwrap();
        self.line.insert(line)
    }

    pub fn line(&mut self) -> &mut UnixStream {
        self.line.as_mut().expect("a line")
    }

    /// Closes the connection, as QEMU does when it exits.
    pub fn hang_up(&mut self) {
        self.line = None;
    }

    /// Returns true if the daemon connects within this time or has connected before.
    pub fn is_wanted(&mut self, within: Duration) -> bool {
        let mut set = PollSet::new();
        set.add(self.listener.as_fd(), Interest::Read);
        set.wait(Some(within)).unwrap();
        self.listener.accept().is_ok()
    }

    /// Waits until the daemon closes the line.
    pub fn await_end(&mut self) {
        let mut buffer = [0; 64];
        match self.line().read(&mut buffer) {
            Ok(0) => self.line = None,
            other => panic!("{}: not closed: {other:?}", self.path.display()),
        }
    }

    /// Sends a request with a new sequence number and returns the byte of the response.
    pub fn ask(&mut self, operation: Operation, vm: &str) -> u8 {
        self.seqno += 1;
        let bytes = request(operation, vm, self.seqno);
        self.line().write_all(&bytes).unwrap();
        self.response()
    }

    /// Reads the next response and returns its byte.
    pub fn response(&mut self) -> u8 {
        let mut response = [0; 5];
        self.line().read_exact(&mut response).unwrap();
        assert_eq!(&response[..4], b"abba", "{response:?}");
        response[4]
    }

    /// Asserts that nothing arrives within this time.
    pub fn assert_silent(&mut self, within: Duration) {
        let line = self.line();
        line.set_read_timeout(Some(within)).unwrap();
        let received = line.read(&mut [0; 64]);
        line.set_read_timeout(Some(LIMIT)).unwrap();
        assert!(received.is_err(), "{received:?}");
    }
}

/// Guests that continuously ask for the status of one VM, driven by one thread.
pub struct PollingGuests {
    guests: Vec<PollingGuest>,
    /// VM whose status is asked for.
    about: String,
    seqno: u32,
}

/// Guest with its socket and all its lines.
struct PollingGuest {
    listener: UnixListener,
    lines: Vec<PollingLine>,
    answers: usize,
}

/// Line with at most one request in flight.
struct PollingLine {
    stream: UnixStream,
    received: Vec<u8>,
    asked: Option<Instant>,
    answers: usize,
}

/// Interval between the requests of a line.
const PACE: Duration = Duration::from_millis(20);

impl PollingGuests {
    pub fn bind(paths: &[PathBuf], about: &str) -> PollingGuests {
        let guest = |path: &PathBuf| {
            let listener = UnixListener::bind(path).unwrap();
            listener.set_nonblocking(true).unwrap();
            PollingGuest { listener, lines: Vec::new(), answers: 0 }
        };
        PollingGuests { guests: paths.iter().map(guest).collect(), about: about.to_owned(), seqno: 0 }
    }

    /// Accepts connections, reads responses and sends requests, for one interval.
    pub fn poll(&mut self) {
        let poll = Instant::now() + PACE;
        for guest in &mut self.guests {
            while let Ok((stream, _)) = guest.listener.accept() {
                stream.set_nonblocking(true).unwrap();
                guest.lines.push(PollingLine { stream, received: Vec::new(), asked: None, answers: 0 });
            }
            let mut answers = 0;
            guest.lines.retain_mut(|line| {
                let before = line.answers;
                let is_open = line.read_responses().is_ok();
                answers += line.answers - before;
                is_open
            });
            guest.answers += answers;
            for line in guest.lines.iter_mut().filter(|line| line.asked.is_none()) {
                self.seqno += 1;
                let bytes = request(Operation::Status, &self.about, self.seqno);
                // Reading finds closed lines.
                if line.stream.write_all(&bytes).is_ok() {
                    line.asked = Some(Instant::now());
                }
            }
        }
        std::thread::sleep(poll.saturating_duration_since(Instant::now()));
    }

    /// Number of open lines of a guest.
    pub fn lines(&self, at: usize) -> usize {
        self.guests[at].lines.len()
    }

    /// Number of answers on the open lines of a guest.
    pub fn answers_now(&self, at: usize) -> usize {
        self.guests[at].lines.iter().map(|line| line.answers).sum()
    }

    /// Number of answers on all lines, closed ones included.
    pub fn answers(&self) -> usize {
        self.guests.iter().map(|guest| guest.answers).sum()
    }
}

impl PollingLine {
    /// Reads available bytes; an error at the end of the line.
    fn read_responses(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.received.len() >= 5 {
            let asked = self.asked.take().expect("an answer to a question");
            assert!(asked.elapsed() < LIMIT, "it waited {:?}", asked.elapsed());
            assert_eq!(&self.received[..4], b"abba", "{:?}", self.received);
            assert!(matches!(self.received[4], 0 | 2), "running or off: {:?}", self.received);
            self.received.drain(..5);
            assert!(self.received.is_empty(), "one answer a question: {:?}", self.received);
            self.answers += 1;
        }
        Ok(())
    }
}
