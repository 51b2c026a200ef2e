use std::path::Path;

use super::*;
use fence_virt::config::{Severity, ValueKind};

/// Returns the new text or the error, and the output. Missing answers are Enter.
fn interviewed(text: &str, answers: &str, is_terminal: bool) -> (Result<String, String>, String) {
    let mut out = Vec::new();
    let input = format!("{answers}{}", "\n".repeat(100));
    let mut interview = Interview::new(Editable::new(text.as_bytes()).unwrap());
    let asked = interview.ask(&mut Dialog { input: &mut input.as_bytes(), output: &mut out, is_terminal });
    (asked.map(|()| interview.into_text()), String::from_utf8(out).unwrap())
}

fn answered(text: &str, answers: &str) -> String {
    let (result, out) = interviewed(text, answers, false);
    result.unwrap_or_else(|refusal| panic!("{refusal}\n{out}"))
}

fn refused(text: &str, answers: &str) -> String {
    interviewed(text, answers, false).0.unwrap_err()
}

const ALL: &str = "fence_virtd { listener = \"multicast, tcp, vsock, serial\"; backend = \"cpg\"; }
listeners {
multicast { old_key_file = \"/m\"; } tcp { old_key_file = \"/t\"; port = \"1\"; }
vsock { old_key_file = \"/v\"; } serial { key_file = \"/s\"; } }
";

/// New keys of the table are asked for, with a help text.
#[test]
fn every_key_of_the_table_is_asked_for() {
    let (_, out) = interviewed(ALL, "", false);
    let section = |title: &str| {
        let after = out.split_once(&format!("\n{title}\n")).unwrap_or_else(|| panic!("{title}: {out}")).1;
        after.split("\n\n").next().unwrap().to_string()
    };
    for spec in KEYS.iter().filter(|spec| spec.kind != ValueKind::Ignored) {
        let title = match spec.section.split_once('/') {
            Some(("listeners", name)) => format!("Listener {name}"),
            Some(("backends", "agent")) => continue,
            Some(("backends", name)) => format!("Backend {name}"),
            // The daemon's own settings and the groups are left to an editor, and the text says so.
            _ => continue,
        };
        let asked = section(&title);
        let prompt = asked.lines().find(|line| line.trim().starts_with(&format!("{} ", spec.name)));
        let prompt = prompt.unwrap_or_else(|| panic!("{} of {} is not asked for: {asked}", spec.name, title));
        assert!(prompt.contains('[') && !prompt.contains("[default: ]"), "{prompt}");
        assert!(questions::help(spec).is_some(), "no words for {} of {title}", spec.name);
        let has_default = questions::absent(spec).is_some() || !prompt.contains("[default: none]");
        assert!(has_default, "{prompt}: questions.rs knows no default of {} of {title}", spec.name);
    }
    assert!(!section("Listener serial").contains("key_file"));
}

#[test]
fn fence_agents_are_left_to_an_editor() {
    let text = "fence_virtd { listener = \"tcp\"; backend = \"libvirt, agent:pve\"; }\n";
    assert_eq!(answered(text, ""), text);
    let (_, out) = interviewed("", "\n\n\n\n\n\n\n\n\n\nagent\n", false);
    assert!(out.contains("libvirt, cpg)"), "{out}");
}

#[test]
fn enter_changes_nothing_but_what_must_be_there() {
    assert_eq!(answered(ALL, ""), ALL);
    let fresh = "fence_virtd {\n\tlistener = \"multicast\";\n\tbackend = \"libvirt\";\n}\n";
    assert_eq!(answered("", ""), fresh);
    let (_, out) = interviewed("", "", false);
    assert!(!out.contains("old_key_file") && !out.contains("Backend cpg"), "{out}");
}

#[test]
fn answers_are_checked_as_they_are_given() {
    for (answers, reason) in [
        ("udp\n", "unknown listener \"udp\""),
        ("multicast multicast\n", "duplicate listener multicast"),
        ("\n\n\nmd5\n", "invalid hash algorithm"),
        ("\n\n\n\n\ninet\n", "invalid family"),
        ("\n\n\n\n\nipv6\n225.0.0.12\n", "is not of family ipv6"),
        ("\n\n\n\n\n\n10.0.0.1\n", "is not a multicast address"),
        ("\n\n\n\n\n\n\n0\n", "invalid port \"0\"; expected 1 to 65535"),
        ("\n\n\n\n\n\n\n\na/b\n", "invalid interface name"),
        ("\n\n/a\"b\n", "a double quote"),
        ("vsock\n\n\n\n\n4294967295\n", "invalid vsock port"),
        ("serial\n\nhere\n", "an absolute directory path"),
        ("\n\n\n\n\n\n\n\n\nkvm\n", "unknown backend \"kvm\""),
        (
            "serial\n\n\n\ncpg\n\n\npacemaker\n",
            "invalid host_fencing \"pacemaker\"; expected one of: auto, none",
        ),
        ("serial\n\n\n\ncpg\n\n\n\nsoon\n", "invalid number \"soon\"; expected 0 to"),
    ] {
        let refusal = refused("", answers);
        assert!(
            refusal.contains(reason) && refusal.contains("nothing was written"),
            "{answers:?}: {refusal}"
        );
    }
}

#[test]
fn where_no_c_agents_come_version_2_is_proposed() {
    let expected = "listeners {\n\tmulticast {\n\t\thash = \"hmac-sha256\";\n\t}\n\ttcp {\n\t\thash = \"sha512\";\n\t}\n}\n";
    let (result, out) = interviewed("", "multicast, tcp\nno\n\n\n\n\n\n\n\nsha512\n\n", false);
    assert!(result.as_ref().unwrap().contains(expected), "{result:?}\n{out}");
    assert!(out.contains("[hmac-sha256]"), "{out}");
    assert_eq!(out.matches("  auth ").count(), 1, "version 2 has no choice of challenges: {out}");
    assert!(refused("", "\nperhaps\n").contains("is neither yes nor no"));
    // A hash in the file stays, and serial lines have none.
    let text =
        "fence_virtd { listener = \"tcp\"; backend = \"libvirt\"; } listeners { tcp { hash = \"sha1\"; } }";
    assert!(!interviewed(text, "", false).1.contains("agents of the C suite"));
    assert!(!interviewed("", "serial\n", false).1.contains("agents of the C suite"));
}

#[test]
fn a_terminal_is_asked_until_the_answer_is_right() {
    let answers = "udp\ntcp\n\n\nmd5\nsha1\n\n\n\n70000\n7000\n";
    let (result, out) = interviewed("", answers, true);
    let expected = "listeners {\n\ttcp {\n\t\thash = \"sha1\";\n\t\tport = \"7000\";\n\t}\n}\n";
    assert!(result.as_ref().unwrap().contains(expected), "{result:?}");
    assert_eq!(out.matches("  hash ").count(), 2, "{out}");
    assert!(out.contains("  invalid port \"70000\"; expected 1 to 65535\n"), "{out}");
}

#[test]
fn listeners_with_labels_need_a_place_of_their_own() {
    let (result, out) = interviewed("", "tcp, tcp:b\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n1230\n", true);
    assert!(out.contains("listeners tcp and tcp:b conflict"), "{out}");
    assert_eq!(out.matches("\nListener tcp:b\n").count(), 2, "{out}");
    let text = result.unwrap();
    assert!(text.contains("listeners {\n\ttcp = \"b\" {\n\t\tport = \"1230\";\n\t}\n}\n"), "{text}");
    assert!(refused("", "tcp, tcp:b\n").contains("\"Listener tcp:b\" is wrong"));
}

#[test]
fn invalid_values_in_the_file_cannot_be_kept() {
    let text =
        "fence_virtd { listener = \"tcp, udp\"; backend = \"libvirt\"; } listeners { tcp { port = \"0\"; } }";
    let (result, out) = interviewed(text, "tcp\n", false);
    assert!(out.contains("listeners in the file is invalid: unknown listener \"udp\""), "{out}");
    assert!(out.contains("port in the file is invalid: invalid port"), "{out}");
    let expected = "fence_virtd { listener = \"tcp\"; backend = \"libvirt\"; } listeners { tcp { } }";
    assert_eq!(result.unwrap(), expected);
    // An address of the other family goes as well.
    let text = "fence_virtd { listener = \"multicast\"; backend = \"libvirt\"; }
listeners { multicast { address = \"225.0.0.12\"; } }";
    let (result, out) = interviewed(text, "\n\n\n\n\nipv6\n\n", false);
    assert!(out.contains("address [default: ff05::3:1]"), "{out}");
    assert!(result.unwrap().contains("{ multicast { family = \"ipv6\"; } }"));
}

#[test]
fn uris_are_added_changed_and_removed() {
    let text = "fence_virtd { listener = \"serial\"; backend = \"libvirt\"; }
backends { libvirt { uri = \"a\"; uri3 = \"b\"; } }";
    let uris = |answers: &str| {
        let text = answered(text, &format!("\n\n\n\n\n{answers}"));
        text.split_once("libvirt { ").unwrap().1.to_string()
    };
    assert_eq!(uris("\n\n"), "uri = \"a\"; uri3 = \"b\"; } }");
    assert_eq!(uris("x\n\nc\nd\n"), "uri = \"x\"; uri3 = \"b\"; uri4 = \"c\"; uri5 = \"d\"; } }");
    assert_eq!(uris("\n-\n"), "uri = \"a\"; } }");
    // The backend cpg uses those of libvirt if it has none.
    let (_, out) = interviewed(text, "\n\n\n\ncpg\n", false);
    assert!(out.contains("Backend cpg") && out.contains("Backend libvirt"), "{out}");
    let (_, out) = interviewed(text, "\n\n\n\ncpg\nqemu:///system\n", false);
    assert!(!out.contains("Backend libvirt"), "{out}");
}

#[test]
fn words_for_defaults() {
    let text = "fence_virtd { listener = \"multicast\"; backend = \"cpg\"; name_mode = \"uuid\"; }
listeners { multicast { interface = \"virbr0\"; hash = \"sha1\"; } }
backends { cpg { host_fence_delay = \"60\"; } }";
    let (result, out) = interviewed(text, "\n\n-\nnone\n\n\n\nnone\n\n\n\n\n-\n", false);
    let after = result.unwrap();
    assert!(after.contains("multicast { auth = \"none\"; }"), "{after}");
    assert!(after.contains("cpg { }"), "{after}");
    // The old place of name_mode still counts.
    assert!(out.contains("name_mode (name, uuid) [default: uuid]"), "{out}");
    for wrong in ["", "x"] {
        let (result, out) = interviewed(&text.replace("uuid", wrong), "", false);
        assert!(result.is_ok() && out.contains("[default: by name and uuid]"), "{out}");
    }
    let (_, out) = interviewed(text, "?\n\n?\n", false);
    assert!(out.contains(LISTENER_HELP) && out.contains("key that hosts and guests share"), "{out}");
}

/// Random numbers, the same in every run (xorshift64).
struct Random(u64);

impl Random {
    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        of[(self.0 % of.len() as u64) as usize]
    }
}

/// Complete answers always give a usable file.
#[test]
fn random_answers_make_no_bad_file() {
    const FILES: [&str; 4] = [
        "",
        ALL,
        "fence_virtd { listener = \"tcp\"; backend = \"libvirt\"; } listeners { tcp = \"b\" { port = \"x\"; } }",
        "listeners { multicast { address = \"1.1.1.1\"; } } backends { cpg { name_mode = \"x\"; uri1 = \"\"; } }",
    ];
    const ANSWERS: &str = "||||-|?|none|tcp|tcp, tcp:b|vsock serial|multicast|cpg|libvirt|ipv6|::1|ff05::1|\
        1230|sha1|/x|a\"b";
    let possible: Vec<&str> = ANSWERS.split('|').collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut finished = 0;
    for round in 0..200 {
        let answers: String = (0..150).map(|_| format!("{}\n", random.one(&possible))).collect();
        let (result, out) = interviewed(FILES[round % FILES.len()], &answers, true);
        let Ok(text) = result else { continue };
        finished += 1;
        let outcome = config::parse(Path::new("f"), text.as_bytes());
        let errors = outcome.diagnostics.iter().filter(|found| found.severity == Severity::Error);
        assert_eq!(errors.count(), 0, "{}\n{text}\n{out}", outcome.diagnostics.render(false));
    }
    assert!(finished > 80, "{finished}");
}
