use std::sync::Arc;

use super::super::known_vms::KnownVm;
use super::*;
use fence_virt::config;
use fence_virt::domain_xml::Devices;
use fence_virt::fence::Domain;

const A: &str = "11111111-aaaa-4111-8111-111111111111";
const B: &str = "22222222-bbbb-4222-8222-222222222222";

fn vm(name: &str, uuid: &str, cid: Option<u32>) -> KnownVm {
    let domain = Domain { name: name.to_owned(), uuid: Uuid::parse(uuid).unwrap() };
    let devices =
        Devices { serials: vec!["/run/line".into()], cids: cid.into_iter().collect(), ..Devices::default() };
    KnownVm { domain: Arc::new(domain), is_running: true, devices: Some(devices) }
}

fn known(places: &[Result<Vec<KnownVm>, &str>]) -> KnownVms {
    let place = |(at, vms): (usize, &Result<Vec<KnownVm>, &str>)| UriVms {
        uri: format!("qemu:///{at}"),
        vms: vms.clone().map_err(str::to_owned),
    };
    let backend = places.iter().enumerate().map(place).collect();
    KnownVms { backend, agents: Vec::new(), others: Vec::new() }
}

/// The VMs a, with CID 5, and b.
fn both() -> KnownVms {
    known(&[Ok(vec![vm("a", A, Some(5)), vm("b", B, None)])])
}

