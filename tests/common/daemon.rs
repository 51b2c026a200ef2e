//! Daemons under test.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::net::Namespace;
use super::{Dir, Suite, unique, until};

pub const OURS: &str = env!("CARGO_BIN_EXE_fence_virtd");
pub const THEIRS: &str = "/usr/sbin/fence_virtd";

const LIMIT: Duration = Duration::from_secs(30);

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    log: PathBuf,
    conf: PathBuf,
    notify: Option<UnixDatagram>,
}

impl Daemon {
    /// Starts ours inside a namespace and waits until it says that it is ready.
    pub fn ours(dir: &Dir, namespace: &Namespace, conf: &str) -> Daemon {
        let daemon = Daemon::ours_unready(dir, namespace, conf, &[]);
        daemon.await_ready();
        daemon
    }

    /// The same with this soft limit of open files.
    pub fn ours_limited(dir: &Dir, namespace: &Namespace, conf: &str, soft: u32) -> Daemon {
        let mut command = namespace.command("prlimit");
        command.arg(format!("--nofile={soft}:")).arg(OURS);
        let daemon = Daemon::ours_by(command, dir, conf);
        daemon.await_ready();
        daemon
    }

    /// Starts ours with more arguments, without waiting.
    pub fn ours_unready(dir: &Dir, namespace: &Namespace, conf: &str, args: &[&str]) -> Daemon {
        let mut command = namespace.command(OURS);
        command.args(args);
        Daemon::ours_by(command, dir, conf)
    }

    /// Starts ours by another program, without waiting.
    pub fn ours_by(mut command: Command, dir: &Dir, conf: &str) -> Daemon {
        let name = unique();
        let socket = dir.path(&format!("{name}.notify"));
        let notify = UnixDatagram::bind(&socket).unwrap();
        notify.set_read_timeout(Some(LIMIT)).unwrap();
        command.env("NOTIFY_SOCKET", &socket);
        let conf = with_status(conf, &dir.path(&format!("{name}.status")));
        let (child, log, conf) = spawn(dir, &name, command, &conf);
        Daemon { child, log, conf, notify: Some(notify) }
    }

    /// The same, whose service manager wants to hear of it this often.
    pub fn ours_watched(dir: &Dir, namespace: &Namespace, conf: &str, every: Duration) -> Daemon {
        let mut command = namespace.command(OURS);
        command.env("WATCHDOG_USEC", every.as_micros().to_string());
        let daemon = Daemon::ours_by(command, dir, conf);
        daemon.await_ready();
        daemon
    }

    /// Starts ours with its stderr on a pipe that nobody reads, and at the most talkative.
    pub fn ours_unheard(dir: &Dir, namespace: &Namespace, conf: &str) -> (Daemon, std::process::ChildStderr) {
        let name = unique();
        let socket = dir.path(&format!("{name}.notify"));
        let notify = UnixDatagram::bind(&socket).unwrap();
        notify.set_read_timeout(Some(LIMIT)).unwrap();
        let conf = with_status(conf, &dir.path(&format!("{name}.status")));
        let conf = dir.write(&format!("{name}.conf"), &conf);
        let mut command = namespace.command(OURS);
        command.env("NOTIFY_SOCKET", &socket).arg("-F").arg("-d9").arg("-f").arg(&conf);
        command.arg("-p").arg(dir.path(&format!("{name}.pid"))).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let unread = child.stderr.take().unwrap();
        let daemon = Daemon { child, log: dir.path("none"), conf, notify: Some(notify) };
        daemon.await_ready();
        (daemon, unread)
    }

    /// Starts either one, without waiting.
    pub fn unready(suite: Suite, dir: &Dir, namespace: &Namespace, conf: &str) -> Daemon {
        if suite == Suite::Ours {
            return Daemon::ours_unready(dir, namespace, conf, &[]);
        }
        let mut command = namespace.command(THEIRS);
        command.arg("-d9");
        let (child, log, conf) = spawn(dir, &unique(), command, conf);
        Daemon { child, log, conf, notify: None }
    }

