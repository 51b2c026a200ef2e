use std::time::Duration;

use crossbeam_channel::Receiver;
use log::warn;

use super::backend::LibvirtBackend;
use super::connection_manager::{self, ConnectionManagers, FirstConnection, StartedManagers};
use super::link::UriLink;
use crate::access::Permissions;
use crate::libvirt::{Link, connect_advice};
use crate::startup::{FirstAttempt, START_LIMIT, Startup, await_first};
use fence_virt::time::Instant;

/// Time limit for the other URIs once one is connected.
const OTHERS_LIMIT: Duration = Duration::from_secs(3);

/// Starts a connection manager for each URI, and waits for the first connection unless
/// `wait_for_init` lets that come later. Returns none if a stop signal came meanwhile.
/// Errors: a sentence for each URI, if none can be reached.
pub(crate) fn start(
    uris: &[String],
    permissions: Permissions,
    startup: &Startup<'_>,
) -> Result<Option<(LibvirtBackend<UriLink>, ConnectionManagers)>, String> {
    let Some(Connected { links, managers, problem }) = connect(uris, uris.len() > 1, startup)? else {
        return Ok(None);
    };
    match problem {
        Some(problem) => Err(problem),
        None => Ok(Some((backend(links, permissions, startup), managers))),
    }
}

/// Result of the first attempts to connect.
enum FirstReach {
    /// At least one URI is connected.
    Reached,
    /// None is: a sentence for each.
    Unreachable(String),
    /// A stop signal came.
    Interrupted,
}

/// URIs with their connection managers.
pub(crate) struct Connected {
    pub(crate) links: Vec<UriLink>,
    pub(crate) managers: ConnectionManagers,
    /// Sentence for each URI, if none can be reached.
    pub(crate) problem: Option<String>,
}

/// Starts a connection manager for each URI, and waits for the first connection unless
/// `wait_for_init` lets that come later. Managers list the VMs if there `are_several` places. Returns none if a stop
/// signal came meanwhile.
/// Errors: signals cannot be read, or a thread cannot be started.
pub(crate) fn connect(
    uris: &[String],
    are_several: bool,
    startup: &Startup<'_>,
) -> Result<Option<Connected>, String> {
    let StartedManagers { managers, links, first } =
        connection_manager::start(uris, startup.worker, !startup.wait_for_init, are_several)?;
    let is_awaited = !startup.wait_for_init && !uris.is_empty();
    let problem = match if is_awaited { reach(uris, &first, startup)? } else { FirstReach::Reached } {
        FirstReach::Reached => None,
        FirstReach::Unreachable(problem) => Some(problem),
        FirstReach::Interrupted => return Ok(None),
    };
    Ok(Some(Connected { links, managers, problem }))
}

/// Makes the backend of these links.
pub(crate) fn backend<L: Link>(
    links: Vec<L>,
    permissions: Permissions,
    startup: &Startup<'_>,
) -> LibvirtBackend<L> {
    let Startup { max_parallel, worker, held_vms, restraints, .. } = startup;
    LibvirtBackend::new(links, *max_parallel, permissions, (*worker).clone(), held_vms.clone())
        .restrained_by((*restraints).clone())
}

/// Waits until every URI was tried once, or one is connected and the others have had
/// their time.
fn reach(
    uris: &[String],
    first: &Receiver<FirstConnection>,
    startup: &Startup<'_>,
) -> Result<FirstReach, String> {
    let mut deadline = Instant::now() + START_LIMIT;
    let mut missing: Vec<&str> = uris.iter().map(String::as_str).collect();
    let mut problems = Vec::new();
    while !missing.is_empty() {
        let FirstConnection { uri, outcome } = match await_first(first, deadline, startup.signals, "libvirt")?
        {
            FirstAttempt::Made(first) => first,
            FirstAttempt::Interrupted => return Ok(FirstReach::Interrupted),
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
        let names: Vec<&str> = uris.iter().map(String::as_str).collect();
        let advice = connect_advice(&names, problems.last().map_or("", String::as_str));
        return Ok(FirstReach::Unreachable(format!("{}; {advice}", problems.join("; "))));
    }
    for problem in problems {
        warn!("{problem}: until it is back, only VMs of other places can be fenced");
    }
    Ok(FirstReach::Reached)
}
