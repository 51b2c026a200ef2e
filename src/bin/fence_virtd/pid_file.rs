//! The pid file. The daemon holds a lock on it while it runs.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Default path, the same as of the C daemon.
pub(crate) const DEFAULT: &str = "/var/run/fence_virtd.pid";

/// Locked pid file; removed when dropped.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    file: Flock<File>,
}

impl PidFile {
    /// Locks the pid file at `path`. A stale file, of a daemon that has ended, is taken over.
    /// Errors: a sentence that names the file, and the process id of a running daemon.
    pub(crate) fn take(path: &Path) -> Result<PidFile, String> {
        let failed = |error: io::Error| format!("cannot write the pid file {}: {error}", path.display());
        // The working directory changes before the file is removed.
        let absolute = std::path::absolute(path).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        let mut file = options.open(&absolute).map_err(failed)?;
        let mut text = String::new();
        // A file that is not UTF-8 holds no pid.
        let _ = file.read_to_string(&mut text);
        let pid = text.trim().parse::<u32>().ok();
        let running = |pid| {
            format!(
                "fence_virtd is already running with process id {pid} (pid file {}): stop it first, or use another pid file (-p)",
                path.display()
            )
        };
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err(_) => return Err(running(pid.map_or("unknown".to_owned(), |pid| pid.to_string()))),
        };
        if !is_at(&file, &absolute) {
            // The previous holder removed it after we opened it and before we locked it.
            drop(file);
            return PidFile::take(path);
        }
        // The C daemon takes no lock: check whether the process is one.
        match pid.filter(|&pid| pid != std::process::id() && is_fence_virtd(pid)) {
            Some(pid) => Err(running(pid.to_string())),
            None => Ok(PidFile { path: absolute, file }),
        }
    }

    /// Writes our process id, after detaching that of the child.
    /// Errors: a sentence that names the file.
    pub(crate) fn write(&mut self) -> Result<(), String> {
        let failed = |error: io::Error| format!("cannot write the pid file {}: {error}", self.path.display());
        self.file.set_len(0).map_err(failed)?;
        self.file.rewind().map_err(failed)?;
        writeln!(self.file, "{}", std::process::id()).map_err(failed)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if !is_at(&self.file, &self.path) {
            return log::warn!("the pid file {} is no longer ours", self.path.display());
        }
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove the pid file {}: {error}", self.path.display());
        }
    }
}

/// Returns true if the path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Returns the process id in a pid file if that process is a running fence_virtd.
/// Does not try the lock: that could make a daemon fail that starts at the same time.
pub(crate) fn running(path: &Path) -> Option<u32> {
    let mut text = String::new();
    File::open(path).ok()?.take(64).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|&pid| is_fence_virtd(pid))
}

/// Returns the effective user id of a process; none if it has ended.
pub(crate) fn user_of(pid: u32) -> Option<u32> {
    effective_uid(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// Parses `Uid:` of proc_pid_status(5): real, effective, saved, file system.
fn effective_uid(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

fn is_fence_virtd(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == "fence_virtd")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("fence-virtd-{}-{name}.pid", std::process::id()))
    }

    #[test]
    fn a_live_one_is_named_and_a_stale_one_taken_over() {
        let path = path("live");
        fs::write(&path, "999999999\n").unwrap();
        let mut first = PidFile::take(&path).unwrap();
        first.write().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        let refusal = PidFile::take(&path).unwrap_err();
        assert!(refusal.contains(&std::process::id().to_string()), "{refusal}");
        drop(first);
        assert!(!path.exists());
        let moved = PidFile::take(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let successor = PidFile::take(&path).unwrap();
        drop(moved);
        assert!(path.exists(), "a successor's is left alone");
        drop(successor);
        drop(PidFile::take(&path).unwrap());
    }

    #[test]
    fn the_user_is_the_effective_one() {
        assert_eq!(effective_uid("Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n"), Some(2));
        assert_eq!(effective_uid("Name:\tx\n"), None);
        assert_eq!(user_of(std::process::id()), Some(nix::unistd::geteuid().as_raw()));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let refusal = PidFile::take(Path::new("/nonexistent/x.pid")).unwrap_err();
        assert!(refusal.contains("/nonexistent/x.pid"), "{refusal}");
    }
}
