//! The options on an agent's stdin: any text makes settings or a sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| fence_virt::client::try_options(text));
