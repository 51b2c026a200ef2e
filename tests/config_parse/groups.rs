//! Permission groups: their `ip` lines, and groups that would be skipped.

use super::*;

#[test]
fn groups() {
    let groups = "groups {\ngroup = \"x\" { uuid = \"a\"; uuid = \"b\"; ip = \"fe80::1%eth0\"; ip = \"10.0.0.0/8\"; }\n\
        group = \"y\" { name = \"z\"; ip = \"3\"; }\n}";
    let config = config(&format!("{DAEMON}{groups}"));
    let names: Vec<_> = config.groups.iter().map(|group| group.name.as_deref()).collect();
    assert_eq!(names, [Some("x"), Some("z")]);
    assert_eq!((config.groups[0].uuids.len(), config.groups[0].ips.len()), (2, 2));
    let found = findings(&format!("{DAEMON}{groups}"));
    assert_eq!(found[0], "4:1 Warning this group has no uuid: no VM can be fenced through it");
    assert_eq!(found.len(), 2, "{found:?}");
    let no_ip = "this group has no ip: its members can be fenced only through the serial and vsock listeners";
    assert!(findings(&format!("{DAEMON}groups {{ group {{ uuid = \"a\"; }} }}"))[0].ends_with(no_ip));
    let serial = "fence_virtd { listener = \"serial\"; backend = \"libvirt\"; }";
    let with_path = "listeners { serial { path = \"/x\"; } }";
    assert_eq!(findings(&format!("{serial}{with_path}groups {{ group {{ uuid = \"a\"; }} }}")), [""; 0]);
    for (listeners, place) in [("", "1:27"), ("\nlisteners { serial { } }", "2:13")] {
        let found = findings(&format!("{serial}{listeners}"));
        assert!(found[0].starts_with(&format!("{place} Warning listener serial has no path")), "{found:?}");
    }
    assert_eq!(
        found[1],
        "4:33 Warning \"3\" is a vsock CID, but no vsock listener uses this group: it matches no requester"
    );
}

/// Findings of a file with this cap in a group.
fn findings_of_cap(cap: &str) -> Vec<String> {
    findings(&format!(
        "{DAEMON}\ngroups {{ group {{ uuid = \"a\"; ip = \"192.0.2.1\"; max_power_off = \"{cap}\"; }} }}"
    ))
}

#[test]
fn a_cap_is_a_number_and_a_time() {
    for (cap, shown) in [("2/60s", "2/60s"), ("5/10m", "5/600s"), ("1000/1d", "1000/86400s")] {
        assert_eq!(findings_of_cap(cap), [""; 0], "{cap}");
        let group =
            format!("groups {{ group {{ uuid = \"a\"; ip = \"::1\"; max_power_off = \"{cap}\"; }} }}");
        let config = config(&format!("{DAEMON}{group}"));
        assert_eq!(config.groups[0].max_power_off.map(|cap| cap.to_string()).as_deref(), Some(shown));
        assert!(config.summary().contains(&format!("requests from: ::1; max_power_off {shown}\n")));
    }
    for cap in ["0/60s", "2/0s", "2", "2/60", "1001/60s", "2/2d", "many", "2/60s 3"] {
        let found = findings_of_cap(cap);
        let expected =
            format!("invalid max_power_off \"{cap}\"; expected a number of power-offs from 1 to 1000");
        assert!(found.len() == 1 && found[0].contains(&expected), "{cap}: {found:?}");
        assert!(found[0].contains("Error") && found[0].ends_with("such as 2/60s or 5/10m"), "{found:?}");
    }
    assert_eq!(config(DAEMON).groups.len(), 0);
}

/// Findings of a file whose group, on line 2, has this `ip` line.
fn findings_of_ip(listeners: &str, ip: &str) -> Vec<String> {
    let daemon = format!("fence_virtd {{ listener = \"{listeners}\"; backend = \"libvirt\"; }}");
    let serial = "listeners { serial { path = \"/x\"; } }";
    findings(&format!("{daemon} {serial}\ngroups {{ group {{ uuid = \"a\"; ip = \"{ip}\"; }} }}"))
}

