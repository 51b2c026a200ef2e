//! Checks of the running daemon, and of our own user.

use std::path::Path;

use nix::unistd::geteuid;

use crate::pid_file;
use crate::tools::finding::Finding;

const ABOUT: &str = "daemon";

/// Process of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunningDaemon {
    pub(super) pid: u32,
    /// Its user id; none if it has ended meanwhile.
    pub(super) uid: Option<u32>,
}

/// Returns the running daemon that the pid file names.
pub(super) fn running(pid_file: &Path) -> Option<RunningDaemon> {
    let pid = pid_file::running(pid_file)?;
    Some(RunningDaemon { pid, uid: pid_file::user_of(pid) })
}

pub(super) fn own_uid() -> u32 {
    geteuid().as_raw()
}

pub(super) fn judge(running: Option<RunningDaemon>, pid_file: &Path, own_uid: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    if own_uid != 0 {
        let what = format!("started as user id {own_uid}: findings that need root's access may be wrong");
        findings.push(Finding::warning(ABOUT, what, "run this as root"));
    }
    findings.push(match running {
        Some(RunningDaemon { pid, uid: Some(0) | None }) => {
            Finding::ok(ABOUT, format!("running with process id {pid}"))
        }
        Some(RunningDaemon { pid, uid: Some(uid) }) => Finding::note(
            ABOUT,
            format!("running with process id {pid} as user id {uid}: libvirt and the sockets of VMs must allow that user"),
            "see \"As a user of its own\" in docs/SERVICE.md; `fence_virtd --status` shows whether libvirt is connected",
        ),
        None => Finding::note(
            ABOUT,
            format!("fence_virtd is not running (pid file {})", pid_file.display()),
            "start it once there are no errors below, with the service manager or `fence_virtd`",
        ),
    });
    findings
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tools::finding::{Level, levels};

    #[test]
    fn the_daemon_and_our_own_user() {
        let judged = |running, own| levels(&judge(running, Path::new("/p"), own));
        assert_eq!(judged(None, 0), [Level::Note]);
        assert_eq!(judged(Some(RunningDaemon { pid: 7, uid: Some(0) }), 0), [Level::Ok]);
        assert_eq!(judged(Some(RunningDaemon { pid: 7, uid: Some(5) }), 0), [Level::Note]);
        assert_eq!(judged(None, 5), [Level::Warning, Level::Note]);
    }

    #[test]
    fn a_pid_file_of_another_program_is_ignored() {
        let path = std::env::temp_dir().join(format!("fence-doctor-{}.pid", std::process::id()));
        assert_eq!(running(&path), None);
        // A process, but not a fence_virtd.
        fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        assert_eq!(running(&path), None);
        fs::remove_file(&path).unwrap();
    }
}
