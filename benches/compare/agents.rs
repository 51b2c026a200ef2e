//! Status by a fence agent: through the daemon, and by the agent itself, in turns.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::common::Dir;
use crate::load::KEY;
use crate::running::Running;
use crate::stats::{Unit, median, percentile};
use crate::table::Table;

/// Agent whose VM is a file.
pub(crate) const AGENT: &str = "/usr/sbin/fence_dummy";
const REQUESTS: usize = 200;
const WARM_UP: usize = 5;

/// Adds the figures of both ways; returns the ratio of their medians.
pub(crate) fn agents(dir: &Dir, table: &mut Table) -> f64 {
    let file = dir.write("dummy", "on");
    let (daemon, key) = (Running::start_agent(dir, AGENT, &file), dir.key("agents.key", KEY));
    let (through, itself) = daemon.inside(|| {
        for _ in 0..WARM_UP {
            ask_daemon(&key);
            ask_agent(&file);
        }
        let mut times = (Vec::new(), Vec::new());
        for at in 0..REQUESTS {
            if at % 2 == 0 {
                times.0.push(ask_daemon(&key));
            }
            times.1.push(ask_agent(&file));
            if at % 2 == 1 {
                times.0.push(ask_daemon(&key));
            }
        }
        times
    });
    table.ours_only("status by fence_virt and fence_dummy", Unit::Seconds, &through);
    table.ours_only("status by fence_dummy alone", Unit::Seconds, &itself);
    let paired: Vec<f64> = through.iter().zip(&itself).map(|(through, itself)| through / itself).collect();
    table.ours_only("the same, ratio of each pair", Unit::Ratio, &paired);
    let spread = |times: &[f64]| [10, 90].map(|percent| percentile(times, percent) * 1e3);
    println!("10th and 90th percentile, in ms: {:.1?} and {:.1?}", spread(&through), spread(&itself));
    median(&through) / median(&itself)
}

/// Seconds of the program fence_virt, from its start to its end.
fn ask_daemon(key: &Path) -> f64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fence_virt"));
    command.args(["-T", &Ipv4Addr::LOCALHOST.to_string(), "-o", "status", "-H", "test", "-k"]).arg(key);
    run(command, "")
}

/// Seconds of the agent, with the input that the daemon gives it.
fn ask_agent(file: &Path) -> f64 {
    let mut command = Command::new(AGENT);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    run(command, &format!("action=status\nstatus_file={}\n", file.display()))
}

fn run(mut command: Command, input: &str) -> f64 {
    let begin = Instant::now();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{command:?} failed: {status}");
    begin.elapsed().as_secs_f64()
}