    /// Starts the daemon under test. `port` is the TCP or UDP port that tells when theirs is ready.
    pub fn start(suite: Suite, dir: &Dir, namespace: &Namespace, conf: &str, port: u16) -> Daemon {
        if suite == Suite::Ours {
            return Daemon::ours(dir, namespace, conf);
        }
        let (child, log, conf) = spawn(dir, &unique(), namespace.command(THEIRS), conf);
        let daemon = Daemon { child, log, conf, notify: None };
        until("fence_virtd (C) listens", LIMIT, || daemon.listens(port));
        daemon
    }

    /// Whether a socket of its namespace is bound to this port.
    fn listens(&self, port: u16) -> bool {
        let wanted = format!(":{port:04X} ");
        ["tcp", "tcp6", "udp", "udp6"].iter().any(|table| {
            let path = format!("/proc/{}/net/{table}", self.child.id());
            // Column 4 is the remote address: a listening socket has port 0 there.
            let text = fs::read_to_string(path).unwrap_or_default();
            text.lines().any(|line| line.contains(&wanted) && line.contains(":0000 "))
        })
    }

    pub fn await_ready(&self) {
        self.await_state("READY=1");
    }

    /// Waits until it tells its service manager this state.
    pub fn await_state(&self, wanted: &str) {
        let notify = self.notify.as_ref().expect("a daemon of ours");
        let mut buffer = [0; 256];
        loop {
            let count = notify.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("no {wanted} within {LIMIT:?} ({error}); its log:\n{}", self.log())
            });
            if String::from_utf8_lossy(&buffer[..count]).lines().any(|line| line == wanted) {
                return;
            }
        }
    }

    /// The file of its configuration.
    pub fn conf(&self) -> &Path {
        &self.conf
    }

    /// Gives it another configuration, and waits until it says that it has looked.
    pub fn reload(&self, dir: &Dir, conf: &str) {
        let name = self.conf.file_name().unwrap().to_str().unwrap();
        let conf = with_status(conf, &self.conf.with_extension("status"));
        dir.write(name, &conf);
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

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and the exit status within `limit`.
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
        }
    }
}

/// The same with a status socket of its own.
fn with_status(conf: &str, socket: &Path) -> String {
    conf.replacen("fence_virtd {", &format!("fence_virtd {{ status_socket = \"{}\";", socket.display()), 1)
}

fn spawn(dir: &Dir, name: &str, mut command: Command, conf: &str) -> (Child, PathBuf, PathBuf) {
    let conf = dir.write(&format!("{name}.conf"), conf);
    let log = dir.path(&format!("{name}.log"));
    let out = File::create(&log).unwrap();
    command.arg("-F").arg("-f").arg(&conf).arg("-p").arg(dir.path(&format!("{name}.pid")));
    command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
    (command.spawn().unwrap(), log, conf)
}

/// A configuration with one listener section and libvirt URIs.
pub fn conf(listener: &str, keys: &str, uris: &[String], groups: &str) -> String {
    // Theirs reads no uri1 without a plain uri.
    let number = |at: usize| if at == 0 { String::new() } else { at.to_string() };
    let line = |(at, uri): (usize, &String)| format!("uri{} = \"{uri}\"; ", number(at));
    let uris: String = uris.iter().enumerate().map(line).collect();
    format!(
        "fence_virtd {{ listener = \"{listener}\"; backend = \"libvirt\"; }}\n\
         listeners {{ {listener} {{ {keys} }} }}\n\
         backends {{ libvirt {{ {uris} }} }}\n{groups}\n"
    )
}

/// `key_file`, `hash` and `auth` lines.
pub fn auth_keys(key: &Path, hash: &str, auth: &str) -> String {
    format!("key_file = \"{}\"; hash = \"{hash}\"; auth = \"{auth}\";", key.display())
}
