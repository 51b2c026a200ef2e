//! Our agent over TCP, and a script in the daemon's place.

use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use super::Dir;
use super::agent::{AgentRun, OURS};
use super::peer::Peer;

/// More than a time-out of a second and a busy machine need.
pub const SOON: Duration = Duration::from_secs(15);

/// A port of the loopback with the agent on the one side and a script on the other.
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

    /// Runs the agent against a script for its first connection.
    pub fn run<T: Send>(&self, args: &str, script: impl FnOnce(Peer) -> T + Send) -> (AgentRun, T) {
        thread::scope(|scope| {
            let peer = scope.spawn(|| script(Peer::new(self.listener.accept().unwrap().0)));
            let ran = self.agent(args).output().unwrap().into();
            (ran, peer.join().unwrap())
        })
    }

    /// The same for an `off` that has to fail, at once, with these words.
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
