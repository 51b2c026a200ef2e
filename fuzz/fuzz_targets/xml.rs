//! XML of a VM: no text causes a panic, and all results occur in the text.
#![no_main]

use fence_virt::domain_xml::Devices;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(found) = Devices::parse(text) else { return };
    for path in found.serials.iter().chain(&found.channels) {
        assert!(!path.as_os_str().is_empty());
        assert!(text.contains("bind") || text.contains('&'));
    }
    assert!(found.cids.is_empty() || text.contains("vsock"));
});
