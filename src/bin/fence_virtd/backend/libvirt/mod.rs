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
mod keeper;
mod link;
mod power;
mod resolve;

#[cfg(test)]
mod asker_tests;
#[cfg(test)]
#[allow(clippy::arc_with_non_send_sync)] // The trait has an Arc; the tests have one thread.
pub(crate) mod fake;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use log::{info, warn};

use crate::access::Permissions;
use crate::worker::Message;
use fence_virt::sys::signals::Signals;

pub(crate) use backend::Libvirt;
pub(crate) use keeper::Keepers;
pub(crate) use link::UriLink;

/// How long the first connections may take at start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long the others may take once one is there.
const OTHERS_LIMIT: Duration = Duration::from_secs(3);
/// How often a stop signal is looked for meanwhile.
const SLICE: Duration = Duration::from_millis(100);

/// Starts a keeper for each URI.
pub(crate) fn start(
    uris: &[String],
    permissions: Permissions,
    worker: &Sender<Message>,
    wait: bool,
    signals: &Signals,
) -> Result<Option<(Libvirt<UriLink>, Keepers)>, String> {
    let (keepers, links, first) = keeper::start(uris, worker)?;
    if !wait && !await_first(uris, &first, signals)? {
        return Ok(None);
    }
    Ok(Some((Libvirt::new(links, permissions), keepers)))
}

/// Waits until every URI was tried once, or one can be reached and the others
/// had their time; false if a signal says stop.
fn await_first(uris: &[String], first: &Receiver<keeper::First>, signals: &Signals) -> Result<bool, String> {
    let mut deadline = Instant::now() + START_LIMIT;
    let mut missing: Vec<&str> = uris.iter().map(String::as_str).collect();
    let mut problems = Vec::new();
    while !missing.is_empty() && Instant::now() < deadline {
        if let Some(signal) = signals.next().map_err(|error| format!("cannot read signals: {error}"))? {
            info!("{signal}: stopped while waiting for libvirt");
            return Ok(false);
        }
        let Ok((uri, outcome)) = first.recv_timeout(SLICE) else { continue };
        missing.retain(|name| *name != uri);
        match outcome {
            Ok(()) => deadline = deadline.min(Instant::now() + OTHERS_LIMIT),
            Err(reason) => problems.push(format!("cannot connect to {uri}: {reason}")),
        }
    }
    problems.extend(missing.iter().map(|uri| format!("{uri} does not answer")));
    if problems.len() == uris.len() {
        return Err(format!("{} (wait_for_init waits for it)", problems.join("; ")));
    }
    for problem in problems {
        warn!("{problem}: VMs that are not seen to run elsewhere cannot be fenced until it comes back");
    }
    Ok(true)
}
