//! Agents that the daemon does not start with, and its reports of those that it has.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use fence_virt::fence::Operation::{Off, Status};

use crate::common::{Missing, met, require};
use crate::fake::{ACTIONS, AgentBench, FAILURE, FakeAgent, LIMIT, OFF, PARAMETERS, SUCCESS, metadata};

/// Asserts that the daemon does not start, and says all these words.
fn assert_refused(bench: &AgentBench, section: &str, words: &[&str]) {
    let (code, text) = bench.refused(&bench.conf("agent", section, ""));
    assert_eq!(code, Some(1), "{text}");
    let said = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(said, "{words:?} in {text}");
}

#[test]
fn an_agent_that_cannot_be_used_is_named_with_the_reason_and_a_remedy() {
    let bench = require!(AgentBench::new());
    let agent = FakeAgent::new(&bench.dir);
    let program = agent.program().display().to_string();
    let plain = agent.section("pve", "");
    let fabric = metadata(&PARAMETERS, &["on", "off", "status", "list", "monitor"]);
    let unfencing = metadata(&PARAMETERS, &ACTIONS).replace("name=\"on\"", "name=\"on\" automatic=\"1\"");
    let blind = metadata(&PARAMETERS, &["on", "off", "reboot", "list", "monitor"]);
    let usable = metadata(&PARAMETERS, &ACTIONS);
    for (text, words) in [
        (fabric.as_str(), &["fabric fencing", "powers no VM off"][..]),
        (&unfencing, &["fabric fencing"]),
        (&blind, &["it has no action status", "nobody could know that a VM is off"]),
        ("", &["its metadata cannot be read"]),
        ("no XML at all", &["its metadata cannot be read"]),
        (&usable[..usable.len() / 2], &["its metadata cannot be read"]),
        ("<!DOCTYPE x [<!ENTITY a \"b\">]><resource-agent/>", &["document type definition"]),
    ] {
        agent.write("metadata", text);
        assert_refused(&bench, &plain, &[&["agent:pve: ", &program, "cannot be used"], words].concat());
    }
    agent.write("metadata", &usable);
    for (hook, word) in [
        ("echo ImportError: no module >&2; exit 1", "it tells no metadata (exit code 1): ImportError"),
        ("kill -9 $$", "killed by signal 9"),
        ("exec cat /dev/zero", "it printed more than a megabyte"),
        ("printf '\\377'; exit 0", "no UTF-8"),
    ] {
        agent.hook("metadata", hook);
        assert_refused(&bench, &plain, &["agent:pve: ", word]);
    }
    agent.remove("do-metadata");
    let one = metadata(&["action", "ip"], &ACTIONS);
    agent.write("metadata", &one);
    assert_refused(&bench, &agent.section("", ""), &["fences one VM only", "agent = \"NAME-OF-THE-VM\""]);
    let password = bench.dir.write("password", "hunter2\n");
    let line = format!("password_file = \"{}\";", password.display());
    assert_refused(&bench, &agent.section("x", &line), &["takes no password; remove password_file"]);
}

#[test]
fn programs_options_and_passwords_are_checked() {
    let bench = require!(AgentBench::new());
    let agent = FakeAgent::new(&bench.dir);
    let (path, plain) = (agent.program(), agent.section("", ""));
    let program = path.display().to_string();
    let mode =
        |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for bits in [0o775, 0o757, 0o777] {
        mode(&path, bits);
        assert_refused(&bench, &plain, &["could be replaced by others", &format!("chmod go-w {program}")]);
    }
    mode(&path, 0o644);
    assert_refused(&bench, &plain, &[&program, "is no program", "correct program"]);
    mode(&path, 0o755);
    chown(&path, Some(12345), None).unwrap();
    assert_refused(&bench, &plain, &["could be replaced by others", &format!("chown root {program}")]);
    chown(&path, Some(0), None).unwrap();
    // The folder that has it decides as well.
    mode(&agent.path(""), 0o777);
    assert_refused(&bench, &plain, &["could be replaced by others", "chmod go-w"]);
    // Where each may remove his own files only, nobody replaces it.
    mode(&agent.path(""), 0o1777);
    assert_eq!(bench.start(&bench.conf("agent", &plain, "")).stop(LIMIT).code(), Some(0));
    mode(&agent.path(""), 0o755);
    let missing = plain.replace("fence_fake", "fence_none");
    assert_refused(&bench, &missing, &["No such file", "install the package", "correct program"]);
    let folder = plain.replace("/fence_fake", "");
    assert_refused(&bench, &folder, &["is no program"]);
    for (lines, words) in [
        ("option = \"ipaddr=x\";", &["has no option ipaddr", "correct the lines option"][..]),
        ("option = \"method=cycle\";", &["would let the agent reboot", "remove this option"]),
        ("option = \"plug=100\";", &["is set by each request", "remove this option"]),
        ("user = \"no-such-user\";", &["there is no user", "create it, or remove user"]),
    ] {
        assert_refused(&bench, &agent.section("", lines), words);
    }
    let password = bench.dir.write("password", "hunter2\n");
    let with_password = agent.section("", &format!("password_file = \"{}\";", password.display()));
    for bits in [0o640, 0o604, 0o644] {
        mode(&password, bits);
        assert_refused(
            &bench,
            &with_password,
            &["others can read", &format!("mode {bits:04o}"), "chmod 0600"],
        );
    }
    mode(&password, 0o600);
    chown(&password, Some(12345), None).unwrap();
    assert_refused(&bench, &with_password, &["others can read or own", "chown root"]);
    fs::remove_file(&password).unwrap();
    assert_refused(&bench, &with_password, &["cannot read the password", "No such file", "0600"]);
    for text in ["", "\n", "  \nhunter2\n", &"x".repeat(2000)] {
        bench.dir.write("password", text);
        assert_refused(&bench, &with_password, &["is no password"]);
    }
    let daemon = bench.start(&bench.conf("agent", &plain, ""));
    assert_eq!(bench.ask(Status, "web"), SUCCESS, "{}", daemon.log());
}