fn config_of(listeners: &str, backend: &str, groups: &str) -> Config {
    let text = format!(
        "fence_virtd {{ listener = \"{listeners}\"; backend = \"{backend}\"; }}
        listeners {{ tcp {{ address = \"192.0.2.1\"; }} serial {{ path = \"/run\"; }} }}
        backends {{ libvirt {{ uri = \"qemu:///0\"; uri1 = \"qemu:///1\"; }} }} groups {{ {groups} }}"
    );
    let outcome = config::parse(Path::new("f"), text.as_bytes());
    outcome.config.unwrap_or_else(|| panic!("{}\n{text}", outcome.diagnostics.render(false)))
}

fn explained(config: &Config, requester: &str, vm: &str, known: &KnownVms) -> (String, Outcome) {
    explain(config, &AskedRequester::parse(requester).unwrap(), (vm, None), known).unwrap()
}

#[test]
fn a_denial_says_which_line_is_missing_and_with_that_line_it_is_allowed() {
    let cases = [
        // A group has the VM.
        ("tcp", "192.0.2.7", "group { uuid = \"b\"; ip = \"192.0.2.8\"; MARK }", "ip = \"192.0.2.7\";"),
        ("vsock", "cid:5", "group { uuid = \"b\"; ip = \"3\"; MARK }", "ip = \"5\";"),
        ("serial", "a", "group { uuid = \"b\"; MARK }", &format!("uuid = \"{A}\";")),
        ("vsock", "a", "group { uuid = \"b\"; MARK }", &format!("uuid = \"{A}\";")),
        // A group has the requester.
        (
            "tcp",
            "192.0.2.7",
            "group { ip = \"192.0.2.0/24\"; uuid = \"c\"; MARK }",
            &format!("uuid = \"{B}\";"),
        ),
        ("serial", "a", "group { uuid = \"a\"; MARK }", &format!("uuid = \"{B}\";")),
        // A group for another listener has both.
        (
            "tcp serial",
            "192.0.2.7",
            "group { uuid = \"b\"; ip = \"192.0.2.7\"; MARK listener = \"serial\"; }",
            "listener = \"serial, tcp\";",
        ),
        // No group has any of them.
        (
            "tcp",
            "192.0.2.7",
            "group { uuid = \"c\"; ip = \"192.0.2.8\"; } MARK",
            &format!("group {{ listener = \"tcp\"; ip = \"192.0.2.7\"; uuid = \"{B}\"; }}"),
        ),
    ];
    for (listeners, requester, groups, line) in cases {
        let before = config_of(listeners, "libvirt", &groups.replace("MARK", ""));
        let (text, outcome) = explained(&before, requester, "b", &both());
        assert_eq!(outcome, Outcome::Denied, "{text}");
        assert!(text.contains(&format!(":\n    {line}\n")), "{line} in\n{text}");
        assert!(text.ends_with("\ndenied\n"), "{text}");
        let mut groups = groups.replace("MARK", line);
        if line.starts_with("listener") {
            groups = groups.replace("listener = \"serial\";", "");
        }
        let (text, outcome) = explained(&config_of(listeners, "libvirt", &groups), requester, "b", &both());
        assert_eq!(outcome, Outcome::Allowed, "{groups}\n{text}");
    }
}

#[test]
fn a_group_for_another_listener_is_not_the_place() {
    let serial = "group { uuid = \"b\"; listener = \"serial\"; }";
    let groups = format!("{serial} group {{ uuid = \"b\"; ip = \"192.0.2.8\"; }}");
    let (text, _) = explained(&config_of("tcp serial", "libvirt", &groups), "192.0.2.7", "b", &both());
    assert!(text.contains("add to group #2 (number 2 of the file):\n    ip = \"192.0.2.7\";\n"), "{text}");
    assert!(!text.contains("number 1 of the file"), "{text}");
}

#[test]
fn each_listener_is_judged_by_itself() {
    let groups =
        "group { name = \"g\"; uuid = \"a\"; uuid = \"b\"; ip = \"192.0.2.7\"; listener = \"tcp\"; }";
    let config = config_of("tcp multicast vsock serial", "libvirt", groups);
    let (text, outcome) = explained(&config, "192.0.2.7", "b", &both());
    assert_eq!(outcome, Outcome::Allowed, "{text}");
    for words in [
        "requester: address 192.0.2.7\n",
        &format!("VM: \"b\" ({B}) on qemu:///0\n"),
        "listener tcp: the requester comes as 192.0.2.7\n  groups of the requester: \"g\"\n  groups of the VM: \"g\"\n  allowed\n",
        "  groups of the VM: \"g\" (not for multicast)\n  denied: ",
        "listener vsock: not this way: it knows requesters by their CIDs\n",
        "listener serial: not this way: ",
    ] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
    let (text, outcome) = explained(&config, "2001:db8::7", "b", &both());
    assert!(outcome == Outcome::Denied && text.contains("no listener of the configuration takes"), "{text}");
    let (text, outcome) = explained(&config_of("tcp", "libvirt", groups), "a", "b", &both());
    assert!(outcome == Outcome::Unknown && text.contains("give the address"), "{text}");
    let (text, outcome) = explained(&config_of("vsock", "libvirt", groups), "192.0.2.7", "b", &both());
    assert_eq!(outcome, Outcome::Denied, "{text}");
    let open = config_of("tcp", "libvirt", "");
    let (text, outcome) = explained(&open, "192.0.2.7", "b", &both());
    assert!(outcome == Outcome::Allowed && text.contains("any requester may fence any VM"), "{text}");
}

#[test]
fn what_libvirt_does_not_tell_is_said() {
    let groups = &format!("group {{ uuid = \"{A}\"; uuid = \"b\"; ip = \"192.0.2.7\"; }}");
    let config = config_of("tcp serial", "libvirt", groups);
    let silent = known(&[Err("qemu:///0 cannot be asked: gone")]);
    // As given the group lists it; by the UUID it may list it.
    assert_eq!(explained(&config, "192.0.2.7", "b", &silent).1, Outcome::Allowed);
    let (text, outcome) = explained(&config, "192.0.2.7", B, &silent);
    assert!(
        outcome == Outcome::Unknown && text.contains("libvirt: qemu:///0 cannot be asked: gone"),
        "{text}"
    );
    assert_eq!(explained(&config, A, "b", &silent).1, Outcome::Allowed);
    assert_eq!(explained(&config, B, "b", &silent).1, Outcome::Unknown, "it may be b");
    assert_eq!(explained(&config, "a", "b", &silent).1, Outcome::Unknown);
    // Of the requester the UUID alone is known; a group may list its name.
    let partly = known(&[Ok(vec![vm("b", B, None)]), Err("qemu:///1 cannot be asked: gone")]);
    let absent = "33333333-cccc-4333-8333-333333333333";
    assert_eq!(explained(&config, absent, "b", &partly).1, Outcome::Unknown);
    // No VM of this name: denied, unless another host may have it.
    assert_eq!(explained(&config, "192.0.2.7", "c", &both()).1, Outcome::Denied);
    let cluster = config_of("tcp serial", "cpg", groups);
    assert_eq!(explained(&cluster, "192.0.2.7", "c", &both()).1, Outcome::Unknown);
    assert_eq!(explained(&cluster, "192.0.2.7", "a", &both()).1, Outcome::Allowed);
}

#[test]
fn names_that_several_vms_have_decide_nothing() {
    let config =
        config_of("tcp serial", "libvirt", "group { uuid = \"b\"; uuid = \"x\"; ip = \"192.0.2.7\"; }");
    // Copies of one VM with different names: each has to be listed.
    let borrowed = known(&[Ok(vec![vm("b", B, None)]), Ok(vec![vm("mine", B, None)])]);
    let (text, outcome) = explained(&config, "192.0.2.7", "b", &borrowed);
    assert_eq!(outcome, Outcome::Denied, "{text}");
    assert!(text.contains(&format!(":\n    uuid = \"{B}\";\n")), "{text}");
    let ambiguous = known(&[Ok(vec![vm("b", B, None), vm("x", A, None)]), Ok(vec![vm("x", B, None)])]);
    let asked = AskedRequester::parse("192.0.2.7").unwrap();
    assert!(explain(&config, &asked, ("x", None), &ambiguous).unwrap_err().contains("use the UUID"));
    let (text, outcome) = explained(&config, "x", "b", &ambiguous);
    assert!(outcome == Outcome::Unknown && text.contains("give the UUID"), "{text}");
}

/// Explains one operation of the address 192.0.2.7 on b.
fn explained_for(operation: Operation, groups: &str) -> (String, Outcome) {
    let config = config_of("tcp", "libvirt", groups);
    let asked = AskedRequester::parse("192.0.2.7").unwrap();
    explain(&config, &asked, ("b", Some(operation)), &both()).unwrap()
}

#[test]
fn an_operation_is_judged_by_what_the_groups_allow() {
    let group = "group { name = \"g\"; uuid = \"b\"; ip = \"192.0.2.7\"; allow = \"list, status\"; }";
    for (operation, _) in Rights::OPERATIONS {
        let (text, outcome) = explained_for(operation, group);
        let is_allowed = [Operation::Status, Operation::HostList].contains(&operation);
        assert_eq!(outcome == Outcome::Allowed, is_allowed, "{text}");
        assert!(text.contains("groups of the VM: \"g\" (allows status, list)\n"), "{text}");
    }
    let (text, outcome) = explained_for(Operation::Off, group);
    assert_eq!(outcome, Outcome::Denied, "{text}");
    for words in [
        "\noperation: off\n",
        "  denied: no group of this listener with both requester and VM allows it\n",
        "  to allow it, replace the line allow of group \"g\" (number 1 of the file) by:\n    allow = \"status, list, off\";\n",
        "    (this allows all requesters of that group, for all its VMs: off)\n",
    ] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
    assert!(text.ends_with("\ndenied\n"), "{text}");
    let wider = group.replace("list, status", "status, list, off");
    assert_eq!(explained_for(Operation::Off, &wider).1, Outcome::Allowed);
}

#[test]
fn without_an_operation_each_is_judged() {
    let group = "group { uuid = \"b\"; ip = \"192.0.2.7\"; allow = \"list, off, status\"; }";
    let (text, outcome) = explained(&config_of("tcp", "libvirt", group), "192.0.2.7", "b", &both());
    assert_eq!(outcome, Outcome::Denied, "not all: {text}");
    assert!(text.contains("  allowed (status, list, off)\n  denied (reboot, on): no group"), "{text}");
    assert!(text.contains("\n    allow = \"status, list, off, reboot, on\";\n"), "{text}");
    assert!(text.ends_with("\nallowed: status, list, off; denied: reboot, on\n"), "{text}");
    // Two listeners allow everything together.
    let other = |listener: &str, allow: &str| {
        format!(
            "group {{ uuid = \"b\"; ip = \"192.0.2.7\"; listener = \"{listener}\"; allow = \"{allow}\"; }}"
        )
    };
    let groups = other("tcp", "status list off") + &other("multicast", "reboot on");
    let (text, outcome) =
        explained(&config_of("tcp multicast", "libvirt", &groups), "192.0.2.7", "b", &both());
    assert!(outcome == Outcome::Allowed && text.ends_with("\nallowed\n"), "{text}");
    // A group that lacks the operation is no place for the missing line.
    let elsewhere = "group { uuid = \"b\"; ip = \"192.0.2.8\"; allow = \"status\"; }";
    let (text, _) = explained_for(Operation::Off, elsewhere);
    let line =
        format!("group {{ listener = \"tcp\"; allow = \"off\"; ip = \"192.0.2.7\"; uuid = \"{B}\"; }}");
    assert!(text.contains(&format!(":\n    {line}\n")), "{text}");
    assert_eq!(explained_for(Operation::Off, &format!("{elsewhere} {line}")).1, Outcome::Allowed);
    let (text, _) = explained_for(Operation::Status, elsewhere);
    assert!(text.contains(":\n    ip = \"192.0.2.7\";\n"), "{text}");
}

#[test]
fn a_group_for_another_listener_is_the_place_only_if_it_allows_the_operation() {
    let groups = "group { uuid = \"b\"; ip = \"192.0.2.7\"; listener = \"serial\"; allow = \"status\"; }";
    let config = config_of("tcp serial", "libvirt", groups);
    let asked = AskedRequester::parse("192.0.2.7").unwrap();
    let text = |operation| explain(&config, &asked, ("b", Some(operation)), &both()).unwrap().0;
    assert!(text(Operation::Status).contains("\n    listener = \"serial, tcp\";\n"));
    assert!(text(Operation::Off).contains("\n    group { listener = \"tcp\"; allow = \"off\"; "));
}

#[test]
fn one_copy_that_is_permitted_is_listed_and_not_more() {
    let borrowed = known(&[Ok(vec![vm("b", B, None)]), Ok(vec![vm("mine", B, None)])]);
    let config = config_of("tcp", "libvirt", "group { uuid = \"b\"; ip = \"192.0.2.7\"; }");
    let (text, outcome) = explained(&config, "192.0.2.7", "b", &borrowed);
    assert_eq!(outcome, Outcome::Denied, "{text}");
    assert!(text.ends_with("\nallowed: list; denied: status, off, reboot, on\n"), "{text}");
}

#[test]
fn sources_and_targets_are_explained() {
    let groups =
        format!("group {{ name = \"g\"; source = \"192.0.2.7\"; source = \"a\"; target = \"{B}\"; }}");
    let config = config_of("tcp serial", "libvirt", &groups);
    for requester in ["192.0.2.7", "a"] {
        let (text, outcome) = explained(&config, requester, "b", &both());
        assert_eq!(outcome, Outcome::Allowed, "{text}");
        let (text, outcome) = explained(&config, requester, "a", &both());
        assert_eq!(outcome, Outcome::Denied, "{text}");
    }
    let (text, outcome) = explained(&config, "b", "b", &both());
    assert!(outcome == Outcome::Denied && text.contains("  groups of the requester: none\n"), "{text}");
}

#[test]
fn caps_of_the_groups_of_the_vm_are_named() {
    let groups = "group { name = \"g\"; uuid = \"b\"; ip = \"192.0.2.8\"; max_power_off = \"2/1m\"; }
        group { uuid = \"a\"; ip = \"192.0.2.7\"; max_power_off = \"3/1m\"; }
        group { uuid = \"b\"; ip = \"192.0.2.7\"; }";
    let (text, outcome) = explained(&config_of("tcp", "libvirt", groups), "192.0.2.7", "b", &both());
    let line = "\nmax_power_off of group \"g\": 2/60s, for all requesters together\n";
    assert!(outcome == Outcome::Allowed && text.contains(line), "{text}");
    assert_eq!(text.matches("max_power_off").count(), 1, "{text}");
}

#[test]
fn vms_of_agents_are_found_and_an_agent_without_a_list_leaves_doubt() {
    let text = "fence_virtd { listener = \"tcp\"; backend = \"agent:x\"; }
        listeners { tcp { address = \"192.0.2.1\"; } }
        backends { agent = \"x\" { program = \"/usr/sbin/fence_x\"; } }
        groups { group { uuid = \"b\"; ip = \"192.0.2.7\"; } }";
    let config = config::parse(Path::new("f"), text.as_bytes()).config.unwrap();
    let agent = |vms| KnownVms { agents: vec![UriVms { uri: "agent:x".to_owned(), vms }], ..known(&[]) };
    let both = agent(Ok(vec![vm("a", A, None), vm("b", B, None)]));
    let (text, outcome) = explained(&config, "192.0.2.7", B, &both);
    assert!(text.contains(&format!("VM: \"b\" ({B}) on agent:x\n")), "{text}");
    assert_eq!((outcome, explained(&config, "192.0.2.7", A, &both).1), (Outcome::Allowed, Outcome::Denied));
    let silent = agent(Err("agent:x does not tell its VMs: it has no list".to_owned()));
    let (text, outcome) = explained(&config, "192.0.2.7", A, &silent);
    assert!(text.contains("agents: agent:x does not tell its VMs: it has no list; names"), "{text}");
    assert_eq!(outcome, Outcome::Unknown, "{text}");
}
