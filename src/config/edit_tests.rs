use std::path::Path;

use super::super::parse;
use super::*;

const DAEMON: Part = Part::Plain("fence_virtd");
const LIBVIRT: Part = Part::Plain("backends/libvirt");

fn listener(kind: &'static str, label: Option<&str>) -> Part {
    Part::Listener(ListenerName::new(kind, label))
}

fn editable(text: &str) -> Editable {
    Editable::new(text.as_bytes()).unwrap_or_else(|| panic!("{text}"))
}

fn set(text: &str, part: &Part, key: &str, value: &str) -> String {
    let mut edited = editable(text);
    edited.set(part, key, value).unwrap();
    assert_eq!(edited.value(part, key), Some(value), "{}", edited.text());
    assert!(Editable::new(edited.text().as_bytes()).is_some(), "{}", edited.text());
    edited.text
}

fn unset(text: &str, part: &Part, key: &str) -> String {
    let mut edited = editable(text);
    edited.unset(part, key);
    assert_eq!(edited.value(part, key), None, "{}", edited.text());
    edited.text
}

#[test]
fn a_value_is_changed_where_it_counts() {
    let text = "listeners { tcp { port = \"1\"; PORT\n=\"2\" ; } # port = \"3\";\n}";
    let tcp = listener("tcp", None);
    assert_eq!(set(text, &tcp, "port", "99"), text.replace("\"2\"", "\"99\""));
    // Of repeated sections the last one counts.
    let text = "LISTENERS { tcp { port = \"1\"; } Tcp { port = \"2\"; } }";
    assert_eq!(set(text, &tcp, "port", "9"), text.replace('2', "9"));
    let text = "backends { libvirt { uri = \"a\"; uri2 = \"b\"; } }";
    assert_eq!(set(text, &LIBVIRT, "uri2", "c"), text.replace("\"b\"", "\"c\""));
    assert_eq!(editable(text).numbers(&LIBVIRT, "uri"), [0, 2]);
    assert_eq!(editable(text).value(&LIBVIRT, "uri1"), None);
}

#[test]
fn a_new_key_is_indented_like_its_neighbours() {
    let tcp = listener("tcp", None);
    for (text, after) in [
        ("listeners { tcp {} }", "listeners { tcp { port = \"5\"; } }"),
        ("listeners { tcp { } }", "listeners { tcp { port = \"5\"; } }"),
        ("listeners { tcp { hash = \"x\"; } }", "listeners { tcp { hash = \"x\"; port = \"5\"; } }"),
        ("listeners {\n  tcp { # a {\n  }\n}", "listeners {\n  tcp { # a {\n  \tport = \"5\";\n  }\n}"),
        (
            "listeners {\r\n  tcp {\r\n    hash = \"x\"; # y\r\n  }\r\n}",
            "listeners {\r\n  tcp {\r\n    hash = \"x\"; # y\r\n    port = \"5\";\r\n  }\r\n}",
        ),
        (
            "listeners { tcp {\n hash = \"x\"; auth = \"y\"; }\n}",
            "listeners { tcp {\n hash = \"x\"; auth = \"y\"; port = \"5\"; }\n}",
        ),
        (
            "listeners { tcp {\n #port = \"1\";\n\n #hash = \"port\";\n x = \"\n #port = 2;\n\"; }\n}",
            "listeners { tcp {\n #port = \"1\";\n port = \"5\";\n\n #hash = \"port\";\n x = \"\n #port = 2;\n\"; }\n}",
        ),
    ] {
        assert_eq!(set(text, &tcp, "port", "5"), after);
    }
}

/// The shipped example documents each key above its commented-out default.
#[test]
fn a_new_key_goes_below_its_comment() {
    let example = include_str!("../../fence_virt.conf.example");
    for (part, key, comment) in [
        (listener("multicast", None), "port", "#port = \"1229\";"),
        (listener("tcp", None), "address", "#address = \"127.0.0.1\";"),
        (Part::Plain("backends/cpg"), "unknown_vm", "#unknown_vm = \"fail\";"),
        (LIBVIRT, "uri1", "#uri1 = \"qemu:///session?socket=/run/user/1000/libvirt/virtqemud-sock\";"),
    ] {
        let line = format!("\n\t\t{key} = \"x\";\n");
        let after = set(example, &part, key, "x");
        let (before, rest) = after.split_once(&line).unwrap_or_else(|| panic!("{after}"));
        assert!(before.ends_with(comment), "{before}");
        assert_eq!(format!("{before}\n{rest}"), example);
    }
}

