//! Host's side of serial lines and vmchannels.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use fence_virt::sys::poll::{Interest, PollSet};
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use super::Dir;
use super::agent::AgentRun;

pub const REQUEST_LEN: usize = 74;

/// Pty that represents a serial line. The guest's side stays open here, so
/// that the line outlives an agent.
pub struct Pty {
    pub master: File,
    pub slave: File,
    pub path: PathBuf,
}

impl Pty {
    pub fn new() -> Pty {
        // Agents must not inherit it: the line would never hang up.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = PathBuf::from(ptsname_r(&master).unwrap());
        let slave = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path).unwrap();
        // Raw mode until the agent configures the line.
        let mut raw = tcgetattr(&slave).unwrap();
        cfmakeraw(&mut raw);
        tcsetattr(&slave, SetArg::TCSANOW, &raw).unwrap();
        Pty { master: File::from(OwnedFd::from(master)), slave, path }
    }

    /// Host's end, for a peer.
    pub fn peer_end(&self) -> File {
        self.master.try_clone().unwrap()
    }
}

/// Encoded response with this byte.
pub fn response(byte: u8) -> Vec<u8> {
    [&b"abba"[..], &[byte]].concat()
}

/// Encoded host list of names and states, each VM with the UUID `uuid-NAME`.
pub fn list(vms: &[(&str, u8)]) -> Vec<u8> {
    let mut out = response(253);
    for (name, state) in vms {
        let mut record = [0; 130];
        record[..name.len()].copy_from_slice(name.as_bytes());
        let uuid = format!("uuid-{name}");
        record[64..64 + uuid.len()].copy_from_slice(uuid.as_bytes());
        record[128] = *state;
        out.extend(record);
    }
    out.extend([0; 130]);
    out.extend(response(0));
    out
}

/// Scripted daemon on a line.
pub struct LinePeer {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<Vec<[u8; REQUEST_LEN]>>>,
    count: Arc<AtomicUsize>,
}

impl LinePeer {
    /// Answers each request that arrives at `end` with the bytes of `answer`.
    pub fn new(
        mut end: impl Read + Write + AsFd + Send + 'static,
        mut answer: impl FnMut(&[u8; REQUEST_LEN]) -> Vec<u8> + Send + 'static,
    ) -> LinePeer {
        let (stop, stopped) = UnixStream::pair().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        let thread = std::thread::spawn(move || {
            let mut requests = Vec::new();
            let mut buffer = Vec::new();
            while await_input(&end, &stopped) {
                let mut piece = [0; 256];
                match end.read(&mut piece) {
                    Ok(0) => break,
                    Ok(count) => buffer.extend_from_slice(&piece[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(_) => break,
                }
                while buffer.len() >= REQUEST_LEN {
                    let request: [u8; REQUEST_LEN] = buffer[..REQUEST_LEN].try_into().unwrap();
                    buffer.drain(..REQUEST_LEN);
                    assert_eq!(&request[..4], b"abba", "{request:?}");
                    requests.push(request);
                    counter.store(requests.len(), Ordering::Release);
                    let answer = answer(&request);
                    if end.write_all(&answer).is_err() {
                        return requests;
                    }
                }
            }
            requests
        });
        LinePeer { stop: Some(stop), thread: Some(thread), count }
    }

    /// Number of requests so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Stops the peer and returns all requests in order.
    pub fn requests(mut self) -> Vec<[u8; REQUEST_LEN]> {
        self.stop.take();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for LinePeer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for input. Returns false on a stop.
fn await_input(end: &impl AsFd, stopped: &UnixStream) -> bool {
    let mut set = PollSet::new();
    set.add(end.as_fd(), Interest::Read);
    let slot = set.add(stopped.as_fd(), Interest::Read);
    set.wait(None).unwrap();
    !set.ready(slot).any()
}

/// Relay of bytes between two ends, in both directions, stopped when dropped.
pub struct ByteRelay {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    relayed: Arc<AtomicUsize>,
}

impl ByteRelay {
    pub fn new(
        mut left: impl Read + Write + AsFd + Send + 'static,
        mut right: impl Read + Write + AsFd + Send + 'static,
    ) -> ByteRelay {
        let (stop, stopped) = UnixStream::pair().unwrap();
        let relayed = Arc::new(AtomicUsize::new(0));
        let counter = relayed.clone();
        let thread = std::thread::spawn(move || {
            loop {
                let mut set = PollSet::new();
                let slots = [
                    set.add(left.as_fd(), Interest::Read),
                    set.add(right.as_fd(), Interest::Read),
                    set.add(stopped.as_fd(), Interest::Read),
                ];
                set.wait(None).unwrap();
                let [from_left, from_right, stop] = slots.map(|slot| set.ready(slot).any());
                if from_left {
                    let Some(count) = relay(&mut left, &mut right) else { return };
                    counter.fetch_add(count, Ordering::Release);
                }
                if stop || (from_right && relay(&mut right, &mut left).is_none()) {
                    return;
                }
            }
        });
        ByteRelay { stop: Some(stop), thread: Some(thread), relayed }
    }

    /// Number of bytes relayed from left to right.
    pub fn relayed(&self) -> usize {
        self.relayed.load(Ordering::Acquire)
    }
}

fn relay(from: &mut impl Read, to: &mut impl Write) -> Option<usize> {
    let mut piece = [0; 4096];
    let count = from.read(&mut piece).ok().filter(|&count| count > 0)?;
    to.write_all(&piece[..count]).ok().map(|()| count)
}

impl Drop for ByteRelay {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Command with `directory` as its /run, where agents write their markers.
pub fn with_run(directory: &Path, program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /run && exec \"$@\""]);
    command.arg(directory).arg(program);
    command
}

/// Makes an empty directory for [`with_run`].
pub fn run_directory(dir: &Dir) -> PathBuf {
    let directory = dir.path(&super::unique());
    std::fs::create_dir(&directory).unwrap();
    directory
}

/// Command of an agent on a line, with a private /run.
pub fn on_line(dir: &Dir, agent: &str, line: &Path) -> Command {
    let mut command = with_run(&run_directory(dir), Path::new(agent));
    command.arg("-D").arg(line).stdin(Stdio::null());
    command
}

/// Runs a command with these additional arguments.
pub fn run(command: &mut Command, args: &str) -> AgentRun {
    command.args(args.split_whitespace()).output().unwrap().into()
}
