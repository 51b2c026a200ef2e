//! Files written for older versions, and with the words that their dialogue teaches.

use fence_virt::config::ListenerConfig;

use super::{DAEMON, config, findings};

#[test]
fn an_interface_named_none_is_no_interface() {
    for value in ["none", "NONE", " none "] {
        let text = format!("{DAEMON}listeners {{ multicast {{ interface = \"{value}\"; }} }}");
        assert_eq!(findings(&text), [""; 0]);
        match &config(&text).listeners[0].config {
            ListenerConfig::Multicast(multicast) => assert_eq!(multicast.interface, None, "{value:?}"),
            other => panic!("{other:?}"),
        }
    }
}

/// Files of RHEL 6 and of other old versions: what is gone is named with what took its place.
#[test]
fn names_of_older_versions_are_known_and_said_to_be_gone() {
    for (section, name, remedy) in [
        (
            "backends { checkpoint { uri = \"qemu:///system\"; } }",
            "section \"checkpoint\"",
            "cpg took its place",
        ),
        ("backends { libvirt-qpid { host = \"h\"; } }", "section \"libvirt-qpid\"", "cpg took its place"),
        ("backends { null { message = \"x\"; } }", "section \"null\"", "remove the section"),
        ("backends { libvirt { use_uuid = \"1\"; } }", "key \"use_uuid\"", "remove the line"),
        ("listeners { multicast { name_mode = \"uuid\"; } }", "key \"name_mode\"", "remove the line"),
        ("listeners { tcp { INTERFACE = \"br0\"; } }", "key \"INTERFACE\"", "address selects the interface"),
        (
            "groups { group { ip = \"192.0.2.1\"; uuid = \"a\"; member = \"b\"; } }",
            "key \"member\"",
            "uuid now",
        ),
    ] {
        let found = findings(&format!("{DAEMON}{section}"));
        assert_eq!(found.len(), 1, "{found:?}");
        let is_warning = found[0].contains(" Unknown unknown ");
        assert!(is_warning && found[0].contains(name) && found[0].contains(remedy), "{found:?}");
        assert!(found[0].contains("older versions had it: "), "{found:?}");
    }
    for (backend, remedy) in [
        ("checkpoint", "older versions had it: write backend = \"cpg\""),
        ("libvirt-qpid", "older versions had it: write backend = \"cpg\""),
        ("NULL", "older versions had it: write backend = \"libvirt\""),
        ("libvrit", "did you mean \"libvirt\"?"),
    ] {
        let found =
            findings(&format!("fence_virtd {{ listener = \"multicast\"; backend = \"{backend}\"; }}\n"));
        assert!(found.len() == 1 && found[0].contains(" Error unknown backend "), "{found:?}");
        assert!(found[0].contains(remedy), "{found:?}");
    }
}
