//! Names that are borrowed, misspelt, too long or no text, as the target of an off and as the requester.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use fence_virt::fence::{Operation, Target};
use fence_virt::wire::PACKET_LEN;

use crate::clients::{SHA, client, connect_from, exchange, key, rest, signed};
use crate::common::client::packet;
use crate::common::daemon::Daemon;
use crate::common::guests::{Socket, request, serial};
use crate::common::net::{GUEST_V4, HOST_V4};
use crate::common::node::{self, NODE1, NODE2, NODE3, RUNNING, vm};
use crate::common::{Dir, require, root_and_c_suite};
use crate::host::{AttackedHost, assert_clean_log, guest, port, tcp4};

/// Longest name that the wire can carry, and one that libvirt allows beyond it.
const LONG: &str = "n23456789012345678901234567890123456789012345678901234567890123";
const LONGER: &str = "n234567890123456789012345678901234567890123456789012345678901234";
/// UUID of a VM that is not here, but in a group.
const ABSENT: &str = "99999999-9999-4999-8999-999999999999";

/// VMs of the host, by name and UUID. The first three are in a group.
const VMS: [(&str, &str); 9] = [
    ("node1", NODE1),
    (LONG, "aaaaaaaa-0001-4aaa-8aaa-aaaaaaaaaaaa"),
    (LONGER, "aaaaaaaa-0002-4aaa-8aaa-aaaaaaaaaaaa"),
    ("node2", NODE2),
    // The UUID of node2 as a name.
    (NODE2, NODE3),
    (ABSENT, "aaaaaaaa-0003-4aaa-8aaa-aaaaaaaaaaaa"),
    ("node1 ", "aaaaaaaa-0004-4aaa-8aaa-aaaaaaaaaaaa"),
    ("node", "aaaaaaaa-0005-4aaa-8aaa-aaaaaaaaaaaa"),
    ("asker", "aaaaaaaa-0006-4aaa-8aaa-aaaaaaaaaaaa"),
];

/// Host with a tcp listener and a serial line of one VM, and an administrator's listener on port 1300.
struct NamesHost {
    host: AttackedHost,
    daemon: Daemon,
    line: Socket,
}

impl NamesHost {
    /// Host whose guests, and whose VM `asker` over its line, may fence what `listed` says.
    fn new(asker: &str, listed: &str) -> NamesHost {
        let dir = Dir::new();
        let mut line = Socket::bind(dir.path("line"));
        let vms = VMS.map(|(name, uuid)| {
            let devices = if name == asker { serial(&line.path) } else { String::new() };
            (vm(name, uuid, RUNNING), devices)
        });
        let uri = node::node_with_devices(&dir, "node.xml", &vms);
        let host = AttackedHost::with(dir, vec![uri]);
        host.own(&[66]);
        let place = format!("address = \"{HOST_V4}\";");
        let listeners = [
            host.listener("tcp", &place),
            host.listener("tcp:admin", &format!("{place} port = \"1300\";")),
            host.serial(),
        ];
        let all: String = VMS.iter().map(|(_, uuid)| format!("uuid = \"{uuid}\"; ")).collect();
        let groups = format!(
            "groups {{ group {{ ip = \"192.0.2.66\"; {listed} listener = \"tcp, serial\"; }}\n\
             group {{ ip = \"{GUEST_V4}\"; {all} listener = \"tcp:admin\"; }} }}"
        );
        let daemon = host.start(&host.conf(&listeners, &groups));
        line.accept();
        NamesHost { host, daemon, line }
    }

    /// Verdict of an off with these bytes as its name; none if the daemon closes without an answer.
    fn off(&self, name: &[u8]) -> Option<u8> {
        let mut bytes: [u8; PACKET_LEN] = packet(Operation::Off, "", SHA).encode();
        bytes[4..4 + name.len()].copy_from_slice(name);
        let bytes = signed(bytes, SHA, &key());
        self.host.pair.guest.inside(|| {
            let mut stream: TcpStream = connect_from(guest(66), tcp4()).unwrap();
            stream.write_all(&bytes).unwrap();
            let [_, issued] = exchange(&mut stream, &[0xA5; 64]).ok()?;
            stream.write_all(key().expected(SHA, &issued).as_bytes()).unwrap();
            rest(&mut stream).first().copied()
        })
    }

    /// The same over the serial line; noise gets no answer, so a status follows it.
    fn off_by_line(&mut self, name: &[u8], seqno: u32) -> Option<u8> {
        let mut bytes = request(Operation::Off, "", seqno);
        bytes[6..6 + name.len()].copy_from_slice(name);
        self.line.line().write_all(&bytes).unwrap();
        let has_nul =
            name.iter().position(|&byte| byte == 0).is_some_and(|at| name[at..].iter().any(|&b| b != 0));
        let verdict = (Target::new(name).is_ok() && !has_nul).then(|| self.line.response());
        assert_eq!(self.line.ask(Operation::Devstatus, ""), 0, "the line is in step after {name:?}");
        verdict
    }

