//! Options on an agent's stdin: any text results in settings or in a message.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| fence_virt::client::try_options(text));
