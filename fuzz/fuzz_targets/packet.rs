//! Fence request: decoding and encoding give the same bytes.
#![no_main]

use fence_virt::wire::{PACKET_LEN, Packet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(bytes) = bytes.first_chunk::<PACKET_LEN>() else { return };
    if let Ok(packet) = Packet::decode(bytes) {
        assert_eq!(Packet::decode(&packet.encode()).as_ref(), Ok(&packet));
        let _ = packet.callback(1);
    }
});
