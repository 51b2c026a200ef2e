//! The status report and what really happens: listeners that hear nothing, reloads that are refused, agents
//! with another key.

use super::common::agent::{Agent, AgentTransport, Programs};
use super::common::daemon::{Daemon, OURS, auth_keys};
use super::common::net::{HOST_V4, HOST_V6};
use super::common::node::{NODE1, RUNNING, node, vm};
use super::common::{Suite, require, until};
use super::{LIMIT, StatusHarness};

const DEAF: Option<i32> = Some(2);
const WELL: Option<i32> = Some(0);

impl StatusHarness {
    /// Configuration with a multicast listener on eth0 and a tcp listener on an address of it.
    fn two_listeners(&self, family: &str) -> String {
        let address = if family == "ipv6" { HOST_V6 } else { HOST_V4 };
        let uri = node(&self.dir, "node.xml", &[vm("node1", NODE1, RUNNING)]);
        let keys = auth_keys(&self.dir.key("key", b'k'), "sha256", "sha256");
        format!(
            "fence_virtd {{ listener = \"multicast, tcp\"; backend = \"libvirt\"; }}
             listeners {{
                 multicast {{ family = \"{family}\"; interface = \"eth0\"; {keys} }}
                 tcp {{ family = \"{family}\"; address = \"{address}\"; {keys} }}
             }}
             backends {{ libvirt {{ uri = \"{uri}\"; }} }}"
        )
    }

    /// Waits for this exit code, and checks that text, JSON and metrics have these words.
    fn await_status(&self, daemon: &Daemon, code: Option<i32>, words: [&[&str]; 3]) {
        until("the status is as expected", LIMIT, || {
            let (found, text) = self.status(daemon, &[]);
            found == code && words[0].iter().all(|words| text.contains(words))
        });
        for (args, words) in [(&[][..], words[0]), (&["--json"], words[1]), (&["--openmetrics"], words[2])] {
            let (found, text) = self.status(daemon, args);
            assert_eq!(found, code, "{text}");
            words.iter().for_each(|words| assert!(text.contains(words), "{words} in {text}"));
        }
    }

    /// Waits until all is well, and checks that agents are answered by both listeners.
    fn await_answers(&self, daemon: &Daemon, family: &str) {
        let (address, group) =
            if family == "ipv6" { (HOST_V6, "ff05::3:1") } else { (HOST_V4, "225.0.0.12") };
        let text = [
            &*format!("listener multicast: listening: {group} port 1229 on eth0, key "),
            &format!("listener tcp: listening: {address} port 1229, key "),
            "no problems",
        ];
        let metrics = [
            "fence_virtd_well 1\n",
            "fence_virtd_listener_up{listener=\"multicast\"} 1\n",
            "fence_virtd_listener_up{listener=\"tcp\"} 1\n",
        ];
        self.await_status(daemon, WELL, [&text, &["\"well\":true"], &metrics]);
        let (programs, key) = (Programs::of(Suite::Ours, &self.dir), self.dir.path("key"));
        for way in [AgentTransport::Multicast(family), AgentTransport::Tcp(address)] {
            let ran = Agent::new(&programs, &self.pair.guest, way, &key).run("status", "node1");
            assert_eq!(ran.code, 0, "{way:?}: {ran:?}\n{}", daemon.log());
        }
    }

    fn await_deaf(&self, daemon: &Daemon, multicast: &str, tcp: &str) {
        let text = ["listener multicast: NOT LISTENING", "listener tcp: NOT LISTENING", multicast, tcp];
        let metrics = [
            "fence_virtd_up 1\n",
            "fence_virtd_well 0\n",
            "fence_virtd_listener_up{listener=\"multicast\"} 0\n",
            "fence_virtd_listener_up{listener=\"tcp\"} 0\n",
        ];
        let json = ["\"well\":false", "\"listening\":false", multicast, tcp];
        self.await_status(daemon, DEAF, [&text, &json, &metrics]);
        // The doctor sees the same.
        let mut command = self.pair.host.command(OURS);
        let output = command.args(["--doctor", "-f"]).arg(daemon.conf()).output().unwrap();
        let found = String::from_utf8_lossy(&output.stdout);
        for listener in ["ERROR    multicast: ", "ERROR    tcp: "] {
            assert!(output.status.code() == Some(2) && found.contains(listener), "{found}");
        }
    }
}

#[test]
fn listeners_that_lose_their_interface_say_so_and_hear_again() {
    let harness = require!(StatusHarness::new());
    for (family, address) in [("ipv4", HOST_V4), ("ipv6", HOST_V6)] {
        let conf = harness.two_listeners(family);
        let daemon = Daemon::builder(&harness.dir, &harness.pair.host).start(&conf);
        harness.await_answers(&daemon, family);
        harness.pair.host.ip(&["link", "del", "eth0"]);
        let gone = format!("this host does not have the address {address}");
        harness.await_deaf(&daemon, "there is no interface eth0", &gone);
        daemon.await_log("multicast: the interface eth0 is gone");
        daemon.await_log(&format!("tcp: {gone}: no request arrives"));
        harness.pair.plug();
        harness.await_answers(&daemon, family);
        daemon.await_log(&format!("tcp: this host has the address {address} again"));
    }
}

#[test]
fn listeners_whose_interface_is_down_say_so_and_hear_again() {
    let harness = require!(StatusHarness::new());
    let daemon = Daemon::builder(&harness.dir, &harness.pair.host).start(&harness.two_listeners("ipv4"));
    harness.await_answers(&daemon, "ipv4");
    harness.pair.host.ip(&["link", "set", "eth0", "down"]);
    let tcp = "the interface eth0 with the address 192.0.2.1 is down";
    harness.await_deaf(&daemon, "the interface eth0 is down", tcp);
    daemon.await_log("multicast: the interface eth0 is down: no request arrives");
    harness.pair.host.ip(&["link", "set", "eth0", "up"]);
    daemon.await_log("multicast: the interface eth0 is up again");
    harness.pair.host.ip(&["route", "add", "224.0.0.0/4", "dev", "eth0"]);
    harness.await_answers(&daemon, "ipv4");
}

#[test]
fn listeners_that_wait_for_their_interface_are_a_problem_meanwhile() {
    let harness = require!(StatusHarness::new());
    harness.pair.host.ip(&["link", "del", "eth0"]);
    let builder = Daemon::builder(&harness.dir, &harness.pair.host).args(&["-w"]);
    let daemon = builder.start(&harness.two_listeners("ipv4"));
    harness.await_deaf(
        &daemon,
        "there is no interface eth0",
        "this host does not have the address 192.0.2.1",
    );
    harness.pair.plug();
    harness.await_answers(&daemon, "ipv4");
}

#[test]
fn an_address_that_goes_away_alone_is_noticed() {
    let harness = require!(StatusHarness::new());
    let daemon = harness.daemon("test:///default");
    harness.pair.host.ip(&["addr", "del", "192.0.2.1/24", "dev", "eth0"]);
    let words = "tcp does not listen (for ";
    harness.await_status(&daemon, DEAF, [&[words], &[words], &["listener_up{listener=\"tcp\"} 0\n"]]);
    harness.pair.host.ip(&["addr", "add", "192.0.2.1/24", "dev", "eth0"]);
    until("it hears again", LIMIT, || harness.status(&daemon, &[]).0 == WELL);
}

#[test]
fn a_serial_listener_without_its_directory_is_a_problem() {
    let harness = require!(StatusHarness::new());
    let directory = harness.dir.path("sockets");
    let conf = format!(
        "fence_virtd {{ listener = \"serial\"; backend = \"libvirt\"; }}
         listeners {{ serial {{ mode = \"vmchannel\"; path = \"{}\"; }} }}
         backends {{ libvirt {{ uri = \"test:///default\"; }} }}",
        directory.display()
    );
    let daemon = Daemon::builder(&harness.dir, &harness.pair.host).start(&conf);
    let fault = format!("the directory {} does not exist", directory.display());
    let metric = "fence_virtd_listener_up{listener=\"serial\"} 0\n";
    harness.await_status(&daemon, DEAF, [&[&fault], &[&fault], &[metric]]);
    std::fs::create_dir(&directory).unwrap();
    harness.await_status(&daemon, WELL, [&["listener serial: listening: channels of VMs in"], &[], &[]]);
}

#[test]
fn a_refused_reload_is_a_problem_until_one_is_taken() {
    let harness = require!(StatusHarness::new());
    let daemon = harness.daemon("test:///default");
    let conf = std::fs::read_to_string(daemon.conf()).unwrap();
    let wrong = conf.replace("backend = \"libvirt\";", "backend = \"nonsense\";");
    assert_ne!(wrong, conf);
    daemon.reload(&harness.dir, &wrong);
    let words = " ago was refused, and the configuration before it is in force: ";
    harness.await_status(&daemon, DEAF, [&[words], &[words], &["fence_virtd_reload_taken 0\n"]]);
    daemon.reload(&harness.dir, &conf);
    harness.await_status(&daemon, WELL, [&["no problems"], &[], &["fence_virtd_reload_taken 1\n"]]);
}

#[test]
fn agents_with_another_key_are_a_warning_until_a_request_is_answered() {
    let harness = require!(StatusHarness::new());
    let daemon = harness.daemon("test:///default");
    let (right, wrong) = (harness.dir.path("key"), harness.dir.key("wrong", b'w'));
    let programs = Programs::of(Suite::Ours, &harness.dir);
    let agent = Agent::new(&programs, &harness.pair.guest, AgentTransport::Tcp(HOST_V4), &wrong);
    for _ in 0..3 {
        assert_eq!(Agent { timeout: 1, ..agent.clone() }.code("status", "test"), 1);
    }
    let words = "tcp has refused 3 requests in a row (signature)";
    let text = ["warning  tcp has refused 3 requests in a row (signature)", "no problems"];
    let metrics = [
        "fence_virtd_warnings 1\n",
        "fence_virtd_well 1\n",
        "fence_virtd_refusals_in_a_row{listener=\"tcp\",reason=\"signature\"} 3\n",
    ];
    harness.await_status(&daemon, WELL, [&text, &["\"problems\":[]", words], &metrics]);
    assert_eq!(Agent { key: &right, ..agent }.code("status", "test"), 0);
    let (code, text) = harness.status(&daemon, &[]);
    assert!(code == WELL && !text.contains("warning") && text.contains("3 signature"), "{text}");
}
