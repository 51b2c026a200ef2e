//! Many serial lines: memory of each, and time of one request among them.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fence_virt::fence::Operation;

use crate::common::daemon::{OURS, THEIRS, auth_keys, conf};
use crate::common::guests::{Socket, raise_descriptor_limit, serial};
use crate::common::net::Namespace;
use crate::common::{Dir, Suite, node};
use crate::resources::Memory;
use crate::rounds;
use crate::stats::{Unit, median, percentile};
use crate::table::Table;

/// Lines that both daemons support: the C daemon uses select(2) with 1,024 descriptors.
const BOTH: usize = 900;
const MANY: usize = 3000;
const ROUNDS: usize = 3;
const REQUESTS: usize = 1000;
const WARM_UP: usize = 100;
/// Silence on all lines before a request.
const SILENCE: Duration = Duration::from_millis(5);

/// Costs of a daemon with many lines.
struct Measured {
    /// Bytes of resident memory for each line.
    memory: f64,
    /// Seconds of a status on one of the lines, after a silence of all lines.
    p50: f64,
    /// Seconds of a status right after the previous answer.
    p50_at_once: f64,
    /// Time from the start of the daemon until all lines are connected.
    connected: f64,
}

/// Returns the ratio of the times of a request at [`BOTH`] lines, and ours at
/// [`MANY`] lines in milliseconds.
pub(crate) fn lines(table: &mut Table) -> (f64, f64) {
    raise_descriptor_limit();
    let both = rounds(ROUNDS, |suite| measure(suite, BOTH));
    let p50 = table.compare("status on one of 900 lines, p50", Unit::Seconds, &both.map(|m| m.p50));
    table.compare("the same, right after another", Unit::Seconds, &both.map(|m| m.p50_at_once));
    table.compare("900 lines, memory of each", Unit::Bytes, &both.map(|m| m.memory));
    table.compare("start to 900 lines connected", Unit::Seconds, &both.map(|m| m.connected));
    let many: Vec<Measured> = (0..ROUNDS).map(|_| measure(Suite::Ours, MANY)).collect();
    let one: Vec<Measured> = (0..ROUNDS).map(|_| measure(Suite::Ours, 1)).collect();
    let of =
        |measured: &[Measured], figure: fn(&Measured) -> f64| measured.iter().map(figure).collect::<Vec<_>>();
    table.ours_only("status on the one line, p50", Unit::Seconds, &of(&one, |m| m.p50));
    table.ours_only("status on one of 3,000 lines, p50", Unit::Seconds, &of(&many, |m| m.p50));
    table.ours_only("the same, right after another", Unit::Seconds, &of(&many, |m| m.p50_at_once));
    table.ours_only("3,000 lines, memory of each", Unit::Bytes, &of(&many, |m| m.memory));
    table.ours_only("start to 3,000 lines connected", Unit::Seconds, &of(&many, |m| m.connected));
    (p50, median(&of(&many, |m| m.p50)) * 1e3)
}

fn measure(suite: Suite, count: usize) -> Measured {
    let dir = Dir::new();
    let mut sockets: Vec<Socket> = (0..count).map(|at| Socket::bind(dir.path(&at.to_string()))).collect();
    let uri = node::crowd_with_lines(&dir, "node.xml", sockets.iter().map(|socket| serial(&socket.path)));
    // Baseline: the same VMs without a served line.
    let elsewhere = dir.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let namespace = Namespace::new();
    let bare = Daemon::start(suite, &dir, &namespace, &uri, elsewhere);
    bare.await_quiet();
    let without = bare.resident();
    drop(bare);
    let begin = Instant::now();
    let daemon = Daemon::start(suite, &dir, &namespace, &uri, dir.path(""));
    for socket in &mut sockets {
        socket.accept();
    }
    let connected = begin.elapsed().as_secs_f64();
    let socket = &mut sockets[count / 2];
    let mut ask = || {
        let begin = Instant::now();
        assert_eq!(socket.ask(Operation::Status, "vm0"), 0);
        begin.elapsed().as_secs_f64()
    };
    let memory = {
        ask();
        (daemon.resident() - without) / count as f64
    };
    for _ in 0..WARM_UP {
        ask();
    }
    let at_once: Vec<f64> = (0..REQUESTS).map(|_| ask()).collect();
    let after_silence: Vec<f64> = (0..REQUESTS / 4)
        .map(|_| {
            rest(SILENCE);
            ask()
        })
        .collect();
    let p50 = percentile(&after_silence, 50);
    Measured { memory, p50, p50_at_once: percentile(&at_once, 50), connected }
}

/// Waits for a silence, which precedes each measured request.
#[allow(clippy::disallowed_methods)]
fn rest(time: Duration) {
    std::thread::sleep(time);
}

/// Daemon with a serial listener; killed when dropped.
struct Daemon(Child);

impl Daemon {
    fn start(suite: Suite, dir: &Dir, namespace: &Namespace, uri: &str, path: PathBuf) -> Daemon {
        let name = crate::common::unique();
        // The C daemon requires a key here too.
        let key = auth_keys(&dir.key(&format!("{name}.key"), b'k'), "sha256", "sha256");
        let key = key.split_inclusive(';').next().unwrap();
        let keys = format!("uri = \"{uri}\"; path = \"{}\"; mode = \"serial\"; {key}", path.display());
        let conf = dir.write(&format!("{name}.conf"), &conf("serial", &keys, &[uri.to_owned()], ""));
        let out = File::create(dir.path(&format!("{name}.log"))).unwrap();
        let mut command = Command::new(if suite == Suite::Ours { OURS } else { THEIRS });
        command.arg("-F").arg("-f").arg(conf).arg("-p").arg(dir.path(&format!("{name}.pid")));
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        // It inherits this thread's network namespace.
        Daemon(namespace.inside(|| command.spawn().unwrap()))
    }

    fn resident(&self) -> f64 {
        Memory::of(self.0.id()).resident
    }

    /// Waits until it has been idle for a while; no event reports that.
    fn await_quiet(&self) {
        let ticks = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
            fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
        };
        let mut last = u64::MAX;
        loop {
            rest(Duration::from_millis(500));
            let now = ticks();
            if now == last {
                return;
            }
            last = now;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
