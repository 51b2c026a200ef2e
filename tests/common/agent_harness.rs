//! Our agent over TCP against a scripted daemon.

use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use super::Dir;
use super::agent::{AgentRun, OURS};
use super::peer::Peer;
use super::ready;

/// Limit for an agent with a timeout of 1 s, on a busy machine.
pub const SOON: Duration = Duration::from_secs(15);

/// Loopback port between the agent and a scripted daemon, and a key.
pub struct AgentHarness {
    pub dir: Dir,
    pub listener: TcpListener,
}

impl AgentHarness {
    pub fn new() -> AgentHarness {
        let dir = Dir::new();
        dir.key("key", b'k');
        AgentHarness { dir, listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    pub fn agent(&self, args: &str) -> std::process::Command {
        let mut command = std::process::Command::new(OURS);
        let port = self.listener.local_addr().unwrap().port().to_string();
        command.args(["-T", "127.0.0.1", "-p", &port, "-k"]).arg(self.dir.path("key"));
        command.args(args.split_whitespace()).stdin(Stdio::null());
        command
    }

    /// Runs the agent with a script for its first connection.
    pub fn run<T: Send>(&self, args: &str, script: impl FnOnce(Peer) -> T + Send) -> (AgentRun, T) {
        thread::scope(|scope| {
            let peer = scope.spawn(|| script(Peer::new(ready(&self.listener).accept().unwrap().0)));
            let ran = self.agent(args).output().unwrap().into();
            (ran, peer.join().unwrap())
        })
    }

    /// Asserts that `off` fails at once with one line that contains `words`.
    pub fn assert_fails<T: Send>(&self, words: &str, script: impl FnOnce(Peer) -> T + Send) -> T {
        let begin = Instant::now();
        let (ran, result) = self.run("-o off -n node1 -t 30", script);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "one line says why: {ran:?}");
        assert!(ran.stderr.contains(words) && !ran.stderr.contains("imed out"), "{ran:?}");
        assert!(begin.elapsed() < SOON, "it waited for the time-out");
        result
    }
}
