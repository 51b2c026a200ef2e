//! Daemons under test, ours and the C one.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::net::Namespace;
use super::{Dir, Suite, unique, until};

pub const OURS: &str = env!("CARGO_BIN_EXE_fence_virtd");
pub const THEIRS: &str = "/usr/sbin/fence_virtd";

const LIMIT: Duration = Duration::from_secs(30);
/// Port of the TCP and multicast listeners unless a configuration names another.
const PORT: u16 = 1229;

/// Options of a daemon to start. Made by [`Daemon::builder`].
pub struct DaemonBuilder<'a> {
    dir: &'a Dir,
    namespace: &'a Namespace,
    suite: Suite,
    command: Vec<String>,
    args: Vec<String>,
    watchdog: Option<Duration>,
}

impl DaemonBuilder<'_> {
    /// Selects our daemon (the default) or the C daemon.
    pub fn suite(mut self, suite: Suite) -> Self {
        self.suite = suite;
        self
    }

    /// Adds arguments of the daemon.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.to_string()));
        self
    }

    /// Replaces the program by these words. The daemon's arguments follow them.
    pub fn command(mut self, words: &[&str]) -> Self {
        self.command = words.iter().map(|word| word.to_string()).collect();
        self
    }

    /// Sets the soft limit of open descriptors.
    pub fn descriptor_limit(self, soft: u32) -> Self {
        self.command(&["prlimit", &format!("--nofile={soft}:"), OURS])
    }

    /// Requests a heartbeat at this interval, as a service manager does.
    pub fn watchdog(mut self, interval: Duration) -> Self {
        self.watchdog = Some(interval);
        self
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(self, conf: &str) -> Daemon {
        let daemon = self.spawn(conf);
        daemon.await_ready();
        daemon
    }

    /// Starts the daemon without waiting.
    pub fn spawn(self, conf: &str) -> Daemon {
        let name = unique();
        let log = File::create(self.dir.path(&format!("{name}.log"))).unwrap();
        self.spawn_as(&name, conf, log.try_clone().unwrap().into(), log.into())
    }

    /// Starts the daemon with its stderr on a pipe that nobody reads, and waits
    /// until it is ready.
    pub fn start_with_unread_log(self, conf: &str) -> (Daemon, ChildStderr) {
        let mut daemon = self.spawn_as(&unique(), conf, Stdio::null(), Stdio::piped());
        daemon.await_ready();
        let unread = daemon.child.stderr.take().unwrap();
        (daemon, unread)
    }

    fn spawn_as(self, name: &str, conf: &str, stdout: Stdio, stderr: Stdio) -> Daemon {
        let path = |end: &str| self.dir.path(&format!("{name}.{end}"));
        let program = if self.suite == Suite::Ours { OURS } else { THEIRS };
        let words = if self.command.is_empty() { vec![program.to_owned()] } else { self.command };
        let mut command = self.namespace.command(&words[0]);
        command.args(&words[1..]).args(&self.args);
        let mut notify = None;
        let mut conf = conf.to_owned();
        if self.suite == Suite::Ours {
            let socket = notify.insert(UnixDatagram::bind(path("notify")).unwrap());
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            command.env("NOTIFY_SOCKET", path("notify"));
            conf = with_status(&conf, &path("status"));
        }
        if let Some(interval) = self.watchdog {
            command.env("WATCHDOG_USEC", interval.as_micros().to_string());
        }
        let conf = self.dir.write(&format!("{name}.conf"), &conf);
        command.arg("-F").arg("-f").arg(&conf).arg("-p").arg(path("pid"));
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        Daemon { child: command.spawn().unwrap(), log: path("log"), conf, notify }
    }
}

/// Running daemon, killed when dropped.
pub struct Daemon {
    child: Child,
    log: PathBuf,
    conf: PathBuf,
    /// Socket of the service manager; the C daemon has none.
    notify: Option<UnixDatagram>,
}

impl Daemon {
    /// Options of a daemon in `namespace` with its files in `dir`.
    pub fn builder<'a>(dir: &'a Dir, namespace: &'a Namespace) -> DaemonBuilder<'a> {
        DaemonBuilder {
            dir,
            namespace,
            suite: Suite::Ours,
            command: Vec::new(),
            args: Vec::new(),
            watchdog: None,
        }
    }

