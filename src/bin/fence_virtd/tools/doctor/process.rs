//! Who looks, and whether a daemon runs.

use std::path::Path;

use nix::unistd::geteuid;

use super::finding::Finding;
use crate::pid_file;

const ABOUT: &str = "daemon";

/// A daemon that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) pid: u32,
    /// Whose it is; none if it has ended meanwhile.
    pub(super) uid: Option<u32>,
}

/// The daemon that the pid file names.
pub(super) fn running(pid_file: &Path) -> Option<Running> {
    let pid = pid_file::running(pid_file)?;
    Some(Running { pid, uid: pid_file::user_of(pid) })
}

pub(super) fn own_uid() -> u32 {
    geteuid().as_raw()
}

pub(super) fn judge(running: Option<Running>, pid_file: &Path, own_uid: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    if own_uid != 0 {
        let what =
            format!("this was run by the user id {own_uid}: what only root can see may look wrong below");
        findings.push(Finding::warning(ABOUT, what, "run it as root"));
    }
    findings.push(match running {
        Some(Running { pid, uid: Some(0) | None }) => {
            Finding::ok(ABOUT, format!("it runs with process id {pid}"))
        }
        Some(Running { pid, uid: Some(uid) }) => Finding::note(
            ABOUT,
            format!("it runs with process id {pid} as the user id {uid}: libvirt and the sockets of VMs have to let that user in"),
            "docs/SERVICE.md has what it needs (\"As a user of its own\"); `fence_virtd --status` shows whether libvirt takes it",
        ),
        None => Finding::note(
            ABOUT,
            format!("no fence_virtd runs (pid file {})", pid_file.display()),
            "start it when there are no errors below, by the service manager or with `fence_virtd`",
        ),
    });
    findings
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tools::doctor::finding::Level;

    #[test]
    fn who_runs_and_who_looks() {
        let judged = |running, own| {
            let findings = judge(running, Path::new("/p"), own);
            findings.iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(judged(None, 0), [Level::Note]);
        assert_eq!(judged(Some(Running { pid: 7, uid: Some(0) }), 0), [Level::Ok]);
        assert_eq!(judged(Some(Running { pid: 7, uid: Some(5) }), 0), [Level::Note]);
        assert_eq!(judged(None, 5), [Level::Warning, Level::Note]);
    }

    #[test]
    fn a_pid_file_of_something_else_names_no_daemon() {
        let path = std::env::temp_dir().join(format!("fence-doctor-{}.pid", std::process::id()));
        assert_eq!(running(&path), None);
        // A process, but none of that name.
        fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        assert_eq!(running(&path), None);
        fs::remove_file(&path).unwrap();
    }
}
