//! Configuration parser: no text makes it panic or hang, and every diagnostic has a position.
#![no_main]

use std::path::Path;

use fence_virt::config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let outcome = config::parse(Path::new("fuzz.conf"), text);
    let _ = outcome.diagnostics.render(true);
    if let Some(config) = outcome.config {
        let _ = config.summary();
    }
});
