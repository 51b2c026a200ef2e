//! Operations that succeed, and what counts as off.

use std::time::Duration;

use fence_virt::fence::Operation::{Devstatus, Off, On, Reboot, Status};
use fence_virt::fence_agent::place_uuid;

use crate::common::{require, until};
use crate::fake::{AgentBench, FAILURE, FakeAgent, LIMIT, OFF, SUCCESS, metadata};

#[test]
fn each_operation_is_done_and_verified_by_status() {
    let bench = require!(AgentBench::new());
    let (agent, _daemon) = bench.with_one("option = \"ip=pve1\"; list_interval = \"1000\";");
    assert_eq!(bench.asked(&[Status, Devstatus], "web"), [SUCCESS, SUCCESS]);
    agent.forget_calls();
    assert_eq!(bench.ask(Off, "web"), SUCCESS);
    // The lookup, the observation before the off, and that after it.
    assert_eq!(agent.calls(), ["status 100", "status 100", "off 100", "status 100"]);
    agent.forget_calls();
    assert_eq!(bench.ask(Off, "web"), SUCCESS, "it was off");
    assert_eq!(agent.calls(), ["status 100", "status 100"]);
    assert_eq!(bench.ask(Status, "web"), OFF);
    assert_eq!((agent.state("100"), agent.state("101")), ("off".to_owned(), "on".to_owned()));
    let uuid = |plug: &str| place_uuid("agent", plug).to_string();
    assert_eq!(bench.list(), [format!("db {} on", uuid("101")), format!("web {} off", uuid("100"))]);
    agent.forget_calls();
    assert_eq!(bench.ask(On, "web"), SUCCESS);
    let calls = agent.calls();
    let on = calls.iter().position(|call| call == "on 100").unwrap();
    assert_eq!(calls.last().unwrap(), "status 100", "{calls:?}");
    assert_eq!(calls.iter().filter(|call| **call == "on 100").count(), 1, "{calls:?}");
    assert!(on + 1 < calls.len() && agent.state("100") == "on");
    agent.forget_calls();
    assert_eq!(bench.ask(Reboot, "web"), SUCCESS);
    until("it is started again", LIMIT, || agent.calls().contains(&"on 100".to_owned()));
    let calls = agent.calls();
    assert_eq!(calls[..4], ["status 100", "status 100", "off 100", "status 100"], "{calls:?}");
    assert_eq!(agent.count("reboot"), 0);
    until("it runs", LIMIT, || bench.ask(Status, "web") == SUCCESS);
    let before = agent.count("monitor");
    agent.hook("monitor", "echo unplugged >&2; exit 1");
    assert_eq!(bench.run("monitor").code, 1);
    assert!(agent.count("monitor") > before);
}

#[test]
fn an_off_that_the_status_denies_is_no_success() {
    let bench = require!(AgentBench::new());
    let (agent, daemon) = bench.with_one("");
    // The agent says that it has done it, and has not.
    agent.hook("off", "exit 0");
    let mut client = bench.client();
    let request = crate::common::client::packet(Off, "web", fence_virt::auth::HashKind::Sha256);
    client.stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    assert!(client.ask(&request).is_err(), "there is no answer while it still runs");
    assert!(agent.count("off") >= 1 && agent.count("status") > 3, "{:?}", agent.calls());
    assert!(daemon.log().contains("is not off yet"), "{}", daemon.log());
    drop(client);
    assert_eq!(bench.ask(Status, "web"), SUCCESS);
    assert!(!daemon.log().contains("off \"web\": success"), "{}", daemon.log());
}

#[test]
fn a_status_that_does_not_know_is_no_success_whatever_it_says() {
    let bench = require!(AgentBench::new());
    let (agent, daemon) = bench.with_one("timeout = \"10\";");
    let cases = [
        ("exit 1", "exit code 1"),
        ("exit 3", "exit code 3"),
        ("exit 255", "exit code 255"),
        ("kill -9 $$", "killed by signal 9"),
        ("kill -TERM $$", "killed by signal 15"),
        ("echo Status: OFF; echo $plug is off >&2; exit 1", "100 is off"),
    ];
    for operation in [Off, Reboot] {
        for (commands, reason) in cases {
            agent.set("100", "on");
            // It knows until the off.
            agent.hook("off", "echo off >vm-100; : >after");
            agent.hook("status", &format!("[ ! -e after ] || {{ {commands}; }}"));
            assert_eq!(bench.ask(operation, "web"), FAILURE, "{commands}");
            daemon.await_log(reason);
            agent.remove("after");
            agent.hook("status", commands);
            assert_eq!(bench.asked(&[operation, Status], "web"), [FAILURE; 2], "{commands}");
        }
    }
    // Only 2 is off.
    agent.hook("status", "echo garbage; exit 2");
    assert_eq!(bench.asked(&[Off, Status], "web"), [SUCCESS, OFF]);
    let successes = daemon.log().matches("off \"web\": success").count();
    assert_eq!((successes, daemon.log().matches("reboot \"web\": success").count()), (1, 0));
}

#[test]
fn an_off_that_fails_is_no_success_and_one_that_fails_but_worked_is_verified() {
    let bench = require!(AgentBench::new());
    let (agent, daemon) = bench.with_one("");
    agent.hook("off", "echo no licence for that >&2; exit 1");
    assert_eq!(bench.ask(Off, "web"), FAILURE);
    daemon.await_log("off of \"100\" failed (exit code 1): no licence for that");
    agent.hook("off", "echo off >vm-100; exit 1");
    assert_eq!(bench.ask(Off, "web"), SUCCESS, "the status has seen it off");
    agent.hook("on", "exit 0");
    let mut client = bench.client();
    let request = crate::common::client::packet(On, "web", fence_virt::auth::HashKind::Sha256);
    client.stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert!(!matches!(client.ask(&request), Ok(SUCCESS)), "a start is verified, too");
}

#[test]
fn an_agent_without_plugs_has_one_vm_and_one_without_a_list_any() {
    let bench = require!(AgentBench::new());
    let (one, any) = (FakeAgent::new(&bench.dir), FakeAgent::new(&bench.dir));
    one.write("metadata", &metadata(&["action", "ip"], &["on", "off", "reboot", "status", "monitor"]));
    one.set("", "on");
    any.write("metadata", &metadata(&["action", "port"], &["on", "off", "reboot", "status", "monitor"]));
    // The option is port, which the script does not read as a plug.
    any.set("", "on");
    let sections = one.section("router", "") + &any.section("any", "");
    let daemon = bench.start(&bench.conf("agent:router", &sections, ""));
    assert_eq!(bench.asked(&[Status, Off, Status], "router"), [SUCCESS, SUCCESS, OFF]);
    assert_eq!(one.calls(), [""; 0], "it is not told a plug");
    assert!(daemon.stop(LIMIT).success());
    let _daemon = bench.start(&bench.conf("agent:any", &sections, ""));
    assert_eq!(bench.asked(&[Status, Off, Status], "any-name"), [SUCCESS, SUCCESS, OFF]);
    any.hook("status", "echo \"$input\" >input");
    bench.ask(Status, "any-name");
    assert_eq!(any.text("input").trim(), "action=status port=any-name");
}
