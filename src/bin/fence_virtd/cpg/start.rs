//! The start of the cpg backend: threads, first join.

use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender};
use log::{info, warn};

use super::backend::Cpg;
use super::link;
use crate::access::Permissions;
use crate::backend::{Started, libvirt};
use crate::problem::Flaw;
use crate::watch::Watchers;
use crate::worker::Message;
use fence_virt::config::{CpgConfig, NameMode, UnknownVm};
use fence_virt::routing::{Names, Router, Rules, Unknown};
use fence_virt::sys::corosync::Libraries;
use fence_virt::sys::signals::Signals;
use fence_virt::wire::cluster::RequestNumber;

/// How long the first attempt to join may take at start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How often a stop signal is looked for meanwhile.
const SLICE: Duration = Duration::from_millis(100);

/// Whether corosync's libraries are there.
pub(crate) fn check() -> Result<(), String> {
    Libraries::open().map(|_| ())
}

/// What a configuration leaves open, and should not.
pub(crate) fn warn_of_delay(config: &CpgConfig) -> Option<Flaw> {
    match config.host_fence_delay {
        None => Some(Flaw::new(
            "host_fence_delay is not set: while a host is lost, off and reboot of the machines that it \
             ran fail",
            "if the hosts fence each other, set it to the seconds after which a lost host is off for sure",
        )),
        Some(0) => Some(Flaw::new(
            "host_fence_delay is 0: machines count as off as soon as their host is lost, though it may \
             still run them",
            "set it to the seconds after which a lost host is off for sure",
        )),
        Some(_) => None,
    }
}

/// Starts the threads, joins the group.
pub(crate) fn start(
    config: &CpgConfig,
    permissions: Permissions,
    watchers: &mut Watchers,
    worker: &Sender<Message>,
    wait: bool,
    signals: &Signals,
) -> Result<Option<Started>, String> {
    let libraries = Libraries::open()?;
    if let Some(warning) = warn_of_delay(config) {
        warn!("cpg: {warning}");
    }
    let started = libvirt::start(&config.uris, permissions, worker, wait, signals)?;
    let Some((libvirt, keepers)) = started else { return Ok(None) };
    let (thread, link, first) = link::start(libraries, worker)?;
    if !wait && !await_first(&first, signals)? {
        return Ok(None);
    }
    watchers.follow_vms(&config.uris, worker)?;
    let mut number = [0; 4];
    getrandom::fill(&mut number).map_err(|error| format!("the system gives no random numbers: {error}"))?;
    let router = Router::new(rules(config), config.uris.len(), RequestNumber(u32::from_le_bytes(number)));
    let backend = Cpg::new(libvirt, link, router);
    let cluster = Some(backend.standing());
    Ok(Some(Started { backend: Box::new(backend), keepers, group: Some(thread), cluster }))
}

fn rules(config: &CpgConfig) -> Rules {
    Rules {
        names: match config.name_mode {
            None => Names::Both,
            Some(NameMode::Name) => Names::Name,
            Some(NameMode::Uuid) => Names::Uuid,
        },
        host_fence_delay: config.host_fence_delay.map(|seconds| Duration::from_secs(seconds.into())),
        unknown: match config.unknown_vm {
            UnknownVm::Fail => Unknown::Fail,
            UnknownVm::Off => Unknown::Off,
        },
    }
}

/// Waits for the first attempt to join; false if a signal says stop meanwhile.
fn await_first(first: &link::First, signals: &Signals) -> Result<bool, String> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if let Some(signal) = signals.next().map_err(|error| format!("cannot read signals: {error}"))? {
            info!("{signal}: stopped while waiting for corosync");
            return Ok(false);
        }
        let reason = match first.recv_timeout(SLICE) {
            Ok(Ok(())) => return Ok(true),
            Ok(Err(reason)) => reason,
            Err(RecvTimeoutError::Disconnected) => "its thread has ended".to_owned(),
            Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                "corosync does not answer".to_owned()
            }
            Err(RecvTimeoutError::Timeout) => continue,
        };
        return Err(format!("cannot join the cluster's group: {reason} (wait_for_init waits for it)"));
    }
}
