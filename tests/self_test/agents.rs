//! `--self-test`, `--status` and `--reload` with a fence agent as the place of the VMs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::common::net::HOST_V4;
use super::common::{require, until};
use super::{OURS, Site};

const METADATA: &str = "<resource-agent name=\"a\"><parameters><parameter name=\"plug\" required=\"1\"/></parameters><actions>\
    <action name=\"on\" automatic=\"0\"/><action name=\"off\"/><action name=\"reboot\"/><action name=\"status\"/>\
    <action name=\"monitor\"/><action name=\"list-status\"/></actions></resource-agent>";

/// Configuration with an agent that has one VM, web, whose state is a file.
fn conf(site: &Site, lines: &str) -> String {
    let state = site.dir.write("on", "");
    let script = format!(
        "#!/bin/sh\non={}\nwhile read -r line; do case $line in action=*) action=${{line#action=}};; esac; done\n\
         case $action in metadata) echo '{METADATA}';; monitor) test ! -e $on.broken || {{ echo no login >&2; exit 1; }};;\n\
         list-status) if test -e $on; then echo 100,web,ON; else echo 100,web,OFF; fi;; off) rm -f $on;; on) : >$on;;\n\
         status) test -e $on || exit 2;; *) exit 1;; esac\n",
        state.display()
    );
    let program = site.dir.write("fence_a", &script);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    format!(
        "fence_virtd {{ listener = \"tcp\"; backend = \"agent:a\"; }}
         listeners {{ tcp {{ {} address = \"{HOST_V4}\"; }} }}
         backends {{ agent = \"a\" {{ program = \"{}\"; {lines} }} }}",
        site.keys("key"),
        program.display()
    )
}

#[test]
fn a_vm_of_an_agent_is_listed_rebooted_and_reported() {
    if cfg!(not(feature = "agent-backend")) {
        return;
    }
    let site = require!(Site::new());
    let daemon = site.start(&conf(&site, ""));
    let test = site.test(daemon.conf(), &["--fence", "web", "--yes"]);
    test.assert_code(0);
    test.assert_line("ok       tcp: monitor: success", "").assert_line("ok       tcp: list: 1 VM", "");
    test.assert_line("ok       tcp: reboot of \"web\": success", "");
    test.assert_last("listeners: 1 passed, 0 failed, 0 not tried; reboot: verified");
    let run = |args: &[&str]| {
        let output = site.pair.host.command(OURS).args(args).arg("-f").arg(daemon.conf()).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
    };
    let text = run(&["--status"]);
    assert!(text.contains("\nagent:a: works, last reply ") && !text.contains("libvirt"), "{text}");
    let metrics = run(&["--status", "--openmetrics"]);
    assert!(metrics.contains("fence_virtd_uri_connected{uri=\"agent:a\"} 1"), "{metrics}");
    // Another setting of the agent waits for a restart.
    daemon.replace(&site.dir, &conf(&site, "timeout = \"30\";"));
    let text = run(&["--reload"]);
    assert!(text.contains("unchanged until the daemon is restarted: backend settings"), "{text}");
    // The monitor of a client tells the worker that the agent fails.
    site.dir.write("on.broken", "");
    let test = site.test(daemon.conf(), &[]);
    test.assert_code(1).assert_line("ERROR    tcp: monitor failed", "");
    until("the agent is reported", Duration::from_secs(20), || {
        run(&["--status"]).contains("ERROR    agent:a: monitor failed (exit code 1): no login\n")
    });
    daemon.await_log("the backend does not answer: agent:a: monitor failed");
}
