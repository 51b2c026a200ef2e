//! Test harness: network namespaces, daemons, agents, hypervisors in files.
//! Dropping a handle removes what it made; only processes started here are
//! killed, by their id.
#![allow(dead_code, unreachable_pub, missing_docs)]
#![allow(clippy::disallowed_methods, clippy::print_stderr, clippy::panic, clippy::unwrap_used)]

pub mod agent;
pub mod agent_harness;
pub mod client;
pub mod daemon;
pub mod guests;
pub mod libvirtd;
pub mod line;
pub mod load;
pub mod multicast;
pub mod net;
pub mod node;
pub mod peer;
pub mod tcp_host;

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Time within which whatever a test has started must connect to it.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);

/// Origin of the daemon or the agents that a test drives: this project or the C suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    Ours,
    Theirs,
}

/// Daemon under test, from `FENCE_UNDER_TEST`: `ours` (the default) or `theirs`.
pub fn under_test() -> Suite {
    suite("FENCE_UNDER_TEST")
}

fn suite(variable: &str) -> Suite {
    match std::env::var(variable).as_deref() {
        Ok("theirs") => Suite::Theirs,
        Ok("ours") | Err(_) => Suite::Ours,
        Ok(other) => panic!("{variable} is {other:?}: say ours or theirs"),
    }
}

/// Requirement that this machine does not meet, as the reason for a skip.
#[derive(Debug)]
pub struct Missing(pub String);

/// Unwraps what a test requires. If the machine lacks it, reports the test as
/// skipped ([`skip`]) and returns from the test.
#[allow(unused_macros)]
macro_rules! require {
    ($needed:expr) => {
        match $needed {
            Ok(needed) => needed,
            Err($crate::common::Missing(why)) => {
                fn here() {}
                return $crate::common::skip($crate::common::enclosing_function(here), &why);
            }
        }
    };
}
#[allow(unused_imports)]
pub(crate) use require;

/// Name of the function that encloses the function `inner`.
pub fn enclosing_function<F>(_inner: F) -> &'static str {
    let path = std::any::type_name::<F>();
    path.rsplit("::").skip(1).find(|segment| *segment != "{{closure}}").unwrap_or(path)
}

/// Reports a skipped test on stderr. With `FENCE_SKIP=fail` it panics instead.
/// `FENCE_SKIPPED` names a file that collects the reports, because cargo hides
/// the output of a test that passes.
pub fn skip(test: &str, why: &str) {
    assert!(std::env::var("FENCE_SKIP").as_deref() != Ok("fail"), "{test} was skipped: {why}");
    let line = format!("*** SKIPPED {test}: {why} ***\n");
    eprint!("\n{line}\n");
    if let Some(path) = std::env::var_os("FENCE_SKIPPED") {
        let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// Requirement that is met or else missing for the reason `why`.
pub fn met(is_met: bool, why: &str) -> Result<(), Missing> {
    if is_met { Ok(()) } else { Err(Missing(why.to_owned())) }
}

/// Requirement: root, with the purpose for the report.
pub fn root(purpose: &str) -> Result<(), Missing> {
    met(nix::unistd::geteuid().is_root(), &format!("it needs root, {purpose}"))
}

/// Requirement of most tests: root for namespaces, and the C suite.
pub fn root_and_c_suite() -> Result<(), Missing> {
    root("for network namespaces")?;
    let has_suite = Path::new(agent::VIRT).exists() && Path::new(daemon::THEIRS).exists();
    met(has_suite, "it needs the packages fence-virt and fence-virtd (make test-peers)")
}

/// Requirement: a program, from the package of the same name.
pub fn program_installed(name: &str) -> Result<(), Missing> {
    met(Command::new(name).arg("--version").output().is_ok(), &format!("it needs the package {name}"))
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Name that no other test uses at the same time.
pub fn unique() -> String {
    format!("fv{}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Temporary directory of one test, removed when dropped. Its path is short
/// enough for unix sockets.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Dir {
        let path = std::env::temp_dir().join(unique());
        fs::create_dir(&path).unwrap();
        Dir(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file with mode 0600.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Writes a key file of 4096 bytes derived from `letter`; see [`key_bytes`].
    pub fn key(&self, name: &str, letter: u8) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, key_bytes(letter)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

/// Key of 4096 bytes; each letter gives another key.
pub fn key_bytes(letter: u8) -> Vec<u8> {
    (0..4096u32).map(|at| letter ^ (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Lets time pass where nothing else is awaited: a program has to stand still for so long.
pub fn elapse(time: Duration) {
    std::thread::sleep(time);
}

/// Listener at which a connection waits, so that `accept` does not block a test for ever.
pub fn ready<L: AsFd>(listener: &L) -> &L {
    let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(CONNECTION_LIMIT).unwrap();
    assert_eq!(poll(&mut waiting, limit).unwrap(), 1, "nobody connects within {CONNECTION_LIMIT:?}");
    listener
}

/// Polls a condition until it holds, for conditions without an event to wait for.
pub fn until(what: &str, limit: Duration, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is_true() {
        assert!(Instant::now() < end, "after {limit:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