#[test]
fn a_new_section_is_made_where_it_belongs() {
    let tcp = listener("tcp", Some("b"));
    for (text, after) in [
        ("", "listeners {\n\ttcp = \"b\" {\n\t\tport = \"5\";\n\t}\n}\n"),
        ("# x", "# x\n\nlisteners {\n\ttcp = \"b\" {\n\t\tport = \"5\";\n\t}\n}\n"),
        ("listeners {\n}\n", "listeners {\n\ttcp = \"b\" {\n\t\tport = \"5\";\n\t}\n}\n"),
        ("listeners {}", "listeners { tcp = \"b\" { port = \"5\"; } }"),
        ("listeners { tcp { } }", "listeners { tcp { } tcp = \"b\" { port = \"5\"; } }"),
        (
            "listeners {\r\n  tcp {\r\n  } # c\r\n# d\r\n}\r\n",
            "listeners {\r\n  tcp {\r\n  } # c\r\n# d\r\n\ttcp = \"b\" {\r\n\t\tport = \"5\";\r\n\t}\r\n}\r\n",
        ),
    ] {
        assert_eq!(set(text, &tcp, "port", "5"), after);
    }
    assert_eq!(set("\u{feff}", &DAEMON, "debug", "1"), "\u{feff}\n\nfence_virtd {\n\tdebug = \"1\";\n}\n");
}

#[test]
fn the_section_of_a_listener_is_found_as_by_the_parser() {
    // A label that is not selected is ignored, as in fence_virtd 4.x.
    let text = "fence_virtd { listener = \"tcp\"; } listeners { tcp = \"x\" { port = \"7\"; } }";
    let (plain, labelled) = (listener("tcp", None), listener("tcp", Some("x")));
    assert_eq!(editable(text).value(&plain, "port"), Some("7"));
    let both = text.replace("\"tcp\"", "\"tcp, tcp:x\"");
    assert_eq!(editable(&both).value(&plain, "port"), None);
    assert_eq!(editable(&both).value(&labelled, "port"), Some("7"));
    assert!(set(&both, &plain, "port", "8").contains("tcp { port = \"8\"; }"));
}

#[test]
fn removing_a_key_removes_its_line() {
    let tcp = listener("tcp", None);
    for (text, after) in [
        ("listeners { tcp {\n\tport = \"1\";\n\thash = \"x\"; } }", "listeners { tcp {\n\thash = \"x\"; } }"),
        ("listeners { tcp {\r\n\tport = \"1\"; \r\n} }", "listeners { tcp {\r\n} }"),
        ("listeners { tcp {\n port = \"1\"; # why\n} }", "listeners { tcp {\n # why\n} }"),
        ("listeners { tcp { port = \"1\"; } }", "listeners { tcp { } }"),
        ("listeners { tcp { port = \"1\"; port = \"2\"; } }", "listeners { tcp { } }"),
        ("listeners { tcp { } } # port", "listeners { tcp { } } # port"),
    ] {
        assert_eq!(unset(text, &tcp, "port"), after);
    }
}

