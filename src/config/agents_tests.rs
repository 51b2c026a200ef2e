use std::time::Duration;

use super::super::{BackendConfig, parse};
use super::*;

/// Findings about a file with this value of `backend` and this content of `backends`, and its configuration.
fn check(backend: &str, backends: &str) -> (Option<BackendConfig>, Vec<String>) {
    let text = format!(
        "fence_virtd {{ listener = \"tcp\"; backend = \"{backend}\"; }}\n\
         backends {{ {backends} }}"
    );
    let outcome = parse(std::path::Path::new("f"), text.as_bytes());
    let found = outcome.diagnostics.iter().map(|found| found.message.clone()).collect();
    (outcome.config.map(|config| config.backend), found)
}

fn agents(backend: &str, backends: &str) -> (Vec<String>, Vec<AgentConfig>) {
    match check(backend, backends) {
        (Some(BackendConfig::Agent { uris, agents }), found) if found.is_empty() => (uris, agents),
        other => panic!("{other:?}"),
    }
}

const PVE: &str =
    "agent = \"pve\" { program = \"/usr/sbin/fence_pve\"; option = \"ip=pve1\"; option = \"ssl=1\"; }";
const PLAIN: &str = "agent { program = \"/usr/sbin/fence_virsh\"; }";

#[test]
fn an_agent_has_defaults() {
    let (uris, agents) = agents("agent", PLAIN);
    assert!(uris.is_empty());
    let expected = AgentConfig {
        name: None,
        program: "/usr/sbin/fence_virsh".into(),
        options: Vec::new(),
        password_file: None,
        user: None,
        list_interval: Duration::from_secs(60),
        timeout: Duration::from_secs(60),
        max_parallel: 16,
    };
    assert_eq!((agents[0].place(), &agents[..]), ("agent".to_owned(), &[expected][..]));
}

#[test]
fn several_agents_stand_beside_libvirt() {
    let both = format!("{PVE} {PLAIN} libvirt {{ uri = \"test:///default\"; }}");
    let places = |(uris, agents): (Vec<String>, Vec<AgentConfig>)| {
        let places = agents.iter().map(AgentConfig::place);
        uris.into_iter().chain(places).collect::<Vec<_>>()
    };
    assert_eq!(places(agents("libvirt, agent:pve", &both)), ["test:///default", "agent:pve"]);
    assert_eq!(places(agents("agent", &both)), ["agent:pve", "agent"]);
    assert_eq!(places(agents("AGENT:pve Libvirt", PVE)), ["qemu:///system", "agent:pve"]);
    let (_, options) = agents("agent", PVE);
    assert_eq!(options[0].options.iter().map(|option| &option.name[..]).collect::<Vec<_>>(), ["ip", "ssl"]);
}

#[track_caller]
fn fails(backend: &str, backends: &str, words: &str) {
    let (config, found) = check(backend, backends);
    assert!(config.is_none() && found.iter().any(|message| message.contains(words)), "{words}: {found:?}");
}

#[test]
fn what_is_missing_or_contradictory_is_an_error() {
    fails("agent:x", PVE, "there is no such agent");
    fails("agent", "", "there is no agent");
    fails("agent", "agent { }", "has no program");
    fails("agent", "agent { program = \"fence_pve\"; }", "absolute file path");
    fails("agent", &format!("{PVE} {PVE}"), "already on line 2");
    fails("cpg, agent", PVE, "cpg goes with no other backend");
    fails("cpg libvirt", "", "cpg goes with no other backend");
    fails("agents", PVE, "unknown backend \"agents\"");
    fails(", ,", PVE, "names no backend");
    fails("agent", "agent = \"a b\" { program = \"/p\"; }", "no name of an agent");
    let with = |rest: &str| format!("agent {{ program = \"/p\"; {rest} }}");
    fails("agent", &with("option = \"ip\";"), "name=value");
    fails("agent", &with("option = \"plug=1\";"), "set by each request");
    fails("agent", &with("option = \"ip=1\"; option = \"ip=2\";"), "option ip is there twice");
    fails("agent", &with("option = \"password=x\"; password_file = \"/f\";"), "exclude each other");
    fails("agent", &with("timeout = \"61\";"), "expected 1 to 60");
    fails("agent", &with("list_interval = \"0\";"), "expected 1 to 86400");
    fails("agent", &with("max_parallel = \"65\";"), "expected 1 to 64");
}

#[test]
fn an_agent_that_is_not_selected_only_warns() {
    let (config, found) = check("libvirt", "agent { }");
    assert!(config.is_some());
    assert!(found[0].contains("has no program"), "{found:?}");
}

#[test]
fn a_secret_in_the_file_is_a_warning_and_is_not_shown() {
    let (config, found) = check("agent", "agent { program = \"/p\"; option = \"password=hidden\"; }");
    assert!(found[0].contains("is a secret in this file; write it to a file"), "{found:?}");
    let shown = format!("{config:?}");
    assert!(shown.contains("password=***") && !shown.contains("hidden"), "{shown}");
}

#[test]
fn lines_of_vms_need_libvirt() {
    let check = |backend: &str, serial: &str| {
        let text = format!(
            "fence_virtd {{ listener = \"serial\"; backend = \"{backend}\"; }} listeners {{ serial {{ path = \"/p\"; {serial} }} }} \
             backends {{ {PVE} }}"
        );
        parse(std::path::Path::new("f"), text.as_bytes()).config.is_some()
    };
    assert!(!check("agent", ""));
    assert!(check("agent", "uri = \"qemu:///system\";"));
    assert!(check("agent, libvirt", ""));
}