#[test]
fn addresses_networks_and_cids_are_requesters() {
    for ip in [
        "192.0.2.1",
        " 2001:db8::1 ",
        "fe80::1%eth0",
        "::ffff:192.0.2.1",
        "192.168.122.0/24",
        "fd00::/64",
        "fe80::%eth0/64",
        "::ffff:192.168.122.0/120",
        "192.0.2.1/32",
        "0.0.0.0/1",
        "4294967295",
    ] {
        assert_eq!(findings_of_ip("multicast, vsock", ip), [""; 0], "{ip}");
    }
    for (ip, family) in [("0.0.0.0/0", "IPv4"), ("::/0", "IPv6"), ("::ffff:0.0.0.0/96", "IPv4")] {
        let expected = format!("2:36 Warning this is every {family} address");
        let found = findings_of_ip("tcp", ip);
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{ip}: {found:?}");
    }
}

#[test]
fn an_ip_that_is_no_address_is_an_error() {
    for (ip, words) in [
        ("192.168.122.300", "is no IP address"),
        ("192.168.122", "is no IP address"),
        ("192.168.122.010", "is no IP address"),
        ("192.168.122.1%eth0", "is no IP address"),
        ("192.168.122.10-20", "is no IP address"),
        ("192.168.122.*", "is no IP address"),
        ("192.168.122.1, 192.168.122.2", "is no IP address"),
        ("52:54:00:12:36:56", "is no IP address"),
        ("fe80::1%", "is no IP address"),
        ("fe80::1::2", "is no IP address"),
        ("vm/24", "is no IP address"),
        ("192.0.2.1:1229", "is no IP address"),
        ("4294967296", "is no CID"),
        ("+3", "is no IP address"),
        ("192.168.122.0/33", "expected 0 to 32"),
        ("192.168.122.0/255.255.255.0", "expected 0 to 32"),
        ("192.168.122.0/", "expected 0 to 32"),
        ("192.168.122.0/+8", "expected 0 to 32"),
        ("192.168.122.0/024", "expected 0 to 32"),
        ("fd00::/129", "expected 0 to 128"),
        ("fd00::/64%eth0", "expected 0 to 128"),
        ("192.168.122.1/24", "write 192.168.122.0/24 for the network, or 192.168.122.1 for one address"),
        ("fd00::1/64", "write fd00::/64 for the network, or fd00::1 for one address"),
        ("::ffff:192.168.122.1/120", "write 192.168.122.0/24 for the network"),
        ("::ffff:192.168.122.0/95", "write ::fffe:0:0/95 for the network"),
    ] {
        // Also where a name would be legal.
        for listeners in ["tcp", "multicast", "serial", "vsock, serial"] {
            let found = findings_of_ip(listeners, ip);
            let is_told = |line: &String| line.starts_with("2:36 Error ") && line.contains(words);
            assert!(found.iter().any(is_told), "{listeners}, {ip}: {found:?}");
        }
    }
    for name in ["node1", "node1.example.org", "localhost", "1ce02c4b-dfa1-42cb-b5b1-f0b1091ece60", "b2"] {
        for (listeners, severity) in [
            ("tcp", "Error"),
            ("multicast, tcp", "Error"),
            ("serial", "Warning"),
            ("vsock", "Warning"),
            ("multicast, serial", "Warning"),
        ] {
            let found = findings_of_ip(listeners, name);
            let expected = format!("2:36 {severity} \"{name}\" is no IP address, network or CID");
            assert!(found.len() == 1 && found[0].starts_with(&expected), "{listeners}: {found:?}");
        }
    }
    // What counts are the listeners of the group.
    let only = |listener: &str| {
        let daemon = "fence_virtd { listener = \"tcp, vsock\"; backend = \"libvirt\"; }\n";
        let group = format!("group {{ uuid = \"a\"; ip = \"node1\"; listener = \"{listener}\"; }}");
        let found =
            findings(&format!("{daemon}groups {{ {group} group {{ uuid = \"b\"; ip = \"::1\"; }} }}"));
        found[0].split(' ').nth(1).map(str::to_owned)
    };
    assert_eq!((only("tcp").as_deref(), only("vsock").as_deref()), (Some("Error"), Some("Warning")));
}

