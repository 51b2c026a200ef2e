//! `fence_virtd`, the host daemon. Its modules are compiled into this program
//! and not into the library, so that nothing of libvirt can get into the
//! agents, whatever the linker.
#![deny(unsafe_code)]

use fence_virt::{
    auth, backlog, config, domain_xml, fence, groups, history, key_file, quota, routing, session, sys, wire,
};

#[path = "../daemon/mod.rs"]
mod daemon;
#[path = "../sys/libvirt_errors.rs"]
#[allow(unsafe_code)]
mod libvirt_errors;
#[path = "../sys/libvirt_events.rs"]
#[allow(unsafe_code)]
mod libvirt_events;

fn main() -> std::process::ExitCode {
    daemon::run()
}
