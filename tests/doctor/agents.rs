//! `--doctor`, `--check` and `--explain` with fence agents as places of VMs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::common::Dir;
use super::common::daemon::OURS;

const METADATA: &str = "<resource-agent name=\"a\"><parameters><parameter name=\"ip\"/><parameter name=\"plug\" required=\"1\"/>\
    <parameter name=\"password\"/></parameters><actions><action name=\"on\" automatic=\"0\"/><action name=\"off\"/>\
    <action name=\"reboot\"/><action name=\"status\"/><action name=\"monitor\"/>LIST</actions></resource-agent>";

/// Files of a host with one agent.
struct AgentFiles {
    dir: Dir,
}

impl AgentFiles {
    /// Makes an agent that answers `metadata`, and runs these shell commands for its other actions.
    fn new(list: &str, monitor: &str) -> AgentFiles {
        let dir = Dir::new();
        let action = if list.is_empty() { "" } else { "<action name=\"list-status\"/>" };
        let metadata = METADATA.replace("LIST", action);
        let script = format!(
            "#!/bin/sh\nwhile read -r line; do case $line in action=*) action=${{line#action=}};; esac; done\n\
             case $action in metadata) echo '{metadata}';; list-status) {list} ;; monitor) {monitor} ;; *) exit 1;; esac\n"
        );
        let path = dir.write("fence_a", &script);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        dir.write("password", "hidden\n");
        fs::set_permissions(dir.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
        AgentFiles { dir }
    }

    fn conf(&self, lines: &str, groups: &str) -> PathBuf {
        let [program, password] =
            ["fence_a", "password"].map(|name| self.dir.path(name).display().to_string());
        self.dir.write(
            "a.conf",
            &format!(
                "fence_virtd {{ listener = \"tcp\"; backend = \"agent:a\"; }}
                 listeners {{ tcp {{ hash = \"none\"; auth = \"none\"; address = \"127.0.0.1\"; }} }}
                 backends {{ agent = \"a\" {{ program = \"{program}\"; password_file = \"{password}\"; {lines} }} }}
                 groups {{ {groups} }}"
            ),
        )
    }

    /// Runs the daemon's program with these options; returns its exit code and output.
    fn run(&self, options: &[&str], conf: &PathBuf) -> (Option<i32>, String) {
        let mut command = Command::new(OURS);
        command.args(options).arg("-f").arg(conf).arg("-p").arg(self.dir.path("none.pid"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(!text.concat().contains("hidden"), "{text:?}");
        (output.status.code(), text.concat())
    }

    fn doctor(&self, lines: &str, groups: &str) -> String {
        self.run(&["--doctor"], &self.conf(lines, groups)).1
    }
}

fn is_left_out() -> bool {
    cfg!(not(feature = "agent-backend"))
}

#[test]
fn a_build_without_the_backend_says_so() {
    let host = AgentFiles::new("", "exit 0");
    let text = host.doctor("", "");
    let words = "ERROR    backend agent: this fence_virtd was built without the backend agent";
    assert_eq!(text.contains(words), is_left_out(), "{text}");
}

#[test]
fn an_agent_that_works_is_asked_for_its_vms() {
    if is_left_out() {
        return;
    }
    let host = AgentFiles::new("echo '100,web,ON'; echo '101,web,OFF'; echo 'a;b,x,ON'", "exit 0");
    let text = host.doctor("option = \"ip=pve1\";", "group { uuid = \"web\"; uuid = \"db\"; }");
    for words in [
        "fence_a can be used: nobody else can replace it, and it has all options\n",
        "ok       agent:a: monitor: success after ",
        "ok       agent:a: list: VMs: 2, running: 1; without UUIDs",
        "warning  agent:a: 1 VM of the list cannot be asked for",
        "warning  backend agent: these names are ambiguous (two VMs each), so requests for them fail: web (agent:a, agent:a)",
        "warning  group #1: no VM has these names or UUIDs: db\n",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[test]
fn what_keeps_an_agent_from_use_is_an_error() {
    if is_left_out() {
        return;
    }
    let host = AgentFiles::new(
        "",
        "echo 'no login with hidden' >&2; echo \"ERROR: Please use '-h' for usage\" >&2; exit 1",
    );
    let text = host.doctor("", "group { uuid = \"db\"; }");
    for words in [
        "ERROR    agent:a: monitor failed (exit code 1): no login with ***\n",
        "note     agent:a: the agent has no list",
        "note     group #1: this host has no such VMs: db\n             -> if agent:a, which has no list, does not have",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    let text = host.doctor("option = \"ipp=1\"; option = \"user=x\";", "");
    assert!(
        text.contains("ERROR    agent:a: ") && text.contains("fence_a has no option ipp, user\n"),
        "{text}"
    );
    for (file, mode, words) in [
        ("", 0o777, "by the mode or owner of /"),
        ("password", 0o644, "(mode 0644)"),
        ("fence_a", 0o777, "could be replaced by others"),
    ] {
        let path = host.dir.path(file);
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let text = host.doctor("user = \"nobody-at-all\";", "");
        for words in [words, "agent:a: there is no user \"nobody-at-all\"", "agent:a: not asked"] {
            assert!(text.contains(words), "{words} in {text}");
        }
        let (code, text) = host.run(&["--check"], &host.conf("", ""));
        assert!(code == Some(1) && text.contains("error: agent:a: ") && text.contains(words), "{text}");
        fs::set_permissions(&path, before).unwrap();
    }
    let (code, text) = host.run(&["--check"], &host.conf("option = \"ip=1\"; timeout = \"9\";", ""));
    assert!(
        code == Some(0) && text.contains("as the user of the daemon; options ip; password in "),
        "{text}"
    );
    assert!(text.contains("; timeout 9 s, list every 60 s, 16 calls at a time)\n"), "{text}");
}

#[test]
fn an_explanation_finds_the_vms_of_agents() {
    if is_left_out() {
        return;
    }
    let host = AgentFiles::new("echo '100,web,ON'", "exit 0");
    let group = "group { uuid = \"web\"; ip = \"127.0.0.1\"; }";
    let (code, text) = host.run(&["--explain", "127.0.0.1", "web"], &host.conf("", group));
    assert!(code == Some(0) && text.contains(" on agent:a\n"), "{text}");
    let uuid = text.split_once("VM: \"web\" (").unwrap().1.split_once(')').unwrap().0.to_owned();
    let (code, text) = host.run(&["--explain", "127.0.0.1", &uuid], &host.conf("", group));
    assert!(code == Some(0) && text.contains("VM: \"web\""), "{text}");
    let silent = AgentFiles::new("", "exit 0");
    let (code, text) = silent.run(&["--explain", "127.0.0.1", &uuid], &silent.conf("", group));
    assert!(
        code == Some(2) && text.contains("agents: agent:a does not tell its VMs: it has no list"),
        "{text}"
    );
}
