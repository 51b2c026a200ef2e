//! Names as a hostile guest would send them.

use std::io::Write;
use std::time::Duration;

use fence_virt::auth::HashKind;
use fence_virt::fence::Operation::{self, Off, On, Reboot, Status};

use crate::common::client::{Client, packet};
use crate::common::require;
use crate::fake::{AgentBench, FAILURE, FakeAgent, LIMIT, SUCCESS, metadata};

/// Names that a shell, a list or the options of an agent would read otherwise.
const HOSTILE: [&str; 26] = [
    "a;touch x",
    "$(touch x)",
    "`touch x`",
    "a|b",
    "a&b",
    "a>b",
    "a<b",
    "a\"b",
    "a'b",
    "a\\b",
    "a*b",
    "a?b",
    "a#b",
    "a=b",
    "a,b",
    "100,101",
    "-a",
    "--help",
    " 100",
    "100 ",
    "!a",
    "~a{b}",
    "101/../100",
    "./100",
    "100\u{a0}",
    "a\u{202e}b",
];

#[test]
fn hostile_names_reach_no_agent() {
    let bench = require!(AgentBench::new());
    let (listed, any) = (FakeAgent::new(&bench.dir), FakeAgent::new(&bench.dir));
    any.write("metadata", &metadata(&["plug"], &["on", "off", "reboot", "status", "monitor"]));
    let sections = listed.section("listed", "") + &any.section("any", "");
    let daemon = bench.start(&bench.conf("agent", &sections, ""));
    any.set("300", "on");
    assert_eq!(bench.ask(Status, "web"), SUCCESS);
    for agent in [&listed, &any] {
        agent.forget_calls();
    }
    for name in HOSTILE {
        for operation in [Off, Reboot, On, Status] {
            // The VM could be one of the agent any, which was not asked.
            assert_eq!(bench.ask(operation, name), FAILURE, "{operation} {name:?}");
        }
    }
    assert_eq!((listed.calls(), any.calls()), (vec![], vec![]), "{}", daemon.log());
    assert!(
        any.all_calls()
            .iter()
            .chain(&listed.all_calls())
            .all(|call| ["list", "monitor"].contains(&call.as_str()))
    );
    for agent in [&listed, &any] {
        assert!(!agent.path("x").exists());
    }
    // A name that is plain reaches the agent that has no list.
    assert_eq!(bench.ask(Status, "300"), SUCCESS);
    assert_eq!((any.calls(), listed.calls()), (vec!["status 300".to_owned()], vec![]));
}

#[test]
fn names_with_control_characters_are_not_even_taken() {
    let bench = require!(AgentBench::new());
    let agent = FakeAgent::new(&bench.dir);
    agent.write("metadata", &metadata(&["plug"], &["on", "off", "reboot", "status", "monitor"]));
    let conf = bench.conf("agent", &agent.section("", ""), "");
    let conf = conf.replace("hash = \"sha256\"; auth = \"sha256\"", "hash = \"none\"; auth = \"none\"");
    let daemon = bench.start(&conf);
    let ask = |operation: Operation, name: &[u8]| {
        let mut bytes = packet(operation, "", HashKind::None).encode();
        bytes[4..4 + name.len()].copy_from_slice(name);
        let client = || Client::connect(([127, 0, 0, 1], 1229).into(), &[], HashKind::None, LIMIT).unwrap();
        let mut client = bench.namespace.inside(client);
        client.stream.write_all(&bytes).unwrap();
        client.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.verdict().ok()
    };
    assert_eq!(ask(Status, b"100"), Some(SUCCESS));
    agent.forget_calls();
    let names: [&[u8]; 6] =
        [b"a\nplug=100", b"100\naction=off", b"\n", b"100\r", b"100\x1b[2J", b"\xff\xfe100"];
    for name in names {
        assert!(!matches!(ask(Off, name), Some(SUCCESS)), "{name:?}");
    }
    assert_eq!(agent.calls(), [""; 0], "{}", daemon.log());
    assert_eq!(agent.state("100"), "on");
}
