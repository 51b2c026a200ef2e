//! Serial lines and vmchannels: the host's side of them.

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

/// A pty that stands for a serial line. The guest's side stays open here, so
/// that the line outlives an agent.
pub struct Pty {
    pub master: File,
    pub slave: File,
    pub path: PathBuf,
}

impl Pty {
    pub fn new() -> Pty {
        // Not to be inherited by agents: the line would never break.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = PathBuf::from(ptsname_r(&master).unwrap());
        let slave = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path).unwrap();
        // Until the agent makes it so, as on a line that nobody configured.
        let mut raw = tcgetattr(&slave).unwrap();
        cfmakeraw(&mut raw);
        tcsetattr(&slave, SetArg::TCSANOW, &raw).unwrap();
        Pty { master: File::from(OwnedFd::from(master)), slave, path }
    }

    /// The other end, for a peer.
    pub fn peer_end(&self) -> File {
        self.master.try_clone().unwrap()
    }
}

/// A response with this byte.
pub fn response(byte: u8) -> Vec<u8> {
    [&b"abba"[..], &[byte]].concat()
}

/// A host list of name and state, each VM with the UUID `uuid-NAME`.
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

/// A daemon on a line that answers each request as a test says.
pub struct LinePeer {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<Vec<[u8; REQUEST_LEN]>>>,
    count: Arc<AtomicUsize>,
}

impl LinePeer {
    /// Answers each request that comes out of `end` with what `answer` makes of it.
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

    /// How many requests have come.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The requests that came, in their order.
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

/// Waits for input; false when it is to stop.
fn await_input(end: &impl AsFd, stopped: &UnixStream) -> bool {
    let mut set = PollSet::new();
    set.add(end.as_fd(), Interest::Read);
    let slot = set.add(stopped.as_fd(), Interest::Read);
    set.wait(None).unwrap();
    !set.ready(slot).any()
}

/// Carries bytes between two ends, both ways, until it is dropped.
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

    /// How many bytes it has carried from the left to the right.
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

/// A command that sees `folder` as /run: what agents note there stays in the test.
pub fn with_run(folder: &Path, program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /run && exec \"$@\""]);
    command.arg(folder).arg(program);
    command
}

/// An empty folder for [`with_run`].
pub fn run_folder(dir: &Dir) -> PathBuf {
    let folder = dir.path(&super::unique());
    std::fs::create_dir(&folder).unwrap();
    folder
}

/// `fence_virt` on a line, with a /run of its own.
pub fn on_line(dir: &Dir, agent: &str, line: &Path) -> Command {
    let mut command = with_run(&run_folder(dir), Path::new(agent));
    command.arg("-D").arg(line).stdin(Stdio::null());
    command
}

/// Runs a command with these words behind it.
pub fn run(command: &mut Command, args: &str) -> AgentRun {
    command.args(args.split_whitespace()).output().unwrap().into()
}
