//! Groups, rights, holds and the history, for VMs of agents: by name and by the UUID that is made of place and plug.

use fence_virt::fence::Operation::{Off, On, Reboot, Status};
use fence_virt::fence_agent::place_uuid;

use crate::common::require;
use crate::fake::{AgentBench, DENIED, FAILURE, FakeAgent, HOST, OFF, SUCCESS};

fn group(lines: &str) -> String {
    format!(
        "groups {{ group {{ ip = \"{HOST}\"; {lines} }} group {{ ip = \"192.0.2.7\"; uuid = \"db\"; }} }}"
    )
}

#[test]
fn groups_and_rights_hold_by_name_and_by_uuid() {
    let bench = require!(AgentBench::new());
    let agent = FakeAgent::new(&bench.dir);
    let uuid = place_uuid("agent:pve", "100").to_string();
    let conf = |lines: &str| bench.conf("agent", &agent.section("pve", ""), &group(lines));
    let daemon = bench.start(&conf("uuid = \"web\";"));
    for listed in ["web", uuid.as_str()] {
        daemon.reload(&bench.dir, &conf(&format!("uuid = \"{listed}\";")));
        for name in ["web", "100", &uuid] {
            assert_eq!(bench.asked(&[Off, Status, On], name), [SUCCESS, OFF, SUCCESS], "{listed} {name}");
        }
        agent.forget_calls();
        let other = place_uuid("agent:pve", "101").to_string();
        for name in ["db", "101", &other, "nobody"] {
            assert_eq!(bench.asked(&[Off, Reboot, On, Status], name), [DENIED; 4], "{listed} {name}");
        }
        assert_eq!((agent.count("off"), agent.count("on")), (0, 0));
        let list = bench.list();
        assert!(list.len() == 1 && list[0].starts_with("web "), "{list:?}");
    }
    // The UUID is that of the place: the same plug of another agent is another VM.
    let foreign = place_uuid("agent", "100").to_string();
    daemon.reload(&bench.dir, &conf(&format!("uuid = \"{foreign}\";")));
    assert_eq!(bench.asked(&[Off, Status], "web"), [DENIED; 2]);
    daemon.reload(&bench.dir, &conf("uuid = \"web\"; allow = \"status, list\";"));
    agent.forget_calls();
    assert_eq!(bench.asked(&[Off, Reboot, On, Status], &uuid), [DENIED, DENIED, DENIED, SUCCESS]);
    assert_eq!((agent.count("off"), agent.count("on")), (0, 0));
}

#[test]
fn holds_and_the_history_know_the_vms_of_agents() {
    let bench = require!(AgentBench::new());
    let agent = FakeAgent::new(&bench.dir);
    let uuid = place_uuid("agent:pve", "100").to_string();
    let daemon = bench.start(&bench.conf("agent", &agent.section("pve", ""), ""));
    for held in ["web", uuid.as_str()] {
        let (code, text) = bench.tool(&daemon, &["--hold", held, "--for", "1h", "--reason", "new kernel"]);
        assert_eq!(code, Some(0), "{text}");
        agent.forget_calls();
        for name in ["web", "100", &uuid] {
            assert_eq!(bench.asked(&[Off, Reboot, On, Status], name), [FAILURE, FAILURE, FAILURE, SUCCESS]);
        }
        assert_eq!((agent.count("off"), agent.count("on")), (0, 0), "{held}");
        assert_eq!(bench.asked(&[Off, On], "db"), [SUCCESS; 2], "it is not held");
        let (code, text) = bench.tool(&daemon, &["--release", held]);
        assert_eq!(code, Some(0), "{text}");
    }
    assert_eq!(bench.ask(Off, "web"), SUCCESS);
    for name in ["web", &uuid] {
        let (_, text) = bench.tool(&daemon, &["--history", "--vm", name]);
        assert!(text.contains("new kernel"), "{name}: {text}");
    }
    let (code, text) = bench.tool(&daemon, &["--history", "--vm", "web"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("destroyed on agent:pve, verified off"), "{text}");
}