#[test]
fn groups_that_are_not_read_are_errors() {
    let group = "group { uuid = \"a\"; ip = \"::1\"; }";
    let full = format!("groups {{ {group} }}");
    let daemon = "listener = \"multicast\"; backend = \"libvirt\";";
    let inside = |section: &str| section.replace("HERE", &full).replace("GROUP", group);
    for (text, place, words) in [
        (format!("fence_virtd {{ {daemon}\n{full} }}"), "2:1", "in fence_virtd"),
        (inside("listeners {\nHERE }"), "3:1", "in listeners"),
        (inside("listeners { multicast {\nHERE } }"), "3:1", "in listeners/multicast"),
        // Sections that are not in use, or not known.
        (inside("listeners { tcp {\nHERE } }"), "3:1", "in listeners/tcp"),
        (inside("backends { cpg {\nHERE } }"), "3:1", "in backends/cpg"),
        (inside("access { who {\nHERE } }"), "3:1", "in access/who"),
        (inside("access {\nGROUP }"), "3:1", "write groups { group { ... } }"),
        (inside("access {\nGrups { GROUP } }"), "3:1", "did you mean \"groups\"?"),
        (inside("groups { GROUP\nHERE }"), "3:1", "in groups"),
        (inside("groups { group { uuid = \"a\"; ip = \"::1\";\nGROUP } }"), "3:1", "in groups/group"),
        (inside("\nGROUP"), "3:1", "write groups { group { ... } }"),
        (inside("fence_virtd { groups = \"a\"; }"), "2:15", "write it as groups { ... }"),
        (inside("\ngroup = \"a\";"), "3:1", "write groups { group { ... } }"),
        (inside("groups { GROUP\ngroup = \"a\"; }"), "3:1", "write groups { group { ... } }"),
        (inside("groups {\nuuid = \"a\"; GROUP }"), "3:1", "write groups { group { uuid = \"...\"; } }"),
        (inside("groups {\nIP = \"::1\"; }"), "3:1", "write groups { group { ip = \"...\"; } }"),
        (inside("groups {\nallow = \"off\"; GROUP }"), "3:1", "write groups { group { allow = \"...\"; } }"),
        (inside("groups {\nsource = \"a\"; GROUP }"), "3:1", "write groups { group { source = \"...\"; } }"),
        (inside("groups {\ntarget = \"a\"; GROUP }"), "3:1", "write groups { group { target = \"...\"; } }"),
        (inside("HERE\nHERE"), "3:1", "already on line 2"),
        (inside("HERE\ngroups { }"), "3:1", "already on line 2"),
        (inside("groups { }\nGroups { GROUP }"), "3:1", "already on line 2"),
        (inside("groups = \"x\" { GROUP }\ngroups = \"y\" { GROUP }"), "3:1", "already on line 2"),
        (inside("groups { GROUP\ngroup { } }"), "3:1", "permits nothing"),
        (inside("groups {\ngroup = \"x\" { name = \"y\"; } }"), "3:1", "permits nothing"),
        (
            inside("groups { group { uuid = \"a\"; ip = \"::1\";\nlistner = \"tcp\"; } }"),
            "3:1",
            "did you mean \"listener\"?",
        ),
        (
            inside("groups { group { uuid = \"a\"; ip = \"::1\";\nalow = \"status\"; } }"),
            "3:1",
            "did you mean \"allow\"?",
        ),
    ] {
        let text = match text.starts_with("fence_virtd { listener") {
            true => text,
            false => format!("{}{text}", DAEMON),
        };
        let found = findings(&text);
        let is_told = |line: &String| line.starts_with(&format!("{place} Error ")) && line.contains(words);
        assert_eq!(found.iter().filter(|line| is_told(line)).count(), 1, "{text}: {found:?}");
        // One mistake is told once.
        let at_place = found.iter().filter(|line| line.starts_with(&format!("{place} ")));
        assert_eq!(at_place.count(), 1, "{text}: {found:?}");
    }
    // A multicast address is no permission group.
    let found = findings(&format!("{DAEMON}listeners {{ multicast {{ group = \"225.0.0.12\"; }} }}"));
    assert!(found.len() == 1 && found[0].contains(" Unknown "), "{found:?}");
}

