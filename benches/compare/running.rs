//! Measured daemon, alone in its network namespace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::client::Client;
use crate::common::daemon::{OURS, THEIRS, auth_keys, conf};
use crate::common::net::Namespace;
use crate::common::{Dir, Suite, unique};
use crate::load;
use crate::resources::Memory;

const START_LIMIT: Duration = Duration::from_secs(30);

/// Seconds from the start.
#[derive(Clone, Copy)]
pub(crate) struct Started {
    /// Until the first accepted connection.
    pub(crate) listening: f64,
    /// Until the first answer, on that connection.
    pub(crate) answering: f64,
}

/// Daemon that has answered once; killed when dropped.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
    namespace: Namespace,
    pub(crate) started: Started,
}

impl Running {
    /// Starts it: tcp on loopback, sha256 for hash and auth, a key of 4,096 bytes, libvirt's test driver.
    pub(crate) fn start(suite: Suite, dir: &Dir) -> Running {
        Running::start_with(suite, dir, |keys| conf("tcp", keys, &["test:///default".to_owned()], ""))
    }

    /// Starts ours with the backend agent: this program's VM is called test, and has its state in a file.
    pub(crate) fn start_agent(dir: &Dir, program: &str, file: &Path) -> Running {
        Running::start_with(Suite::Ours, dir, |keys| {
            format!(
                "fence_virtd {{ listener = \"tcp\"; backend = \"agent\"; }}\n\
                 listeners {{ tcp {{ {keys} }} }}\n\
                 backends {{ agent = \"test\" {{ program = \"{program}\"; option = \"status_file={}\"; }} }}\n",
                file.display()
            )
        })
    }

    fn start_with(suite: Suite, dir: &Dir, conf: impl FnOnce(&str) -> String) -> Running {
        let name = unique();
        let keys = auth_keys(&dir.key(&format!("{name}.key"), load::KEY), "sha256", "sha256");
        let conf = dir.write(&format!("{name}.conf"), &conf(&keys));
        let log = dir.path(&format!("{name}.log"));
        let out = File::create(&log).unwrap();
        let mut command = Command::new(if suite == Suite::Ours { OURS } else { THEIRS });
        command.arg("-F").arg("-f").arg(conf).arg("-p").arg(dir.path(&format!("{name}.pid")));
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);

        let namespace = Namespace::new();
        // It inherits this thread's network namespace.
        let (child, begin, first) = namespace.inside(|| {
            let begin = Instant::now();
            let mut child = command.spawn().unwrap();
            let first = first_answer(begin);
            if first.is_none() {
                let _ = child.kill();
            }
            (child, begin, first)
        });
        let mut running =
            Running { child, log, namespace, started: Started { listening: 0.0, answering: 0.0 } };
        let Some((listening, answering)) = first else {
            panic!(
                "{suite:?} gives no answer {:?} after its start; its log:\n{}",
                begin.elapsed(),
                running.log()
            );
        };
        running.started = Started { listening: listening.as_secs_f64(), answering: answering.as_secs_f64() };
        running
    }

    /// Runs `body` in its namespace.
    pub(crate) fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        self.namespace.inside(body)
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory::of(self.child.id())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the times of the first accepted connection and of the answer on it.
fn first_answer(begin: Instant) -> Option<(Duration, Duration)> {
    let mut client = loop {
        match load::connect(START_LIMIT) {
            Ok(client) => break client,
            Err(_) if begin.elapsed() < START_LIMIT => pause(),
            Err(_) => return None,
        }
    };
    let listening = begin.elapsed();
    let answer = |client: &mut Client| client.ask(&load::status());
    answer(&mut client).ok().filter(|&verdict| verdict == 0)?;
    Some((listening, begin.elapsed()))
}

/// Waits a moment: no event reports that a port gets a listener.
#[allow(clippy::disallowed_methods)]
fn pause() {
    std::thread::sleep(Duration::from_micros(200));
}
