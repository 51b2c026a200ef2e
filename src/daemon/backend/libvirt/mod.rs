//! The libvirt backend: the VMs of one or several libvirt URIs.
//!
//! | part | does |
//! | --- | --- |
//! | [`host`] | what is asked of one URI, and its answers: a trait, so that faults can be tested |
//! | [`connection`] | the trait over a libvirt connection |
//! | [`link`] | what the worker and a keeper share of a URI |
//! | [`keeper`] | a thread for each URI: opens, probes, closes |
//! | [`resolve`] | which VM is meant, and where its copies are |
//! | [`power`] | off, on and reboot, verified |
//! | [`backend`] | the requests, the retries and the probes under way |

mod backend;
mod connection;
mod host;
mod keeper;
mod link;
mod power;
mod resolve;

#[cfg(test)]
#[allow(clippy::arc_with_non_send_sync)] // The trait has an Arc; the tests have one thread.
mod fake;
#[cfg(test)]
mod tests;

use std::thread;
use std::time::Duration;

use log::{error, warn};

use super::Started;
use crate::groups::Groups;
use crate::sys::libvirt_errors;

pub(crate) use keeper::Keepers;

/// How long the first connections may take at start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Starts libvirt's event loop and a keeper for each URI.
pub(super) fn start(uris: &[String], groups: Groups, wait: bool) -> Result<Started, String> {
    libvirt_errors::silence();
    let failed = |error: virt::error::Error| format!("libvirt cannot be used: {}", error.message());
    // Without a running event loop there is no keepalive.
    virt::event::event_register_default_impl().map_err(failed)?;
    thread::Builder::new()
        .name("libvirt-events".into())
        .spawn(|| {
            loop {
                if let Err(error) = virt::event::event_run_default_impl() {
                    error!("libvirt's event loop failed: {}", error.message());
                }
            }
        })
        .map_err(|error| format!("cannot start a thread: {error}"))?;

    let (event_sender, events) = crossbeam_channel::unbounded();
    let (keepers, links, first) = keeper::start(uris, &event_sender)?;
    if !wait {
        await_first(uris, &first)?;
    }
    let backend = Box::new(backend::Libvirt::new(links, groups));
    Ok(Started { backend, events, keepers })
}

/// Waits until every URI was tried once, and one of them can be reached.
fn await_first(uris: &[String], first: &crossbeam_channel::Receiver<keeper::First>) -> Result<(), String> {
    let deadline = std::time::Instant::now() + START_LIMIT;
    let mut missing: Vec<&str> = uris.iter().map(String::as_str).collect();
    let mut problems = Vec::new();
    while !missing.is_empty() {
        let Ok((uri, outcome)) = first.recv_deadline(deadline) else { break };
        missing.retain(|name| *name != uri);
        if let Err(reason) = outcome {
            problems.push(format!("cannot connect to {uri}: {reason}"));
        }
    }
    let limit = START_LIMIT.as_secs();
    problems.extend(missing.iter().map(|uri| format!("{uri} does not answer within {limit} s")));
    if problems.len() == uris.len() {
        return Err(format!("{} (wait_for_init waits for it)", problems.join("; ")));
    }
    for problem in problems {
        warn!("{problem}: VMs that are not found elsewhere cannot be fenced until it comes back");
    }
    Ok(())
}
