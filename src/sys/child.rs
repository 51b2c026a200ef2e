//! Child processes that get nothing of the daemon: no descriptor, no environment, no new privileges. Each leads a
//! process group of its own, and is waited for by a descriptor (pidfd_open(2), Linux 5.3).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

use libc::{c_int, c_uint};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, User};

/// PATH of a child.
pub const CHILD_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// User that a child runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildUser {
    uid: u32,
    gid: u32,
}

impl ChildUser {
    /// Finds a user by name.
    ///
    /// # Errors
    ///
    /// A sentence, if there is no such user.
    pub fn named(name: &str) -> Result<ChildUser, String> {
        match User::from_name(name) {
            Ok(Some(user)) => Ok(ChildUser { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
            Ok(None) => Err(format!("there is no user {name:?}")),
            Err(error) => Err(format!("cannot look up the user {name:?}: {}", error.desc())),
        }
    }
}

/// End of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildEnd {
    /// Exit code.
    Exited(i32),
    /// Signal that killed it.
    Killed(i32),
}

/// A running child. If it is dropped before its end, its process group is killed.
#[derive(Debug)]
pub struct ChildProcess {
    child: Child,
    pidfd: OwnedFd,
    is_reaped: bool,
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.signal_group(Signal::SIGKILL);
            // SIGKILL takes effect at once, unless the child hangs in the kernel: then it remains until this process ends.
            let _ = self.child.try_wait();
        }
    }
}

impl ChildProcess {
    /// Starts a program without arguments. Its pipes are nonblocking. Supplementary groups are dropped if it runs as
    /// another `user`.
    ///
    /// # Errors
    ///
    /// Errors of fork(2), execve(2), setuid(2), pidfd_open(2).
    pub fn start(program: &Path, user: Option<ChildUser>) -> io::Result<ChildProcess> {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", CHILD_PATH).env("LC_ALL", "C").current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(ChildUser { uid, gid }) = user {
            command.uid(uid).gid(gid);
        }
        // SAFETY: between fork and exec it makes system calls only, and allocates nothing.
        unsafe { command.pre_exec(restrict) };
        let mut child = command.spawn()?;
        match open_pidfd(&child).and_then(|pidfd| set_nonblocking(&child).map(|()| pidfd)) {
            Ok(pidfd) => Ok(ChildProcess { child, pidfd, is_reaped: false }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Descriptor that is readable once the child has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Takes the pipes: the child's stdin, stdout and stderr.
    pub fn take_pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take())
    }

    /// Sends a signal to the child's process group. The group cannot be another one's: the child, though it may have
    /// ended, has not been reaped.
    pub fn signal_group(&self, signal: Signal) {
        let Ok(pid) = i32::try_from(self.child.id()) else { return };
        // ESRCH: nobody is left. EPERM: only processes that have changed their user.
        let _ = killpg(Pid::from_raw(pid), signal);
    }

    /// Returns the end of the child, if it has ended. What is left of its process group is killed first.
    ///
    /// # Errors
    ///
    /// Errors of waitpid(2).
    pub fn reap(&mut self) -> io::Result<Option<ChildEnd>> {
        if !has_ended(&self.child)? {
            return Ok(None);
        }
        self.signal_group(Signal::SIGKILL);
        let status = self.child.wait()?;
        self.is_reaped = true;
        let killed = || ChildEnd::Killed(status.signal().unwrap_or_default());
        Ok(Some(status.code().map_or_else(killed, ChildEnd::Exited)))
    }
}

