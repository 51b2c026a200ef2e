//! File of holds: no bytes cause a panic, and the holds that are read survive another file.
#![no_main]

use fence_virt::restraints::{HOLDS_MAX, decode_holds, encode_holds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(holds) = decode_holds(bytes) else { return };
    assert!(holds.iter().count() <= HOLDS_MAX);
    let text = encode_holds(&holds);
    assert!(!text.contains(|c: char| c.is_control() && c != '\t' && c != '\n'));
    assert_eq!(decode_holds(text.as_bytes()), Ok(holds));
});
