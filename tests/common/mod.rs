//! What the tests are made of: namespaces, daemons, agents, hypervisors in
//! files. Everything a test makes goes when its handle is dropped; only
//! processes that were started here are ended, by their id.
#![allow(dead_code, unreachable_pub, missing_docs)]
#![allow(clippy::disallowed_methods, clippy::print_stderr, clippy::panic, clippy::unwrap_used)]

pub mod agent;
pub mod bed;
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

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Whose daemon or agents a test drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    Ours,
    Theirs,
}

/// From `FENCE_UNDER_TEST`: `ours` (as without it) or `theirs`.
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

/// A test that cannot run here says so, and fails where everything has to
/// run: `FENCE_SKIP=fail`. `FENCE_SKIPPED` is a file that collects what was
/// skipped, since cargo shows nothing of a test that passes.
pub fn skip(test: &str, why: &str) {
    assert!(std::env::var("FENCE_SKIP").as_deref() != Ok("fail"), "{test} was skipped: {why}");
    let line = format!("*** SKIPPED {test}: {why} ***\n");
    eprint!("\n{line}\n");
    if let Some(path) = std::env::var_os("FENCE_SKIPPED") {
        let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// Whether what the tests need is here: root for namespaces, the C suite.
pub fn have_peers(test: &str) -> bool {
    let missing = if !nix::unistd::geteuid().is_root() {
        Some("it needs root, for network namespaces")
    } else if !Path::new(agent::VIRT).exists() || !Path::new(daemon::THEIRS).exists() {
        Some("it needs the packages fence-virt and fence-virtd (make test-peers)")
    } else {
        None
    };
    if let Some(why) = missing {
        skip(test, why);
    }
    missing.is_none()
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A name that no other test has at the same time.
pub fn unique() -> String {
    format!("fv{}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A folder of a test's own; its path is short, for unix sockets.
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

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A key of 4096 bytes made from a letter, so that tests can say which.
    pub fn key(&self, name: &str, letter: u8) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, key_bytes(letter)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

pub fn key_bytes(letter: u8) -> Vec<u8> {
    (0..4096u32).map(|at| letter ^ (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until something is true; for what has no event to wait for.
pub fn until(what: &str, limit: Duration, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is_true() {
        assert!(Instant::now() < end, "after {limit:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