    /// Returns true if a socket of its namespace listens on this port.
    fn listens(&self, port: u16) -> bool {
        let wanted = format!(":{port:04X} ");
        ["tcp", "tcp6", "udp", "udp6"].iter().any(|table| {
            let path = format!("/proc/{}/net/{table}", self.child.id());
            // Column 4 is the remote address: a listening socket has port 0 there.
            let text = fs::read_to_string(path).unwrap_or_default();
            text.lines().any(|line| line.contains(&wanted) && line.contains(":0000 "))
        })
    }

    /// Waits until the daemon reports readiness, or, for the C daemon, listens.
    pub fn await_ready(&self) {
        match &self.notify {
            Some(_) => self.await_state("READY=1"),
            None => until("fence_virtd (C) listens", LIMIT, || self.listens(PORT)),
        }
    }

    /// Waits until the daemon sends this state to its service manager.
    pub fn await_state(&self, wanted: &str) {
        let notify = self.notify.as_ref().expect("a daemon of ours");
        let mut buffer = [0; 256];
        loop {
            let count = match notify.recv(&mut buffer) {
                Ok(count) => count,
                // A receive with a timeout is interrupted when this process was stopped and goes on (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => panic!("no {wanted} within {LIMIT:?} ({error}); its log:\n{}", self.log()),
            };
            if String::from_utf8_lossy(&buffer[..count]).lines().any(|line| line == wanted) {
                return;
            }
        }
    }

    /// Path of its configuration.
    pub fn conf(&self) -> &Path {
        &self.conf
    }

    /// Replaces the configuration, of which the daemon is not told.
    pub fn replace(&self, dir: &Dir, conf: &str) {
        let name = self.conf.file_name().unwrap().to_str().unwrap();
        dir.write(name, &with_status(conf, &self.conf.with_extension("status")));
    }

    /// Replaces the configuration, sends SIGHUP and waits until the daemon has handled it.
    pub fn reload(&self, dir: &Dir, conf: &str) {
        self.replace(dir, conf);
        self.signal(Signal::SIGHUP);
        self.await_state("READY=1");
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn await_log(&self, words: &str) {
        until(&format!("{words:?} in the log\n{}", self.log()), LIMIT, || self.log().contains(words));
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Stops all its threads, as SIGSTOP does; `SIGCONT` ends that.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let state = || fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        until("the daemon is stopped", LIMIT, || state().contains(") T "));
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM and returns the exit status, within `limit`.
    pub fn stop(mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.await_exit(limit)
    }

    pub fn await_exit(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        until("the daemon has ended", limit, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the daemon ---\n{}---", self.log());
        } else {
            let log = self.log();
            assert!(!log.contains("(os error "), "use sys::error_text for errors of the system:\n{log}");
        }
    }
}

/// Configuration with a status socket of its own.
fn with_status(conf: &str, socket: &Path) -> String {
    conf.replacen("fence_virtd {", &format!("fence_virtd {{ status_socket = \"{}\";", socket.display()), 1)
}

/// Configuration with one listener section and libvirt URIs.
pub fn conf(listener: &str, keys: &str, uris: &[String], groups: &str) -> String {
    // The C daemon reads no uri1 without a plain uri.
    let number = |at: usize| if at == 0 { String::new() } else { at.to_string() };
    let line = |(at, uri): (usize, &String)| format!("uri{} = \"{uri}\"; ", number(at));
    let uris: String = uris.iter().enumerate().map(line).collect();
    format!(
        "fence_virtd {{ listener = \"{listener}\"; backend = \"libvirt\"; }}\n\
         listeners {{ {listener} {{ {keys} }} }}\n\
         backends {{ libvirt {{ {uris} }} }}\n{groups}\n"
    )
}

/// Settings `key_file`, `hash` and `auth` of a listener.
pub fn auth_keys(key: &Path, hash: &str, auth: &str) -> String {
    format!("key_file = \"{}\"; hash = \"{hash}\"; auth = \"{auth}\";", key.display())
}
