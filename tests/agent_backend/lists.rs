//! Lists of VMs: how often they are made, and what they do not prove.

use std::fs;

use fence_virt::fence::Operation::{Devstatus, Off, On, Status};
use fence_virt::fence_agent::place_uuid;

use crate::common::node::{NODE1, RUNNING, node, vm};
use crate::common::{require, until};
use crate::fake::{ACTIONS, AgentBench, FAILURE, FakeAgent, LIMIT, OFF, PARAMETERS, SUCCESS, metadata};

#[test]
fn unknown_names_do_not_start_a_list_each() {
    let bench = require!(AgentBench::new());
    let (agent, daemon) = bench.with_one("");
    until("it has a list", LIMIT, || agent.count("list") > 0);
    let ask_all = |prefix: &str| {
        std::thread::scope(|scope| {
            for part in 0..5 {
                let bench = &bench;
                scope.spawn(move || {
                    (0..8).for_each(|at| assert_eq!(bench.ask(Off, &format!("{prefix}{part}-{at}")), FAILURE))
                });
            }
        });
    };
    let began = std::time::Instant::now();
    ask_all("nobody");
    let allowed = 2 + began.elapsed().as_secs() as usize / 5;
    assert!(agent.count("list") <= allowed, "{} lists", agent.count("list"));
    // The same while lists fail, and fail slowly.
    drop(daemon);
    agent.hook("list", "sleep 0.2; exit 1");
    let _daemon = bench.start(&bench.conf("agent", &agent.section("", ""), ""));
    agent.forget_calls();
    let began = std::time::Instant::now();
    ask_all("nobody");
    assert_eq!(bench.ask(Status, "web"), FAILURE);
    let allowed = 2 + began.elapsed().as_secs() as usize;
    assert!(agent.count("list") <= allowed, "{} lists within {:?}", agent.count("list"), began.elapsed());
    agent.hook("list", "");
    until("it works again", LIMIT, || bench.ask(Status, "web") == SUCCESS);
}

#[test]
fn one_slow_list_serves_all_that_wait_for_it() {
    let bench = require!(AgentBench::new());
    let agent = FakeAgent::new(&bench.dir);
    // Longer than a list counts as a recent one.
    agent.hook("list", "sleep 5.2");
    let _daemon = bench.start(&bench.conf("agent", &agent.section("", ""), ""));
    until("the first list is begun", LIMIT, || agent.count("list") == 1);
    std::thread::scope(|scope| {
        for at in 0..6 {
            let bench = &bench;
            scope.spawn(move || assert_eq!(bench.ask(Off, &format!("nobody{at}")), FAILURE));
        }
        assert_eq!(bench.ask(Status, "web"), SUCCESS);
    });
    // A name that the first one did not have was looked for once more.
    assert!(agent.count("list") <= 2, "{} lists", agent.count("list"));
}

#[test]
fn a_vm_that_a_list_leaves_out_is_not_off_for_that() {
    let bench = require!(AgentBench::new());
    let (agent, daemon) = bench.with_one("list_interval = \"1\";");
    assert_eq!(bench.ask(Status, "web"), SUCCESS);
    let leave_out = |list: &str| {
        agent.write("list", list);
        let before = agent.count("list");
        until("there is a new list", LIMIT, || agent.count("list") > before + 1);
    };
    leave_out("101,db\n");
    let uuid = place_uuid("agent", "100").to_string();
    for name in ["web", "100", &uuid] {
        assert_eq!(bench.ask(Status, name), SUCCESS, "{name}: the agent says that it runs");
    }
    // Gone for good: the agent knows nothing of it.
    fs::remove_file(agent.path("vm-100")).unwrap();
    for name in ["web", "100", &uuid] {
        assert_eq!(bench.asked(&[Status, Off, On], name), [FAILURE; 3], "{name}");
    }
    assert!(!daemon.log().contains("off \"web\": success"));
    agent.set("100", "on");
    assert_eq!(bench.asked(&[Off, Status], "web"), [SUCCESS, OFF], "seen off");
    assert_eq!(bench.list().len(), 1);
    // A list that names nobody at all.
    leave_out("");
    assert_eq!(bench.asked(&[Status, Status], "db"), [SUCCESS; 2]);
    // It is there again under another name.
    leave_out("100,www\n");
    assert_eq!(bench.ask(Status, "www"), OFF);
    assert_eq!(bench.ask(Off, "web"), FAILURE);
}