#[test]
fn a_misspelt_group_does_not_lift_restrictions() {
    for wrong in ["gruops { group { uuid = \"a\"; ip = \"::1\"; } }", "groups { gruop { uuid = \"a\"; } }"] {
        let text = format!("{DAEMON}{wrong}");
        assert!(parse(Path::new("c"), text.as_bytes()).config.is_none(), "{wrong}");
    }
    let text = format!("{DAEMON}groups {{ }}");
    let outcome = parse(Path::new("c"), text.as_bytes());
    assert!(outcome.config.is_some() && outcome.diagnostics.render(false).contains("groups has no group"));
}

/// A file with one group, on line 2, which has these lines besides a member and an address.
fn with_group(lines: &str) -> String {
    format!("{DAEMON}groups {{ group {{ uuid = \"a\"; ip = \"::1\"; {lines} }} }}")
}

#[test]
fn operations_that_a_group_allows() {
    for (allow, expected) in [
        ("", "status, list, off, reboot, on"),
        ("allow = \"status\";", "status"),
        ("allow = \" ON,list  Status \";", "status, list, on"),
        ("ALLOW = \"on,off,reboot,status,list\";", "status, list, off, reboot, on"),
    ] {
        let text = with_group(allow);
        assert_eq!(findings(&text), [""; 0], "{allow}");
        assert_eq!(config(&text).groups[0].rights.to_string(), expected, "{allow}");
    }
    let known = "expected one or more of: status, list, off, reboot, on";
    for (value, column, message) in [
        ("", 51, format!("empty list; {known}; remove the line to allow all operations")),
        (" , ", 51, format!("empty list; {known}; remove the line to allow all operations")),
        ("off, rebot", 56, format!("unknown operation \"rebot\"; {known}; did you mean \"reboot\"?")),
        ("all", 51, format!("unknown operation \"all\"; {known}")),
        ("off Off", 55, "duplicate operation \"Off\"; name it once".to_owned()),
        (
            "Monitor",
            51,
            "\"Monitor\" needs no group: every requester may ask for it; remove the word".to_owned(),
        ),
        ("off; on", 51, format!("unknown operation \"off;\"; {known}; did you mean \"off\"?")),
    ] {
        let found = findings(&with_group(&format!("allow = \"{value}\";")));
        assert_eq!(found, [format!("2:{column} Error {message}")], "{value}");
    }
    let found = findings(&with_group("allow = \"off\"; allow = \"on\";"));
    assert_eq!(found, ["2:57 Error \"allow\" stands on line 2 too; keep one of them"]);
    // What the daemon does not know may be meant to restrict the group.
    for key in ["permit", "operations", "max_off", "comment"] {
        let found = findings(&with_group(&format!("{key} = \"status\";")));
        let says = format!(" Error unknown key \"{key}\" in groups/group");
        assert!(found.len() == 1 && found[0].contains(&says), "{found:?}");
    }
    for key in ["shared", "FOLDER"] {
        let text = format!("{DAEMON}backends {{ libvirt {{ {key} = \"no\"; }} }}");
        let says = format!(" Error \"{key}\" belongs into the section keys, outside all sections");
        assert!(findings(&text).iter().any(|found| found.contains(&says)), "{:?}", findings(&text));
    }
}