#[test]
fn invalid_values_are_refused() {
    let mut empty = Editable::default();
    for wrong in ["", "a\"b", "\0"] {
        assert!(empty.set(&DAEMON, "debug", wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(empty.text(), "");
    assert!(Editable::new(b"a { b = 1; }").is_none() && Editable::new(b"\xff").is_none());
    assert!(Editable::new(&vec![b'\n'; FILE_MAX + 1]).is_none());
    let names = listener_names("tcp, Multicast:b").unwrap();
    assert_eq!(names.iter().map(ListenerName::as_str).collect::<Vec<_>>(), ["tcp", "multicast:b"]);
    for wrong in ["", "udp", "tcp tcp", "tcp:", "tcp\""] {
        assert_eq!(listener_names(wrong).unwrap_err().len(), 1, "{wrong:?}");
    }
}

/// Random numbers, the same in every run (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// A file with comments and blanks between tokens, in common and unusual places.
fn random_file(random: &mut Random) -> String {
    let mut text = String::new();
    if random.below(4) > 0 {
        text += "fence_virtd { listener = \"tcp, tcp:b\"; backend = \"libvirt\"; }";
    }
    for _ in 0..random.below(3) {
        text += random.one(&["\n", "listeners{", "Listeners\n{\n", "listeners = \"z\" {# }\n"]);
        if !text.ends_with('\n') && !text.ends_with('{') {
            continue;
        }
        let is_open = text.trim_end().ends_with(['{', '}']) && text.contains("isteners");
        for _ in 0..random.below(4) {
            text += random.one(&["tcp {", "tcp\r\n=\r\n\"b\"{\r\n", "TCP = \"c\" {\n", "other { # {\n"]);
            for _ in 0..random.below(4) {
                text += random.one(&[
                    "port = \"1\";",
                    "\tPort = \"2\"; # port\n",
                    "#port = \"3\";\n",
                    "\n  # port = \"3\";\r\n",
                    "hash=\"sha1\"\n;",
                    " x = \"}\n#port = \n\";",
                    "inner { port = \"9\"; #port = \"8\";\n}",
                    "\n",
                ]);
            }
            text += random.one(&["}", "\n}\n", " }\r\n", "# }\n\t}"]);
        }
        if is_open {
            text += random.one(&["}", "\n}\n", "} # end"]);
        }
        text += "\n";
    }
    text
}

/// Kind and text of each token.
fn tokens(text: &str) -> Vec<String> {
    Lexer::new(text).map(|token| format!("{:?}:{}", token.kind, token.text)).collect()
}

/// Text between tokens: comments and blanks.
fn comments(text: &str) -> Vec<String> {
    let mut all = text.to_string();
    for token in Lexer::new(text).collect::<Vec<_>>().into_iter().rev() {
        let end = token.span().at + token.text.len() + usize::from(token.kind == TokenKind::Value);
        all.replace_range(token.at..end, " ");
    }
    all.lines().filter_map(|line| Some(line[line.find('#')?..].trim_end().to_string())).collect()
}

/// Results of removing `new` from `tokens`, one for each occurrence.
fn without(tokens: &[String], new: &[&str]) -> Vec<Vec<String>> {
    let hits = (0..tokens.len())
        .filter(|at| tokens[*at..].iter().zip(new).filter(|(a, b)| a == b).count() == new.len());
    hits.map(|at| [&tokens[..at], &tokens[at + new.len()..]].concat()).collect()
}

#[test]
fn random_edits_change_nothing_else() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut changed, mut added, mut made) = (0, 0, 0);
    for _ in 0..6_000 {
        let text = random_file(&mut random);
        let Some(before) = Editable::new(text.as_bytes()) else { continue };
        let part = listener("tcp", [None, Some("b"), Some("d")][random.below(3)]);
        let mut after = before.clone();
        after.set(&part, "port", "777").unwrap();
        assert_eq!(comments(&text), comments(after.text()), "{text}\n---\n{}", after.text());
        assert_eq!(after.value(&part, "port"), Some("777"), "{text}\n---\n{}", after.text());
        let (old, new) = (tokens(&text), tokens(after.text()));
        let statement = ["Name:port", "Equals:=", "Value:777", "End:;"];
        if before.value(&part, "port").is_some() {
            changed += 1;
            let differ = old.iter().zip(&new).filter(|(a, b)| a != b).count();
            assert!(old.len() == new.len() && differ == 1, "{text}\n---\n{}", after.text());
        } else if new.len() == old.len() + 4 {
            added += 1;
            assert!(without(&new, &statement).contains(&old), "{text}\n---\n{}", after.text());
        } else {
            made += 1;
            assert!(new.len() > old.len() + 4, "{text}\n---\n{}", after.text());
        }
        same_but_port(&text, after.text(), &part);
        let mut reset = after.clone();
        reset.unset(&part, "port");
        assert_eq!(reset.value(&part, "port"), None);
        assert_eq!(comments(&text), comments(reset.text()), "{text}\n---\n{}", reset.text());
    }
    assert!(changed > 100 && added > 100 && made > 100, "{changed} {added} {made}");
}

/// Asserts that both texts parse to the same configuration, except for this port.
fn same_but_port(before: &str, after: &str, part: &Part) {
    let parsed = |text: &str| parse(Path::new("f"), text.as_bytes()).config;
    let (Some(mut before), Some(after)) = (parsed(before), parsed(after)) else { return };
    // An unselected section may serve a listener without a label.
    if !before.listeners.iter().any(|listener| Part::Listener(listener.name.clone()) == *part) {
        return;
    }
    for listener in &mut before.listeners {
        if let (true, super::super::ListenerConfig::Tcp(tcp)) =
            (Part::Listener(listener.name.clone()) == *part, &mut listener.config)
        {
            tcp.port = 777;
        }
    }
    assert_eq!(before, after);
}
