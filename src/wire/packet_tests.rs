use super::*;
use crate::auth::Key;

fn packet() -> Packet {
    let mut address = [0; 28];
    address[..4].copy_from_slice(&[192, 0, 2, 7]);
    Packet {
        request: Request {
            operation: Operation::Reboot,
            target: Target::new(b"node1").unwrap(),
            seqno: 0x0102_0304,
        },
        signature: Signature::unsigned(HashKind::Sha256),
        address_len: 4,
        flags: 0,
        address,
        port: 1229,
        random: [1, 2, 3, 4, 5, 6],
        family: FAMILY_IPV4,
    }
}

#[test]
fn fields_are_where_peers_read_them_and_survive_a_round_trip() {
    let bytes = packet().encode();
    assert_eq!(&bytes[..12], b"\x02\x02\x04\x00node1\0\0\0");
    assert_eq!(&bytes[68..72], &[192, 0, 2, 7]);
    assert_eq!(&bytes[96..104], &[0xcd, 0x04, 1, 2, 3, 4, 5, 6]);
    assert_eq!(&bytes[104..112], &[4, 3, 2, 1, 2, 0, 0, 0]);
    assert_eq!(Packet::decode(&bytes), Ok(packet()));
}

#[test]
fn signatures_cover_every_byte() {
    let key = Key::new(vec![5; 128]);
    for hash in HashKind::ALL {
        let bytes = Packet { signature: Signature::unsigned(hash), ..packet() }.encode_signed(&key);
        let decoded = Packet::decode(&bytes).unwrap();
        assert!(decoded.is_signed_by(&bytes, &key), "{hash}");
        if hash == HashKind::None {
            continue;
        }
        assert!(!decoded.is_signed_by(&bytes, &Key::new(vec![6; 128])), "{hash}");
        for at in 4..PACKET_LEN {
            let mut altered = bytes;
            altered[at] ^= 1;
            if let Ok(packet) = Packet::decode(&altered) {
                assert!(!packet.is_signed_by(&altered, &key), "{hash}: byte {at} is covered");
            }
        }
    }
}

#[test]
fn invalid_fields_are_named() {
    let decode = |at: usize, value: u8| {
        let mut bytes = packet().encode();
        bytes[at] = value;
        Packet::decode(&bytes)
    };
    assert_eq!(decode(0, 7), Err(PacketError::Operation(7)));
    assert_eq!(decode(0, 9), Err(PacketError::Operation(9)));
    assert_eq!(decode(1, 5), Err(PacketError::Hash(5)));
    assert_eq!(decode(2, 5), Err(PacketError::AddressLength(5)));
    assert_eq!(decode(3, 2), Err(PacketError::Flags(2)));
    assert_eq!(decode(4, 0xff), Err(PacketError::Name(NameError::NotText)));
    let mut bytes = packet().encode();
    bytes[4..68].fill(b'x');
    assert_eq!(Packet::decode(&bytes), Err(PacketError::Name(NameError::TooLong)));
}

#[test]
fn callbacks_go_only_where_a_client_can_listen() {
    assert_eq!(packet().callback(3), Ok("192.0.2.7:1229".parse().unwrap()));
    assert_eq!(Packet { port: 0, ..packet() }.callback(3), Err(CallbackError::Port));
    assert_eq!(Packet { address_len: 16, ..packet() }.callback(3), Err(CallbackError::Family));
    assert_eq!(Packet { family: FAMILY_IPV6, ..packet() }.callback(3), Err(CallbackError::Family));
    for bad in ["0.0.0.0", "225.0.0.12", "255.255.255.255"] {
        let mut address = [0; 28];
        address[..4].copy_from_slice(&bad.parse::<Ipv4Addr>().unwrap().octets());
        let error = Packet { address, ..packet() }.callback(3);
        assert_eq!(error, Err(CallbackError::Address(bad.parse().unwrap())));
    }
    for (text, expected) in [
        ("2001:db8::7", Ok("[2001:db8::7]:1229")),
        ("fe80::7", Ok("[fe80::7%3]:1229")),
        ("::", Err(())),
        ("ff05::3:1", Err(())),
        ("::ffff:225.0.0.12", Err(())),
        ("::ffff:0.0.0.0", Err(())),
    ] {
        let mut address = [0; 28];
        address[..16].copy_from_slice(&text.parse::<Ipv6Addr>().unwrap().octets());
        let asked = Packet { address, address_len: 16, family: FAMILY_IPV6, ..packet() }.callback(3);
        assert_eq!(asked.map_err(|_| ()), expected.map(|text| text.parse().unwrap()), "{text}");
    }
}
