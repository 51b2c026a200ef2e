//! Parsing of fence_virt.conf: values, defaults, and what each mistake is called.
#![allow(clippy::panic, clippy::unwrap_used)]

#[path = "config_parse/old_files.rs"]
mod old_files;
#[path = "config_parse/groups.rs"]
mod permission_groups;

use std::path::Path;

use fence_virt::config::*;
use fence_virt::fence::ListenerName;

const DAEMON: &str = "fence_virtd { listener = \"multicast\"; backend = \"libvirt\"; }\n";

/// `line:column severity message` of every finding.
fn findings(text: &str) -> Vec<String> {
    let outcome = parse(Path::new("f"), text.as_bytes());
    let has_error = outcome.diagnostics.iter().any(|found| found.severity == Severity::Error);
    assert_eq!(outcome.config.is_none(), has_error, "{text}");
    let shown = |d: &Diagnostic| format!("{}:{} {:?} {}", d.line, d.column, d.severity, d.message);
    outcome.diagnostics.iter().map(shown).collect()
}

fn config(text: &str) -> Config {
    let outcome = parse(Path::new("f"), text.as_bytes());
    outcome.config.unwrap_or_else(|| panic!("{}", outcome.diagnostics.render(false)))
}

/// Returns the only finding of a listener's section.
fn only(listener: &str, section: &str) -> String {
    let daemon = format!("fence_virtd {{ listener = \"{listener}\"; backend = \"libvirt\"; }}\n");
    let mut found = findings(&format!("{daemon}listeners {{ {listener} {{ {section} }} }}"));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn defaults() {
    let config = config("fence_virtd { listener = \"tcp, multicast vsock,serial\"; backend = \"LIBVIRT\"; }");
    let auth = AuthConfig {
        key_file: "/etc/cluster/fence_xvm.key".into(),
        old_key_file: None,
        hash: fence_virt::auth::HashKind::Sha256.into(),
        auth: fence_virt::auth::HashKind::Sha256,
        is_shared: true,
    };
    let tcp = TcpConfig { auth: auth.clone(), address: [127, 0, 0, 1].into(), port: 1229 };
    let multicast =
        MulticastConfig { auth: auth.clone(), address: [225, 0, 0, 12].into(), port: 1229, interface: None };
    let plain =
        |config: ListenerConfig| NamedListener { name: ListenerName::new(config.kind(), None), config };
    let expected = Config {
        status_socket: "/run/fence_virtd/status.sock".into(),
        history_file: None,
        foreground: false,
        wait_for_init: false,
        max_parallel: DEFAULT_PARALLEL,
        debug: 0,
        keys: VmKeysConfig::default(),
        listeners: vec![
            plain(ListenerConfig::Tcp(tcp)),
            plain(ListenerConfig::Multicast(multicast)),
            plain(ListenerConfig::Vsock(VsockConfig { auth, port: 1229 })),
            plain(ListenerConfig::Serial(SerialConfig { uri: None, path: None, mode: SerialMode::Serial })),
        ],
        backend: BackendConfig::Libvirt { uris: vec!["qemu:///system".to_string()] },
        groups: Vec::new(),
    };
    assert_eq!(config, expected);
}

#[test]
fn every_key_has_its_effect() {
    let text =
        "FENCE_VIRTD { listener = \"tcp,vsock,serial\"; backend = \"cpg\"; foreground = \"1\"; debug = \"3\"; status_socket = \"/q\"; history_file = \"/h\";
          wait_for_backend = \"yes\"; max_parallel = \"7\"; module_path = \"/x\"; name_mode = \"name\"; }
        listeners {
          TCP { KEY_FILE = \"/a\"; hash = \"sha512\"; family = \"ipv6\"; port = \"5\"; }
          vsock { port = \"70000\"; auth = \"sha256\"; }
          serial { uri = \"xen:///\"; path = \"/s\"; mode = \"vmchannel\"; }
        }
        backends { cpg { uri = \"a\"; uri1 = \"b\"; name_mode = \"uuid\"; } libvirt { uri = \"c\"; } }";
    assert_eq!(findings(text), [""; 0]);
    let config = config(text);
    assert_eq!(config.max_parallel, 7);
    assert!(config.foreground && config.wait_for_init && config.debug == 3);
    assert_eq!(config.status_socket, Path::new("/q"));
    assert_eq!(config.history_file.as_deref(), Some(Path::new("/h")));
    let lines: Vec<String> = config.listeners.iter().map(ToString::to_string).collect();
    let expected = [
        "tcp ::1 port 5, hash sha512, auth sha256, key /a",
        "vsock port 70000, hash sha256, auth sha256, key /etc/cluster/fence_xvm.key",
        "serial mode vmchannel at xen:///, sockets in /s",
    ];
    assert_eq!(lines, expected);
    let uris = vec!["a".to_string(), "b".to_string()];
    assert_eq!(config.backend, cpg(uris, Some(NameMode::Uuid)));
}

#[test]
fn the_family_follows_from_the_address() {
    let text = format!("{DAEMON}listeners {{ multicast {{ address = \"ff02::7\"; }} }}");
    assert!(config(&text).listeners[0].to_string().starts_with("multicast ff02::7 port 1229,"));
    let text = format!("{DAEMON}listeners {{ multicast {{ family = \"ipv6\"; }} }}");
    assert!(config(&text).listeners[0].to_string().starts_with("multicast ff05::3:1 port 1229,"));
}

#[test]
fn cpg_takes_the_uris_of_libvirt_and_the_old_name_mode() {
    let daemon = "fence_virtd { listener = \"tcp\"; backend = \"cpg\"; name_mode = \"uuid\"; }";
    let backends = "backends { libvirt { uri = \"a\"; uri1 = \"a\"; uri2 = \"b\"; } }";
    let uris = vec!["a".to_string(), "b".to_string()];
    let expected = cpg(uris, Some(NameMode::Uuid));
    assert_eq!(config(&format!("{daemon}{backends}")).backend, expected);
    let found = findings(&format!("{daemon}\n{backends}"));
    assert_eq!(found, ["2:41 Warning duplicate \"a\"; it is used once"]);
}

#[test]
fn paths_of_keys_are_absolute() {
    for listener in ["multicast", "tcp", "vsock"] {
        for key in ["key_file", "old_key_file"] {
            let found = only(listener, &format!("{key} = \"fence_xvm.key\";"));
            assert!(found.contains(" Error expected an absolute file path"), "{found}");
        }
    }
}

#[test]
fn missing_keys_and_sections_are_reported() {
    for text in ["", "# nothing\n", "\n\n"] {
        assert!(findings(text)[0].starts_with("1:1 Error missing section fence_virtd; add fence_virtd {"));
    }
    let found = findings("\nfence_virtd { }");
    let expected = [
        "2:1 Error missing key listener; add listener = \"multicast\"; to this section",
        "2:1 Error missing key backend; add backend = \"libvirt\"; to this section",
    ];
    assert_eq!(found, expected);
    // A key hidden by a syntax error is not missing.
    assert_eq!(findings("fence_virtd { listener = tcp; backend = \"cpg\"; }").len(), 1);
}

#[test]
fn listeners_and_backends_are_known_by_name() {
    let found = findings("fence_virtd { listener = \"tcp ucp,TCP\"; backend = \"xen\"; }");
    let expected = [
        "1:31 Error unknown listener \"ucp\"; expected one of: multicast, tcp, vsock, serial",
        "1:35 Error duplicate listener tcp",
        "1:52 Error unknown backend \"xen\"; expected one of: libvirt, cpg, agent",
    ];
    assert_eq!(found, expected);
    assert_eq!(findings("fence_virtd { listener = \" , \"; backend = \"cpg\"; }").len(), 1);
}

#[test]
fn errors_in_unused_sections_are_fatal_only_in_strict_mode() {
    let unused =
        "listeners { tcp { port = \"0\"; auth = \"none\"; } }\nbackends { cpg { name_mode = \"x\"; } }";
    let found = findings(&format!("{DAEMON}{unused}"));
    assert!(found.len() == 2 && found.iter().all(|line| line.contains(" Unknown ")), "{found:?}");
    let found = findings(&format!("{DAEMON}listeners {{ multicast {{ port = \"0\"; }} }}"));
    assert!(found[0].contains(" Error "));
}

#[test]
fn unknown_keys_are_left_to_the_caller() {
    let text = format!("{DAEMON}listeners {{ multicast {{ prot = \"1\"; }} }}");
    let ParseOutcome { config, diagnostics } = parse(Path::new("f"), text.as_bytes());
    assert!(config.is_some() && !diagnostics.is_fatal(false) && diagnostics.is_fatal(true));
    let expected = "f:2:25: warning: unknown key \"prot\" in listeners/multicast; did you mean \"port\"?\n    \
        listeners { multicast { prot = \"1\"; } }\n                            ^\n";
    assert_eq!(diagnostics.render(false), expected);
}

#[test]
fn an_auth_that_version_4_misread() {
    let found = only("tcp", "auth = \"sha512\";");
    assert!(found.contains("used this auth as the hash and always challenged with sha256"), "{found}");
    assert!(found.contains("write hash = \"sha512\"; auth = \"sha256\"; (see docs/UPGRADING.md)"), "{found}");
    assert!(found.starts_with("2:27 Warning"), "{found}");
    let found = only("vsock", "hash = \"sha512\"; auth = \"sha1\";");
    assert!(found.contains("instead of the hash on line 2, and"), "{found}");
    assert!(found.contains("write hash = \"sha1\"; auth = \"sha256\";"), "{found}");
    assert_eq!(findings(&format!("{DAEMON}listeners {{ multicast {{ auth = \"sha512\"; }} }}")), [""; 0]);
}

#[test]
fn missing_authentication() {
    assert!(only("multicast", "auth = \"none\";").contains("can replay it"));
    assert!(only("multicast", "hash = \"none\";").contains("modified in transit"));
    assert!(only("tcp", "hash = \"none\";").contains("modified in transit"));
    assert!(only("multicast", "hash = \"none\"; auth = \"none\";").contains("can fence"));
}

#[test]
fn files_that_are_not_text() {
    let outcome = parse(Path::new("f"), b"# \xc3\xa9\nab\xff\n");
    let rendered = outcome.diagnostics.render(false);
    assert!(rendered.starts_with("f:2:3: error: invalid UTF-8"), "{rendered}");
    assert!(rendered.ends_with("    ab\u{fffd}\n      ^\n"), "{rendered}");
    let outcome = parse(Path::new("f"), &vec![b'#'; FILE_MAX + 1]);
    assert!(outcome.config.is_none() && outcome.diagnostics.is_fatal(false));
    assert_eq!(findings(&" ".repeat(FILE_MAX)).len(), 1);
}

#[test]
fn the_largest_files_are_read_in_linear_time() {
    for line in [
        "uuid = \"a\";",
        "a=\"\n",
        "};",
        "{",
        "a { ",
        "uri = \"b\"; ",
        "\"\n#",
        "a = \"b\" ",
        "group { } ",
        "\0",
    ] {
        for before in ["", "groups { group { ", "backends { libvirt { "] {
            let text = before.to_string() + &line.repeat(FILE_MAX / 16 / line.len());
            let outcome = parse(Path::new("f"), text.as_bytes());
            assert!(outcome.diagnostics.render(true).len() < 50 * 1000);
        }
    }
}

fn cpg(uris: Vec<String>, name_mode: Option<NameMode>) -> BackendConfig {
    let (host_fencing, unknown_vm) = (HostFencing::Auto, UnknownVm::Fail);
    BackendConfig::Cpg(CpgConfig { uris, name_mode, host_fence_delay: None, host_fencing, unknown_vm })
}

#[test]
fn cpg_policies() {
    let text =
        "backends { cpg { host_fencing = \"None\"; host_fence_delay = \"0\"; unknown_vm = \"OFF\"; } }";
    let daemon = "fence_virtd { listener = \"serial\"; backend = \"cpg\"; }";
    let outcome = parse(Path::new("x"), format!("{daemon}\n{text}").as_bytes());
    let summary = outcome.config.as_ref().map(|config| config.backend.to_string()).unwrap();
    assert!(summary.contains(", a lost host counts as off after 0 s, unknown VMs"), "{summary}");
    let Some(BackendConfig::Cpg(config)) = outcome.config.map(|config| config.backend) else {
        panic!("it is cpg")
    };
    assert_eq!(config.host_fencing, HostFencing::None);
    assert_eq!((config.host_fence_delay, config.unknown_vm), (Some(0), UnknownVm::Off));
    for (host_fencing, host_fence_delay, words) in [
        (HostFencing::Auto, None, "off once pacemaker has fenced it"),
        (HostFencing::Auto, Some(9), "off once pacemaker has fenced it, or after 9 s"),
        (HostFencing::None, None, "VMs of a lost host may still run"),
    ] {
        let config = CpgConfig { host_fencing, host_fence_delay, ..config.clone() };
        let summary = BackendConfig::Cpg(config).to_string();
        assert!(summary.ends_with(&format!("{words}, unknown VMs count as off")), "{summary}");
    }
    for wrong in [
        "host_fence_delay = \"soon\"",
        "host_fence_delay = \"-1\"",
        "host_fencing = \"pacemaker\"",
        "unknown_vm = \"on\"",
    ] {
        let text = format!("{daemon}\nbackends {{ cpg {{ {wrong}; }} }}");
        assert!(parse(Path::new("x"), text.as_bytes()).diagnostics.is_fatal(false), "{wrong}");
    }
}

#[test]
fn sections_with_labels_are_listeners_of_their_own() {
    let text = "fence_virtd { listener = \"multicast, tcp:b tcp\"; backend = \"libvirt\"; }
        listeners {
          tcp { port = \"1\"; old_key_file = \"/o\"; }
          tcp = \"b\" { port = \"2\"; key_file = \"/b\"; }
          tcp = \"c\" { port = \"3\"; }
        }
        groups {
          group { name = \"b\"; uuid = \"x\"; ip = \"192.0.2.1\"; listener = \"TCP:b\"; }
          group { name = \"all\"; uuid = \"y\"; ip = \"192.0.2.1\"; }
        }";
    assert_eq!(findings(text), [""; 0]);
    let config = config(text);
    let lines: Vec<String> = config.listeners.iter().map(ToString::to_string).collect();
    let expected = [
        "tcp:b 127.0.0.1 port 2, hash sha256, auth sha256, key /b",
        "tcp 127.0.0.1 port 1, hash sha256, auth sha256, key /etc/cluster/fence_xvm.key, old key /o",
    ];
    assert_eq!(lines[1..], expected);
    assert_eq!(config.groups[0].listeners, [ListenerName::new("tcp", Some("b"))]);
    let group = "group: b, members: x; requests from: 192.0.2.1; through tcp:b only\n";
    assert!(config.summary().contains(group));
}

#[test]
fn a_labelled_section_serves_its_kind_if_no_label_is_selected() {
    let tcp = "fence_virtd { listener = \"tcp\"; backend = \"libvirt\"; }\n";
    let text = format!("{tcp}listeners {{ tcp = \"x\" {{ port = \"7\"; }} }}");
    assert!(config(&text).listeners[0].to_string().starts_with("tcp 127.0.0.1 port 7,"));
    assert_eq!(findings(&text), [""; 0]);
    let two = [
        "tcp = \"x\" { port = \"7\"; } tcp = \"y\" { port = \"8\"; }",
        "tcp { port = \"7\"; } tcp = \"y\" { port = \"8\"; }",
    ];
    for sections in two {
        let found = findings(&format!("{tcp}listeners {{ {sections} }}"));
        assert!(found.len() == 1 && found[0].contains("Error ambiguous section"), "{found:?}");
    }
}

#[test]
fn two_serial_listeners_cannot_share_lines() {
    let text = |more: &str| {
        format!(
            "fence_virtd {{ listener = \"serial, serial:b\"; backend = \"libvirt\"; }}
             backends {{ libvirt {{ uri = \"xen:///\"; }} }}
             listeners {{ serial {{ path = \"/x\"; }} serial = \"b\" {{ {more} }} }}"
        )
    };
    for (more, collides) in [
        ("path = \"/x\";", true),
        ("path = \"/x\"; uri = \"xen:///\";", true),
        ("path = \"/x\"; uri = \"qemu:///system\";", false),
        ("path = \"/y\";", false),
        ("path = \"/x\"; mode = \"vmchannel\";", false),
    ] {
        let found = findings(&text(more));
        let is_conflict = found.iter().any(|found| found.contains("serial and serial:b conflict"));
        assert_eq!(is_conflict, collides, "{more}: {found:?}");
    }
}

#[test]
fn errors_in_labels_are_reported() {
    let all = |listener: &str, rest: &str| {
        findings(&format!("fence_virtd {{ listener = \"{listener}\"; backend = \"libvirt\"; }}\n{rest}"))
    };
    let only = |listener: &str, rest: &str, words: &str| {
        let found = all(listener, rest);
        assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
    };
    only("tcp:b", "", "1:27 Error listeners has no section tcp = \"b\" { ... }");
    only("tcp:", "", "invalid label \"\"");
    only("tcp:a/b", "", "invalid label \"a/b\"");
    only("udp:b", "", "unknown listener \"udp:b\"");
    let twice = "listeners { tcp = \"b\" { port = \"5\"; } tcp = \"b\" { port = \"6\"; } }";
    only("tcp:b", twice, "\"tcp\" is already on line 2; only the last one is used");
    let b = "listeners { tcp = \"b\" { address = \"127.0.0.1\"; } }";
    only("tcp tcp:b", b, "listeners tcp and tcp:b conflict");
    let groups = "groups { group { uuid = \"x\"; ip = \"1.2.3.4\"; listener = \"vsock\"; } }";
    let found = all("tcp", groups);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("no group applies to listener tcp: all its requests are denied"), "{found:?}");
    assert!(found[1].contains("listener vsock is not enabled: no request comes from it"), "{found:?}");
}

#[test]
fn the_status_socket_is_found_despite_other_errors() {
    let default = Path::new("/run/fence_virtd/status.sock");
    let daemon = "listener = \"tcp\"; backend = \"libvirt\";";
    for text in [
        format!("fence_virtd {{ {daemon} }}"),
        format!("FENCE_VIRTD {{ {daemon} Status_Socket = \"/q\"; }}"),
        format!("fence_virtd {{ {daemon} }} status_socket = \"/unknown/here\";"),
        format!("fence_virtd {{ status_socket = \"/p\"; {daemon} status_socket = \"/q\"; }}"),
    ] {
        let config = parse(Path::new("f"), text.as_bytes()).config.unwrap();
        assert_eq!(status_socket(text.as_bytes()), config.status_socket, "{text}");
    }
    for text in [
        "fence_virtd { listener = \"ucp\"; status_socket = \"/q\"; }",
        "fence_virtd { listener = ; status_socket = \"/q\" }",
        "fence_virtd { listener = \"tcp;\n status_socket = \"/q\";\n",
        "listeners { tcp { \nfence_virtd { status_socket = \"/q\"; }",
        "fence_virtd { } } status_socket = \"/q\"; }",
    ] {
        assert!(parse(Path::new("f"), text.as_bytes()).config.is_none(), "{text}");
        assert_eq!(status_socket(text.as_bytes()), Path::new("/q"), "{text}");
    }
    assert_eq!(status_socket(b"# \xff\nfence_virtd { status_socket = \"/q\"; }"), Path::new("/q"));
    for text in ["", "fence_virtd { status_socket = \"q\"; }", "fence_virtd { status_socket = /q; }"] {
        assert_eq!(status_socket(text.as_bytes()), default, "{text}");
    }
}
