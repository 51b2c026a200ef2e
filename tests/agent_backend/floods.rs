//! Agents that print too much, or what nobody may see, and those that read nothing.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use fence_virt::fence::Operation::{Devstatus, Off, Status};

use crate::common::{require, until};
use crate::fake::{ACTIONS, AgentBench, FAILURE, LIMIT, OFF, PARAMETERS, SUCCESS, metadata};

/// Memory that the daemon has had at most, in KiB.
fn peak(daemon: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{daemon}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn floods_end_the_agent_and_do_not_grow_the_daemon_or_its_log() {
    let bench = require!(AgentBench::new());
    let (agent, daemon) = bench.with_one("");
    assert_eq!(bench.ask(Status, "web"), SUCCESS);
    let before = peak(daemon.pid());
    agent.hook("status", "exec cat /dev/zero");
    assert_eq!([bench.ask(Status, "web"), bench.ask(Off, "web")], [FAILURE; 2]);
    daemon.await_log("status of \"100\" failed (it printed more than a megabyte)");
    agent.hook("list", "exec cat /dev/zero");
    agent.hook("status", "yes some noise | head -c 30000000 >&2; head -c 3000000 /dev/zero | tr '\\0' x >&2");
    assert_eq!([bench.ask(Status, "web"), bench.ask(Off, "web")], [SUCCESS; 2]);
    agent.hook("status", "yes some noise | head -c 30000000 >&2; exit 1");
    assert_eq!(bench.ask(Status, "web"), FAILURE);
    let growth = peak(daemon.pid()) - before;
    assert!(growth < 16 * 1024, "{growth} KiB");
    let log = daemon.log();
    let noise = log.matches("some noise").count();
    assert!((20..120).contains(&noise) && log.len() < 60_000, "{noise} lines, {} bytes", log.len());
}

#[test]
fn an_agent_that_reads_nothing_does_not_end_the_daemon() {
    let bench = require!(AgentBench::new());
    let (agent, daemon) = bench.with_one("");
    assert_eq!(bench.ask(Status, "web"), SUCCESS, "it is in the list now");
    for (commands, code) in
        [("exit 0", SUCCESS), ("exit 2", OFF), ("exec <&-; exit 2", OFF), ("exit 1", FAILURE)]
    {
        agent.write("at-start", commands);
        assert_eq!(bench.ask(Status, "web"), code, "{commands}");
        agent.remove("at-start");
        assert_eq!(bench.ask(Devstatus, ""), SUCCESS, "{}", daemon.log());
    }
}

#[test]
fn what_forks_away_with_the_pipes_holds_up_nobody() {
    let bench = require!(AgentBench::new());
    let (agent, daemon) = bench.with_one("");
    let away = "setsid sh -c 'echo $$ >>away; exec sleep 1000' & until [ -s away ]; do :; done";
    for action in ["status", "off"] {
        agent.hook(action, away);
    }
    let began = Instant::now();
    assert_eq!([bench.ask(Status, "web"), bench.ask(Off, "web"), bench.ask(Status, "web")], [0, 0, 2]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let pipes = || {
        let links = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        let links = links.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().contains("pidfd")).count()
    };
    until("it waits for no process", LIMIT, || pipes() == 0);
    for pid in agent.numbers("away") {
        // Ours, by the scripts of this test; it has left the group of its agent.
        let _ =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
    }
}

#[test]
fn a_password_never_reaches_the_log_or_a_client() {
    let bench = require!(AgentBench::new());
    let password = "Zq7+hunter2'x\"y\\z&";
    let file = bench.dir.write("password", &format!("{password}\n"));
    let agent = crate::fake::FakeAgent::new(&bench.dir);
    agent.write("metadata", &metadata(&PARAMETERS, &[&ACTIONS[..], &["list-status"]].concat()));
    agent.write("list", "100,web,on\n101,db,on\n");
    let section =
        agent.section("", &format!("option = \"username=u\"; password_file = \"{}\";", file.display()));
    let daemon = bench.start(&bench.conf("agent", &section, ""));
    agent.write("secret", password);
    agent.write("secret.py", "p = open('secret').read()\nimport base64, json, sys, urllib.parse\n\
        print(repr(p), json.dumps(p), urllib.parse.quote(p), base64.b64encode(('u:' + p).encode()).decode())\n");
    agent.hook("status", "echo \"$input\" >input");
    assert_eq!(bench.ask(Status, "web"), SUCCESS);
    let input = agent.text("input");
    assert!(input.contains(&format!("password={password}")) && input.contains("username=u"), "{input}");
    // All forms, as lines of their own and in others.
    let print =
        "s=$(cat secret); python3 secret.py >&2; printf '%s\\n' \"$s\" \"login u/$s@pve1\" >&2; cat secret";
    // The end of what is kept of stderr is within the password.
    let cut = "head -c 16379 /dev/zero | tr '\\0' x >&2; printf '%s' \"$(cat secret)\" >&2; echo >&2";
    let lines = "yes 12345678 | head -c 16371 >&2; printf '%s\\n' \"$(cat secret)\" >&2";
    for commands in [print, cut, lines] {
        for end in ["exit 0", "exit 1", "exit 2", "kill -9 $$"] {
            for action in ["status", "monitor", "list-status"] {
                agent.hook(action, &format!("{commands}; {end}"));
            }
            bench.ask(Status, "web");
            bench.ask(Devstatus, "");
        }
    }
    for action in ["status", "monitor", "list-status"] {
        agent.hook(action, "");
    }
    agent.write("list", &format!("100,web,on\nlogin with {password},x,on\n{password},y,on\n"));
    until("the list is a new one", LIMIT, || {
        bench.ask(Status, "nobody");
        bench.run("list").stdout.lines().count() == 1
    });
    let (_, status) = bench.tool(&daemon, &["--status"]);
    let log = daemon.log();
    assert!(log.contains("login u/***@pve1") && log.contains("'***'"), "{log}");
    for text in [log, status] {
        for form in ["Zq7+h", "hunter2", "Zq7%2B", "aHVudGVyM", "h1bnRlcj", "odW50ZXIy"] {
            assert!(!text.contains(form), "{form:?} in {text}");
        }
    }
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