#[test]
fn an_alias_of_two_vms_is_ambiguous() {
    let bench = require!(AgentBench::new());
    let agent = FakeAgent::new(&bench.dir);
    // The plug of one is the alias of another, too.
    agent.write("list", "100,web\n101,web\n102,103\n103,db\n");
    ["102", "103"].iter().for_each(|plug| agent.set(plug, "on"));
    let daemon = bench.start(&bench.conf("agent", &agent.section("", ""), ""));
    for name in ["web", "103"] {
        assert_eq!(bench.asked(&[Off, On, Status], name), [FAILURE; 3], "{name}");
        daemon.await_log(&format!("{name:?} is ambiguous"));
    }
    assert_eq!((agent.count("off"), agent.count("on")), (0, 0));
    assert_eq!(bench.asked(&[Off, Status], "100"), [SUCCESS, OFF]);
    assert_eq!(bench.asked(&[Off, Status], &place_uuid("agent", "103").to_string()), [SUCCESS, OFF]);
    assert_eq!(["100", "101", "102", "103"].map(|plug| agent.state(plug)), ["off", "on", "on", "off"]);
}

#[test]
fn a_name_that_libvirt_and_an_agent_have_is_ambiguous() {
    let bench = require!(AgentBench::new());
    let agent = FakeAgent::new(&bench.dir);
    let uri = node(
        &bench.dir,
        "node.xml",
        &[vm("web", NODE1, RUNNING), vm("alone", crate::common::node::NODE2, RUNNING)],
    );
    let backends = format!("libvirt {{ uri = \"{uri}\"; }} {}", agent.section("pve", ""));
    let daemon = bench.start(&bench.conf("libvirt, agent:pve", &backends, ""));
    assert_eq!(bench.asked(&[Off, On, Status], "web"), [FAILURE; 3]);
    daemon.await_log("\"web\" is ambiguous");
    assert_eq!((agent.count("off"), agent.count("on")), (0, 0));
    assert_eq!(bench.asked(&[Status, Off, Status], "alone"), [SUCCESS, SUCCESS, OFF]);
    assert_eq!(bench.asked(&[Off, Status], "db"), [SUCCESS, OFF]);
    let derived = place_uuid("agent:pve", "100").to_string();
    assert_eq!(bench.asked(&[Off, Status], NODE1), [SUCCESS, OFF]);
    assert_eq!(bench.ask(Status, &derived), SUCCESS, "the other one runs on");
    assert_eq!(bench.asked(&[Off, Status], &derived), [SUCCESS, OFF]);
    assert_eq!(bench.list().len(), 4);
}

#[test]
fn while_lists_fail_the_monitor_fails_and_known_vms_are_fenced() {
    let bench = require!(AgentBench::new());
    let (agent, _daemon) = bench.with_one("list_interval = \"1\";");
    assert_eq!(bench.ask(Status, "web"), SUCCESS);
    agent.hook("list", "echo no list >&2; exit 1");
    until("the monitor fails", LIMIT, || bench.ask(Devstatus, "") == FAILURE);
    assert_eq!(bench.asked(&[Status, Off, Status], "web"), [SUCCESS, SUCCESS, OFF]);
    assert_eq!(bench.ask(Off, "nobody"), FAILURE);
    agent.remove("do-list");
    until("the monitor succeeds again", LIMIT, || bench.ask(Devstatus, "") == SUCCESS);
}

#[test]
fn the_name_of_an_agents_only_vm_is_ambiguous_also_while_the_agent_hangs() {
    let bench = require!(AgentBench::new());
    let agent = FakeAgent::new(&bench.dir);
    agent.write("metadata", &metadata(&["action", "ip"], &["on", "off", "reboot", "status", "monitor"]));
    agent.hook("status", "exec sleep 1000");
    let uri = node(&bench.dir, "node.xml", &[vm("web", NODE1, RUNNING)]);
    let backends = format!("libvirt {{ uri = \"{uri}\"; }} {}", agent.section("web", ""));
    let daemon = bench.start(&bench.conf("libvirt, agent:web", &backends, ""));
    assert_eq!(bench.ask(Off, "web"), FAILURE);
    daemon.await_log("\"web\" is ambiguous");
    assert_eq!(bench.asked(&[Off], NODE1), [SUCCESS], "the UUID says which one is meant");
}

#[test]
fn a_list_with_states_does_not_outlive_a_power_operation() {
    let bench = require!(AgentBench::new());
    let agent = FakeAgent::new(&bench.dir);
    agent.write("metadata", &metadata(&PARAMETERS, &[&ACTIONS[..], &["list-status"]].concat()));
    agent.write("list", "100,web,on\n101,db,unknown\n");
    let _daemon = bench.start(&bench.conf("agent", &agent.section("", ""), ""));
    let states =
        || bench.list().iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    agent.set("101", "off");
    assert_eq!(states(), ["off", "on"], "db was asked for");
    assert_eq!(bench.ask(Off, "web"), SUCCESS);
    assert_eq!(states(), ["off", "off"]);
    assert_eq!(bench.ask(On, "web"), SUCCESS);
    assert_eq!(states(), ["off", "on"]);
    assert_eq!(agent.count("list"), 0);
}
