//! What the process of an agent has, and how many there are.

use std::process::Command;

use fence_virt::fence::Operation::{Off, Status};

use crate::common::daemon::{Daemon, OURS};
use crate::common::{met, require};
use crate::fake::{AgentBench, FakeAgent, SUCCESS};

/// Shell commands that write down what the process has. The shell's own descriptors lead to its script.
const CONFESS: &str = "tr '\\0' '\\n' </proc/$$/environ >environ; tr '\\0' '\\n' </proc/$$/cmdline >cmdline; \
                       readlink /proc/$$/fd/* >fds; cat /proc/self/status >status; \
                       cat /proc/$$/stat >stat";

fn field(agent: &FakeAgent, name: &str) -> String {
    let text = agent.text("status");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap().to_owned();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn an_agent_has_nothing_of_the_daemon() {
    let bench = require!(AgentBench::new());
    let agent = FakeAgent::new(&bench.dir);
    agent.write("at-start", CONFESS);
    // A daemon with a descriptor that it does not close on exec, and with a secret in its environment.
    let script = format!("exec 7</dev/zero; export TOKEN=hunter2; exec {OURS} \"$@\"");
    let conf = bench.conf("agent", &agent.section("", "option = \"password=hunter2\";"), "");
    let daemon = Daemon::builder(&bench.dir, &bench.namespace)
        .command(&["sh", "-c", &script, "fence_virtd"])
        .start(&conf);
    assert!(std::fs::read_link(format!("/proc/{}/fd/7", daemon.pid())).is_ok(), "the daemon has it");
    assert_eq!(bench.ask(Status, "web"), SUCCESS);
    let mut environment: Vec<String> = agent.text("environ").lines().map(str::to_owned).collect();
    environment.sort();
    assert_eq!(environment, ["LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    let arguments = agent.text("cmdline");
    assert_eq!(arguments.trim_end(), format!("/bin/sh\n{}", agent.program().display()));
    let text = agent.text("fds");
    // The shell has its files open besides, and redirects its own stdout.
    let folder = agent.path("").display().to_string();
    let descriptors: Vec<&str> = text.lines().filter(|line| !line.starts_with(&folder)).collect();
    assert!(
        (2..=3).contains(&descriptors.len()) && descriptors.iter().all(|line| line.starts_with("pipe:")),
        "{text}"
    );
    for (name, value) in [("NoNewPrivs", "1"), ("SigBlk", "0000000000000000")] {
        assert_eq!(field(&agent, name), value, "{name}");
    }
    // Of the signals that a program handles: the rest is the C library's.
    let ignored = u64::from_str_radix(&field(&agent, "SigIgn"), 16).unwrap();
    assert_eq!(ignored & 0x7fff_ffff, 0);
    let stat = agent.text("stat");
    let rest: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let pid = stat.split(' ').next().unwrap();
    assert_eq!((rest[1], rest[2]), (daemon.pid().to_string().as_str(), pid), "parent, process group");
}

#[test]
fn an_agent_runs_as_its_user() {
    let bench = require!(AgentBench::new());
    let id = |option: &str| {
        let output = Command::new("id").args([option, "nobody"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (uid, gid) = (id("-u"), id("-g"));
    require!(met(!uid.is_empty(), "it needs a user nobody"));
    let agent = FakeAgent::new(&bench.dir);
    agent.write("at-start", CONFESS);
    agent.give_to(uid.parse().unwrap());
    let password = bench.dir.write("password", "hunter2\n");
    let lines = format!("user = \"nobody\"; password_file = \"{}\";", password.display());
    let conf = bench.conf("agent", &agent.section("", &lines), "");
    // The daemon has groups that are not the user's.
    let words = ["setpriv", "--groups", "0,4,6", OURS];
    let daemon = Daemon::builder(&bench.dir, &bench.namespace).command(&words).start(&conf);
    assert_eq!(bench.asked(&[Status, Off], "web"), [SUCCESS; 2], "{}", daemon.log());
    assert_eq!(field(&agent, "Uid"), [uid.as_str(); 4].join(" "));
    assert_eq!(field(&agent, "Gid"), [gid.as_str(); 4].join(" "));
    assert_eq!(field(&agent, "Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(&agent, set), "0000000000000000", "{set}");
    }
}

#[test]
fn no_more_run_at_once_than_the_configuration_allows() {
    let bench = require!(AgentBench::new());
    let agent = FakeAgent::new(&bench.dir);
    let vms = 200..208;
    agent.write("list", &vms.clone().map(|plug| format!("{plug},vm{plug}\n")).collect::<String>());
    vms.clone().for_each(|plug| agent.set(&plug.to_string(), "on"));
    for action in ["status", "off"] {
        agent.hook(action, "sleep 0.1");
    }
    let daemon = bench.start(&bench.conf("agent", &agent.section("", "max_parallel = \"3\";"), ""));
    assert_eq!(bench.ask(Status, "vm200"), SUCCESS);
    agent.forget_calls();
    std::thread::scope(|scope| {
        for plug in vms {
            let bench = &bench;
            scope.spawn(move || assert_eq!(bench.ask(Off, &format!("vm{plug}")), SUCCESS));
        }
    });
    let (mut running, mut most) = (0, 0);
    for line in agent.ends() {
        match line.as_str() {
            "begin status" | "begin off" => running += 1,
            "end status" | "end off" => running -= 1,
            _ => {}
        }
        most = most.max(running);
    }
    assert_eq!((running, most), (0, 3), "{:?}", agent.ends());
    let (_, text) = bench.tool(&daemon, &["--status"]);
    assert!(text.contains("agent: ") && text.contains("0 of 3 lanes busy"), "{text}");
}
