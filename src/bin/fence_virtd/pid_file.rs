//! The pid file. The daemon holds a lock on it while it runs.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use fence_virt::sys::error_text;
use nix::fcntl::{Flock, FlockArg, OFlag};

/// Default path, the same as of the C daemon.
pub(crate) const DEFAULT: &str = "/var/run/fence_virtd.pid";

/// Locked pid file; removed when dropped.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    file: Flock<File>,
}

impl PidFile {
    /// Locks the pid file at `path`. A stale file, of a daemon that has ended, is taken over; its content
    /// stays until [`write`](PidFile::write).
    /// Errors: a sentence that names the file, and the process id of a running daemon. A symbolic link, or
    /// a file with other names, could lead to any file: neither is used.
    pub(crate) fn take(path: &Path) -> Result<PidFile, String> {
        let failed = |error: io::Error| {
            format!("cannot write the pid file {}: {}", path.display(), error_text(&error))
        };
        // The working directory changes before the file is removed.
        let absolute = std::path::absolute(path).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        let file = options.custom_flags(OPEN_FLAGS.bits()).open(&absolute);
        let file = file.map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => unfit(path, "it is a symbolic link"),
            _ => failed(error),
        })?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(unfit(path, "it is not a regular file"));
        }
        // 0: removed since by the daemon that had it.
        if metadata.nlink() > 1 {
            return Err(unfit(path, "it is a file with another name too (hard link)"));
        }
        let pid = read_pid(&file);
        let running = |pid| {
            format!(
                "fence_virtd is already running with process id {pid} (pid file {}): stop it first, or use another pid file (-p)",
                path.display()
            )
        };
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| running(pid.map_or("unknown".to_owned(), |pid| pid.to_string())))?;
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
        let failed = |error: io::Error| {
            format!("cannot write the pid file {}: {}", self.path.display(), error_text(&error))
        };
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
            log::warn!("cannot remove the pid file {}: {}", self.path.display(), error_text(&error));
        }
    }
}

/// Flags for opening a pid file: no symbolic link, and no wait for the other end of a FIFO.
const OPEN_FLAGS: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK);

/// Maximum number of bytes read of a pid file.
const TEXT_MAX: u64 = 64;

fn unfit(path: &Path, what: &str) -> String {
    format!("cannot use the pid file {}: {what}; remove it, or use another pid file (-p)", path.display())
}

/// Reads a process id; none if the file holds something else.
fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(TEXT_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Returns true if the path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Returns the process id in a pid file if that process is a running fence_virtd.
/// Does not try the lock: that could make a daemon fail that starts at the same time.
pub(crate) fn running(path: &Path) -> Option<u32> {
    let file = File::options().read(true).custom_flags(OPEN_FLAGS.bits()).open(path).ok()?;
    read_pid(&file).filter(|&pid| is_fence_virtd(pid))
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

/// Returns true for a live process of this name. A zombie has ended: it only waits for its parent.
fn is_fence_virtd(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| live_name(&stat) == Some("fence_virtd"))
}

/// Parses the name in proc_pid_stat(5), which may have blanks and parentheses; none if the process has ended.
fn live_name(stat: &str) -> Option<&str> {
    let (start, rest) = stat.rsplit_once(')')?;
    let (_, name) = start.split_once('(')?;
    let is_over = rest.trim_start().starts_with(['Z', 'X', 'x']);
    (!is_over).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use nix::sys::stat::Mode;
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    use nix::unistd::{Pid, mkfifo};

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
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()), "not before the lock");
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
    fn nothing_but_a_pid_file_of_its_own_is_touched() {
        let (target, link, fifo) = (path("target"), path("link"), path("fifo"));
        fs::write(&target, "precious\n").unwrap();
        symlink(&target, &link).unwrap();
        let refusal = PidFile::take(&link).unwrap_err();
        assert!(refusal.contains("symbolic link") && refusal.contains("(-p)"), "{refusal}");
        fs::remove_file(&link).unwrap();
        // A link to nothing would make a file.
        symlink(path("nothing"), &link).unwrap();
        assert!(PidFile::take(&link).is_err() && !path("nothing").exists());
        fs::remove_file(&link).unwrap();
        fs::hard_link(&target, &link).unwrap();
        assert!(PidFile::take(&link).unwrap_err().contains("hard link"));
        fs::remove_file(&link).unwrap();
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        assert!(PidFile::take(&fifo).unwrap_err().contains("not a regular file"));
        assert_eq!(running(&fifo), None);
        fs::remove_file(&fifo).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious\n");
        // A lock alone, of a daemon that then cannot start, changes nothing.
        let taken = PidFile::take(&target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious\n");
        drop(taken);
    }

    #[test]
    fn a_link_to_the_pid_file_is_not_removed() {
        let (path, moved) = (path("swapped"), path("moved"));
        let mut taken = PidFile::take(&path).unwrap();
        taken.write().unwrap();
        fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        drop(taken);
        assert!(fs::symlink_metadata(&path).is_ok(), "it is no longer ours");
        fs::remove_file(&path).unwrap();
        fs::remove_file(&moved).unwrap();
    }

    #[test]
    fn a_zombie_is_no_daemon() {
        let program = path("directory").with_extension("d").join("fence_virtd");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        symlink("/bin/sh", &program).unwrap();
        let mut command = Command::new(&program);
        let mut child = command.arg0("sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
        let pid_file = path("zombie");
        fs::write(&pid_file, format!("{}\n", child.id())).unwrap();
        assert_eq!(running(&pid_file), Some(child.id()));
        assert!(PidFile::take(&pid_file).unwrap_err().contains(&child.id().to_string()));
        drop(child.stdin.take());
        let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(Pid::from_raw(child.id() as i32)), ended).unwrap();
        assert_eq!(running(&pid_file), None);
        drop(PidFile::take(&pid_file).unwrap());
        child.wait().unwrap();
        fs::remove_dir_all(program.parent().unwrap()).unwrap();
    }

    #[test]
    fn the_name_and_state_of_a_process() {
        for (stat, name) in [
            ("7 (fence_virtd) S 1 7", Some("fence_virtd")),
            ("7 (a) R (b) D 1", Some("a) R (b")),
            ("7 (fence_virtd) Z 1", None),
            ("7 (fence_virtd) X 1", None),
            ("7 (Z) t 1", Some("Z")),
            ("", None),
        ] {
            assert_eq!(live_name(stat), name, "{stat}");
        }
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