#[test]
fn sources_and_targets_of_a_group() {
    let group = |lines: &str| format!("{DAEMON}groups {{\ngroup {{ {lines} }} }}");
    let text = group(
        "source = \"192.0.2.0/24\"; Source = \"ctl\"; target = \"a\"; target = \"44179d3f-6c63-474f-a212-20c8b4b25b16\";",
    );
    assert_eq!(findings(&text), [""; 0]);
    let parsed = &config(&text).groups[0];
    assert_eq!(
        (&parsed.sources[..], parsed.targets.len()),
        (&["192.0.2.0/24".to_owned(), "ctl".to_owned()][..], 2)
    );
    assert!(parsed.uuids.is_empty() && parsed.ips.is_empty());
    let nobody =
        "3:1 Error nobody may ask for the targets of this group; add source, ip or uuid, or remove it";
    let no_target = "3:1 Error the sources of this group have no target; add target or uuid, or remove it";
    let no_address = "3:1 Warning this group has no address in ip or source: its members can be fenced only through \
                      the serial and vsock listeners";
    for (lines, expected) in [
        ("target = \"a\";", &[nobody][..]),
        ("source = \"192.0.2.1\";", &[no_target]),
        ("source = \"192.0.2.1\"; ip = \"192.0.2.1\";", &[no_target]),
        ("source = \"ctl\"; target = \"a\";", &[no_address]),
        ("source = \"192.0.2.1\"; uuid = \"a\";", &[]),
        ("ip = \"192.0.2.1\"; target = \"a\";", &[]),
        ("uuid = \"a\"; ip = \"192.0.2.1\"; source = \"ctl\"; target = \"b\";", &[]),
    ] {
        assert_eq!(findings(&group(lines)), expected, "{lines}");
    }
    for (source, message) in [
        ("192.0.2.1/24", "write 192.0.2.0/24 for the network, or 192.0.2.1 for one address"),
        ("192.0.2.0/33", "expected 0 to 32"),
        ("4294967296", "is no CID"),
        (
            "192.0.2.300",
            "is no IP address and no name of a VM; write one address, network or CID a line, or list",
        ),
        ("a/b", "list the VM by its UUID"),
        ("", "empty value"),
    ] {
        let found = findings(&group(&format!("target = \"a\"; ip = \"::1\"; source = \"{source}\";")));
        assert!(
            found.len() == 1 && found[0].starts_with("3:45 Error ") && found[0].contains(message),
            "{found:?}"
        );
    }
    let found = findings(&group("source = \"0.0.0.0/0\"; source = \"7\"; target = \"a\";"));
    assert!(found[0].starts_with("3:19 Warning this is every IPv4 address"), "{found:?}");
    assert!(found[1].starts_with("3:41 Warning \"7\" is a vsock CID, but no vsock listener"), "{found:?}");
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn the_summary_has_what_restricts_a_group() {
    let line = |lines: &str| {
        let text = config(&format!("{DAEMON}groups {{ group = \"g\" {{ {lines} }} }}")).summary();
        text.lines().find(|line| line.starts_with("group: ")).unwrap().to_owned()
    };
    assert_eq!(
        line("uuid = \"a\"; ip = \"::1\"; allow = \"on list\"; listener = \"multicast\";"),
        "group: g, members: a; requests from: ::1; allows list, on only; through multicast only"
    );
    assert_eq!(
        line("source = \"::1\"; source = \"ctl\"; target = \"a\";"),
        "group: g, sources: ::1, ctl; targets: a"
    );
    assert_eq!(
        line("uuid = \"a\"; ip = \"::1\"; source = \"ctl\"; target = \"b\";"),
        "group: g, members: a; requests from: ::1; sources: ctl; targets: b"
    );
    assert_eq!(line("source = \"::1\"; uuid = \"a\";"), "group: g, members: a; sources: ::1");
    let all = "group: g, members: a; requests from: ::1";
    assert_eq!(line("uuid = \"a\"; ip = \"::1\"; allow = \"status list off reboot on\";"), all);
}