/// Restricts the child, after fork and before exec.
fn restrict() -> io::Result<()> {
    // SAFETY: prctl(2) with this option takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // The daemon blocks the signals that it reads from a descriptor: its child would never see a SIGTERM.
    SigSet::empty().thread_set_mask()?;
    // All descriptors of the daemon are close-on-exec already, and so are libvirt's: this makes it certain. ENOSYS
    // before Linux 5.9, EINVAL before 5.11.
    // SAFETY: close_range(2) takes numbers, and with this flag closes nothing before the exec.
    let _ =
        unsafe { libc::syscall(libc::SYS_close_range, 3 as c_uint, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Ok(())
}

fn open_pidfd(child: &Child) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes numbers; the child has not been reaped, so that the id is its own.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0 as c_uint) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just opened it for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_nonblocking(child: &Child) -> io::Result<()> {
    let stdin = child.stdin.as_ref().map(AsFd::as_fd);
    let stdout = child.stdout.as_ref().map(AsFd::as_fd);
    for fd in [stdin, stdout, child.stderr.as_ref().map(AsFd::as_fd)].into_iter().flatten() {
        let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
        fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    Ok(())
}

/// True if the child has ended. It stays as it is, and keeps its id.
fn has_ended(child: &Child) -> io::Result<bool> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags: c_int = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel fills the structure, which lives during the call.
    if unsafe { libc::waitid(libc::P_PID, child.id(), info.as_mut_ptr(), flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was zeroed, and then filled; the process id is 0 if no child has ended.
    Ok(unsafe { info.assume_init().si_pid() } != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::{Interest, PollSet};
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::time::Duration;

    /// A shell script, removed on drop.
    struct Script(PathBuf);

    impl Script {
        fn new(name: &str, text: &str) -> Script {
            let path = std::env::temp_dir().join(format!("fence-child-{}-{name}", std::process::id()));
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            Script(path)
        }

        fn start(&self) -> ChildProcess {
            // Another test's child may have this file open for writing until its exec: ETXTBSY.
            loop {
                match ChildProcess::start(&self.0, None) {
                    Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {}
                    child => return child.unwrap(),
                }
            }
        }
    }

    impl Drop for Script {
        fn drop(&mut self) {
            fs::remove_file(&self.0).unwrap();
        }
    }

    /// Waits for the end of a child; returns it with what the child printed.
    fn end(mut child: ChildProcess) -> (ChildEnd, String) {
        let (_, stdout, _) = child.take_pipes();
        let (mut stdout, mut text) = (stdout.unwrap(), String::new());
        loop {
            let mut set = PollSet::new();
            let slot = set.add(child.pidfd(), Interest::Read);
            set.wait(Some(Duration::from_secs(30))).unwrap();
            assert!(set.ready(slot).any(), "it does not end");
            if let Some(end) = child.reap().unwrap() {
                read_to_end(&mut stdout, &mut text);
                return (end, text);
            }
        }
    }

    /// Reads until nobody is left who could write.
    fn read_to_end(stdout: &mut ChildStdout, text: &mut String) {
        loop {
            let mut set = PollSet::new();
            let slot = set.add(stdout.as_fd(), Interest::Read);
            set.wait(Some(Duration::from_secs(30))).unwrap();
            assert!(set.ready(slot).any(), "somebody still has the pipe");
            match stdout.read_to_string(text) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    result.unwrap();
                    return;
                }
            }
        }
    }

    #[test]
    fn a_child_has_nothing_of_its_parent() {
        let script = Script::new(
            "nothing",
            "env | sort; pwd; ls /proc/self/fd | wc -l; grep NoNewPrivs /proc/self/status; read x; echo \"$x\"; exit 7",
        );
        let mut child = script.start();
        let (stdin, stdout, _) = child.take_pipes();
        stdin.unwrap().write_all(b"hello\n").unwrap();
        child.child.stdout = stdout;
        let (end, text) = end(child);
        assert_eq!(end, ChildEnd::Exited(7));
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("_=")).collect();
        // ls has its own directory open besides the three pipes.
        let expected =
            ["LC_ALL=C", &format!("PATH={CHILD_PATH}"), "PWD=/", "/", "4", "NoNewPrivs:\t1", "hello"];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_a_child_leaves_behind_in_its_group_is_killed() {
        let script = Script::new("left", "sleep 1000 & echo started; exit 0");
        assert_eq!(end(script.start()), (ChildEnd::Exited(0), "started\n".to_owned()));
    }

    #[test]
    fn a_signal_reaches_the_group() {
        let script = Script::new("signal", "sleep 1000");
        let child = script.start();
        child.signal_group(Signal::SIGTERM);
        assert_eq!(end(child).0, ChildEnd::Killed(libc::SIGTERM));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        assert!(ChildProcess::start(Path::new("/nonexistent"), None).is_err());
        assert!(ChildUser::named("no such user").is_err());
        assert!(ChildUser::named("root").is_ok());
    }
}