    /// UUIDs of the VMs that are off, which are started again.
    fn fenced(&self) -> Vec<&'static str> {
        let ask = |operation, uuid: &str| client(port(1300)).ask(&packet(operation, uuid, SHA)).unwrap();
        let is_off = |uuid: &str| ask(Operation::Status, uuid) == 2;
        self.host.pair.guest.inside(|| {
            // NODE2 names two VMs: the one with this UUID is asked for by its name.
            let name = |uuid| if uuid == NODE2 { "node2" } else { uuid };
            let off: Vec<&str> =
                VMS.iter().map(|(_, uuid)| *uuid).filter(|uuid| is_off(name(uuid))).collect();
            off.iter().for_each(|uuid| assert_eq!(ask(Operation::On, name(uuid)), 0));
            off
        })
    }
}

#[test]
fn no_spelling_fences_what_the_group_does_not_list() {
    require!(root_and_c_suite());
    let listed = format!("uuid = \"node1\"; uuid = \"{LONG}\"; uuid = \"{LONGER}\"; uuid = \"asker\";");
    let mut names = NamesHost::new("asker", &listed);
    let bare = NODE1.replace('-', "");
    let (upper, braces) = (NODE1.to_uppercase(), format!("{{{NODE1}}}"));
    for name in ["node1", NODE1, &upper, &bare] {
        assert_eq!(names.off(name.as_bytes()), Some(0), "{name:?}");
        assert_eq!(names.fenced(), [NODE1], "{name:?}");
    }
    assert_eq!((names.off(LONG.as_bytes()), names.fenced()), (Some(0), vec![VMS[1].1]));
    // A name ends at its first NUL; on a line such a request is noise.
    assert_eq!((names.off(b"node1\0node2"), names.fenced()), (Some(0), vec![NODE1]));
    let others: [&[u8]; 32] = [
        b"",
        b"NODE1",
        b"Node1",
        b"node2",
        NODE2.as_bytes(),
        b"node",
        b"node1 ",
        b" node1",
        b"node1x",
        b"\0node1",
        b"node2\0node1",
        b"node1/",
        b"../node1",
        b"/node1",
        b"node%31",
        b"node\\061",
        b"node1\n",
        b"node1\r\nfence_virtd: error: forged",
        b"\x1b[2Jnode1",
        b"node1\x7f",
        b"\x01",
        b"node1\t",
        b"\xff\xfe",
        b"node1\xc0\x80",
        b"n\xc3\xb6de1",
        b"node1\xc2\x85",
        b"*",
        b"%s%n%d",
        b"node1'\";}",
        LONGER.as_bytes(),
        &LONGER.as_bytes()[..63],
        braces.as_bytes(),
    ];
    for (at, name) in others.into_iter().enumerate() {
        let text = String::from_utf8_lossy(name).into_owned();
        let is_long = name == LONG.as_bytes();
        let expected = |verdict| if is_long { verdict == Some(0) } else { !matches!(verdict, Some(0 | 2)) };
        let verdict = names.off(name);
        assert!(expected(verdict), "{text:?}: {verdict:?}");
        let wanted = if is_long { vec![VMS[1].1] } else { vec![] };
        assert_eq!(names.fenced(), wanted, "{text:?}");
        let verdict = names.off_by_line(name, 1000 + at as u32);
        assert!(expected(verdict), "on the line: {text:?}: {verdict:?}");
        assert_eq!(names.fenced(), wanted, "on the line: {text:?}");
    }
    names.line.assert_silent(Duration::from_millis(100));
    assert_clean_log(&names.daemon);
}

#[test]
fn a_vm_with_the_uuid_of_another_as_its_name_is_not_that_vm() {
    require!(root_and_c_suite());
    let names = NamesHost::new("asker", &format!("uuid = \"{NODE2}\"; uuid = \"{ABSENT}\";"));
    assert_eq!(
        (names.off(NODE2.as_bytes()), names.fenced()),
        (Some(0), vec![NODE2]),
        "not the one of that name"
    );
    assert_eq!((names.off(b"node2"), names.fenced()), (Some(0), vec![NODE2]));
    assert_eq!((names.off(ABSENT.as_bytes()), names.fenced()), (Some(1), vec![]), "it is not here");
    assert_eq!((names.off(ABSENT.replace('-', "").as_bytes()), names.fenced()), (Some(3), vec![]));
}

#[test]
fn a_requester_with_the_uuid_of_an_absent_vm_as_its_name_is_not_that_vm() {
    require!(root_and_c_suite());
    let mut names = NamesHost::new(ABSENT, &format!("uuid = \"{ABSENT}\"; uuid = \"node1\";"));
    assert_eq!(names.line.ask(Operation::Off, "node1"), 3, "{}", names.daemon.log());
    assert_eq!(names.fenced(), [""; 0]);
}
