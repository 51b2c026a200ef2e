//! Layouts of the messages, against those of the C daemon.

use super::ClusterMessage::*;
use super::*;

fn call(name: &str) -> ClusterCall {
    let (number, target, operation, client_number) =
        (RequestNumber(0x0102_0304), NodeId(3_000_000_000), Operation::Off, 9);
    ClusterCall { number, target, name: name.to_owned(), operation, client_number }
}

fn told(name: &str, state: PowerState, is_active: bool) -> Advertisement {
    let domain = Domain { name: name.to_owned(), uuid: Uuid::from_bytes([0x5a; 16]) };
    Advertisement { domain, owner: NodeId(3_000_000_000), state, is_active }
}

#[test]
fn fields_are_where_the_c_daemon_has_them() {
    let bytes = Reply { call: call("vm1"), response: 2 }.encode();
    assert_eq!(&bytes[..16], &[1, 0, 0, 0, 4, 3, 2, 1, 0x00, 0x5e, 0xd0, 0xb2, 0, 0, 0, 0]);
    assert_eq!(&bytes[16..20], b"vm1\0");
    assert!(bytes[20..144].iter().all(|&byte| byte == 0));
    assert_eq!(&bytes[144..], &[1, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0]);
    let bytes = Store(told("vm1", PowerState::Off, false)).encode();
    assert_eq!(&bytes[..16], &[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert_eq!(&bytes[81..117], b"5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a");
    assert_eq!(&bytes[148..], &[0x00, 0x5e, 0xd0, 0xb2, 5, 0, 0, 0]);
}

#[test]
fn encoded_messages_are_decoded() {
    let long = "n".repeat(TOLD_NAME_MAX);
    for message in [
        Request(call("kn\u{f6}del")),
        Reply { call: call(&"x".repeat(CLUSTER_NAME_MAX)), response: u32::MAX },
        Store(told(&long, PowerState::Running, true)),
        Store(told("a", PowerState::Running, false)),
        Gone { vm: told("a", PowerState::Off, false), has_ended: false },
        Gone { vm: told("a", PowerState::Off, false), has_ended: true },
        Hello { is_complete: true },
        Hello { is_complete: false },
        Locate { number: RequestNumber(7), name: "x".repeat(CLUSTER_NAME_MAX) },
        Located { to: NodeId(u32::MAX - 1), number: RequestNumber(7) },
        Report(super::Report { call: call("a"), response: 0, evidence: 3, moved_to: Some(NodeId(9)) }),
        Report(super::Report { call: call("a"), response: 255, evidence: 255, moved_to: None }),
        HostFenced { node: NodeId(3_000_000_000) },
        ProveCaller { to: NodeId(3), number: RequestNumber(7) },
        CallerProof { to: NodeId(3), number: RequestNumber(7), lives: true },
        CallerProof { to: NodeId(3), number: RequestNumber(7), lives: false },
        Host(HostNotice { node: NodeId(4), standing: HostStanding::Fenced, age_ms: 77 }),
        Host(HostNotice { node: NodeId(4), standing: HostStanding::HasVms, age_ms: AGE_UNKNOWN }),
        Copy { vm: told("a", PowerState::Running, false), fate: CopyFate::Ended, age_ms: 99 },
        Table(TableDigest { vms: 500, sha256: [0xa5; 32] }),
        TellAll { node: NodeId(3_000_000_000) },
    ] {
        assert_eq!(ClusterMessage::decode(&message.encode()), Ok(message));
    }
}

#[test]
fn stray_bytes_are_not_trusted_and_long_names_are_cut_between_characters() {
    let name = format!("{}\u{f6}", "n".repeat(TOLD_NAME_MAX - 1));
    let mut bytes = Store(told(&name, PowerState::Off, false)).encode();
    // The C daemon leaves these uninitialised, and cuts names between bytes.
    (bytes[79], bytes[80], bytes[145], bytes[146], bytes[12]) = (0xc3, 0xff, b'x', 0xff, 7);
    let Ok(Store(told)) = ClusterMessage::decode(&bytes) else { panic!("it is whole") };
    assert_eq!(told.domain.name, "n".repeat(TOLD_NAME_MAX - 1));
}

#[test]
fn malformed_messages_are_refused() {
    let good = Request(call("a")).encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = good;
        bytes[at] = byte;
        ClusterMessage::decode(&bytes)
    };
    for length in [0, 4, 155, 157, 1000] {
        assert_eq!(ClusterMessage::decode(&vec![0; length]), Err(ClusterMessageError::Length(length)));
    }
    assert_eq!(with(0, 3), Err(ClusterMessageError::Type(3)));
    assert_eq!(with(144, 0), Err(ClusterMessageError::Operation(0)));
    assert_eq!(with(145, 1), Err(ClusterMessageError::Operation(257)), "not cut to a byte");
    assert_eq!(with(144, 6), Err(ClusterMessageError::Operation(6)));
    assert_eq!(with(16, b'\n'), Err(ClusterMessageError::Name));
    let endless: Vec<u8> =
        good[..16].iter().copied().chain([b'x'; 128]).chain(good[144..].to_vec()).collect();
    assert_eq!(ClusterMessage::decode(&endless), Err(ClusterMessageError::Name));
    let notice = HostNotice { node: NodeId(4), standing: HostStanding::Up, age_ms: 0 };
    let mut host = Host(notice).encode();
    host[16] = 5;
    assert_eq!(ClusterMessage::decode(&host), Err(ClusterMessageError::Notice(5)));
    let mut copy = Copy { vm: told("a", PowerState::Off, false), fate: CopyFate::Away, age_ms: 0 }.encode();
    copy[4] = 3;
    assert_eq!(ClusterMessage::decode(&copy), Err(ClusterMessageError::Notice(3)));
    let mut store = Store(told("a", PowerState::Off, false)).encode();
    store[81] = b'g';
    assert_eq!(ClusterMessage::decode(&store), Err(ClusterMessageError::Uuid));
    store[16] = 0;
    assert_eq!(ClusterMessage::decode(&store), Err(ClusterMessageError::Name));
}
