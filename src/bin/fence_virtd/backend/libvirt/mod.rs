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

use crossbeam_channel::Receiver;
use log::warn;

use crate::access::Permissions;
use crate::startup::{FirstAttempt, START_LIMIT, Startup, await_first};

pub(crate) use backend::Libvirt;
pub(crate) use keeper::Keepers;
pub(crate) use link::UriLink;

/// Time limit for the other URIs once one is connected.
const OTHERS_LIMIT: Duration = Duration::from_secs(3);

/// Starts a connection manager for each URI, and waits for the first connection unless
/// `wait_for_init` lets that come later. Returns none if a stop signal came meanwhile.
///
/// # Errors
///
/// A sentence for each URI, if none can be reached.
pub(crate) fn start(
    uris: &[String],
    permissions: Permissions,
    startup: &Startup<'_>,
) -> Result<Option<(Libvirt<UriLink>, Keepers)>, String> {
    let (keepers, links, first) = keeper::start(uris, startup.worker)?;
    if !startup.wait_for_init && !is_reachable(uris, &first, startup)? {
        return Ok(None);
    }
    Ok(Some((Libvirt::new(links, permissions), keepers)))
}

/// Waits until every URI was tried once, or one is connected and the others have had
/// their time; false if a stop signal came meanwhile.
fn is_reachable(
    uris: &[String],
    first: &Receiver<keeper::First>,
    startup: &Startup<'_>,
) -> Result<bool, String> {
    let mut deadline = Instant::now() + START_LIMIT;
    let mut missing: Vec<&str> = uris.iter().map(String::as_str).collect();
    let mut problems = Vec::new();
    while !missing.is_empty() {
        let (uri, outcome) = match await_first(first, deadline, startup.signals, "libvirt")? {
            FirstAttempt::Made(first) => first,
            FirstAttempt::Interrupted => return Ok(false),
            FirstAttempt::TimedOut | FirstAttempt::ThreadEnded => break,
        };
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