#[test]
fn a_hypervisor_that_does_not_answer_is_the_reason_unless_there_is_another() {
    let bench = require!(AgentBench::new());
    let (good, bad) = (FakeAgent::new(&bench.dir), FakeAgent::new(&bench.dir));
    good.write("list", "200,mail\n");
    good.set("200", "on");
    for action in ["monitor", "list"] {
        bad.hook(action, "echo Unable to connect/login to fencing device >&2; exit 1");
    }
    assert_refused(
        &bench,
        &bad.section("bad", ""),
        &["agent:bad: ", "monitor failed (exit code 1)", "Unable to connect/login"],
    );
    let sections = good.section("good", "max_parallel = \"7\";") + &bad.section("bad", "");
    let daemon = bench.start(&bench.conf("agent", &sections, ""));
    daemon.await_log("until it works, none of its VMs can be fenced");
    // It was off: it may run where nobody answers.
    assert_eq!(bench.asked(&[Off, Status], "mail"), [SUCCESS, FAILURE]);
    assert_eq!(bench.asked(&[Off, Status], "web"), [FAILURE; 2]);
    let (code, text) = bench.tool(&daemon, &["--status"]);
    assert_eq!(code, Some(2), "{text}");
    let line = |place: &str| {
        let found = text.lines().find(|line| line.contains(place));
        found.unwrap_or_else(|| panic!("{place} in {text}")).to_owned()
    };
    assert!(line("agent:good").contains("0 of 7 lanes busy"), "{text}");
    assert!(text.contains("Unable to connect/login"), "{text}");
    let (_, json) = bench.tool(&daemon, &["--status", "--json"]);
    assert!(json.contains("\"agent:good\"") && json.contains("\"lanes_max\":7"), "{json}");
}

/// Requirement: the package fence-agents.
fn fence_dummy() -> Result<String, Missing> {
    let path = "/usr/sbin/fence_dummy";
    let is_there = std::path::Path::new(path).exists();
    met(is_there, "it needs fence_dummy of the package fence-agents (make test-peers)")?;
    Ok(path.to_owned())
}

#[test]
fn fence_dummy_is_an_agent() {
    let bench = require!(AgentBench::new());
    let program = require!(fence_dummy());
    let file = bench.dir.write("state", "on");
    let options = format!("option = \"type=file\"; option = \"status_file={}\";", file.display());
    let section = format!("agent = \"dummy\" {{ program = \"{program}\"; {options} }}");
    let daemon = bench.start(&bench.conf("agent", &section, ""));
    let state = || fs::read_to_string(&file).unwrap();
    assert_eq!(bench.asked(&[Status, Off, Status], "dummy"), [SUCCESS, SUCCESS, OFF], "{}", daemon.log());
    assert_eq!(state(), "off");
    let on = fence_virt::fence::Operation::On;
    assert_eq!(bench.asked(&[on, Status], "dummy"), [SUCCESS, SUCCESS], "{}", daemon.log());
    assert_eq!((state().as_str(), bench.ask(Status, "other")), ("on", FAILURE), "there is no other VM");
    assert_eq!(bench.run("monitor").code, 0);
    assert_eq!(bench.list().len(), 1);
}
