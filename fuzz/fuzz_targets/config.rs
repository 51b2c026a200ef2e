//! Configuration parser: no text makes it panic or hang, and every diagnostic has a position.
//! Networks of requesters: what is accepted has its own address, written in either family.
#![no_main]

use std::net::IpAddr;
use std::path::Path;

use fence_virt::config;
use fence_virt::groups::{Group, Requesters};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let outcome = config::parse(Path::new("fuzz.conf"), text);
    let _ = outcome.diagnostics.render(true);
    if let Some(config) = outcome.config {
        let _ = config.summary();
        for group in &config.groups {
            let _ = Group::new(&group.ips, &group.uuids)
                .with_sources(&group.sources)
                .with_targets(&group.targets)
                .allowing(group.rights);
            // The parser refuses each `source` that a group would ignore.
            assert!(group.sources.iter().all(|source| Requesters::parse_source(source).is_ok()));
        }
    }
    if let Ok(text) = std::str::from_utf8(text) {
        requesters(text);
    }
});

fn requesters(text: &str) {
    let Ok(Requesters::Network(network)) = Requesters::parse(text) else { return };
    let shown = network.to_string();
    assert_eq!(Requesters::parse(&shown), Ok(Requesters::Network(network)));
    let Ok(address) = shown.split('/').next().unwrap_or_default().parse::<IpAddr>() else {
        panic!("no address: {shown}")
    };
    assert!(network.contains(address));
    if let IpAddr::V4(address) = address {
        assert!(network.contains(address.to_ipv6_mapped().into()));
    }
}
