//! The start of the cpg backend: connection managers, cpg thread, first join.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use log::warn;

use super::backend::Cpg;
use super::group_member::GroupConnector;
use super::host_fencing::{self, FencerThreadHandle, Pacemaker, SpawnedFencer};
use super::link::GroupLink;
use super::shared::{BATCHES_MAX, CpgCommand, JoinGeneration, ThreadProgress};
use super::thread::CpgThread;
use crate::access::Permissions;
use crate::backend::libvirt::{self, ConnectionManagers, UriLink};
use crate::inbox::{ClusterSettings, Message};
use crate::problem::Problem;
use crate::startup::{FirstAttempt, START_LIMIT, Startup, await_first};
use crate::threads::join_by;
use fence_virt::config::{CpgConfig, HostFencing, NameMode, UnknownVm};
use fence_virt::routing::{Names, Router, Rules, Unknown};
use fence_virt::sys::corosync::{self, Libraries};
use fence_virt::sys::error_text;
use fence_virt::sys::mailbox::{MailboxSender, mailbox};
use fence_virt::sys::stonith::FencerLibrary;
use fence_virt::time::Instant;
use fence_virt::wire::cluster::RequestNumber;

/// Checks that corosync's libraries are installed.
///
/// # Errors
///
/// The library that is missing.
pub(crate) fn check() -> Result<(), String> {
    Libraries::open().map(|_| ())
}

/// Warning about a `host_fence_delay` that is 0, or missing where no fence of a host can be known.
pub(crate) fn warn_of_delay(config: &CpgConfig) -> Option<Problem> {
    match (config.host_fence_delay, config.host_fencing) {
        (None, HostFencing::Auto) => {
            let reason = FencerLibrary::open().err()?;
            Some(Problem::new(
                format!(
                    "host_fence_delay is not set, and no fence of a host is known ({reason}): while a host is \
                     lost, off and reboot of the VMs that it ran fail"
                ),
                "if the hosts fence each other, but not by pacemaker, set host_fence_delay to the number of \
                 seconds after which a lost host is certainly off",
            ))
        }
        (None, HostFencing::None) => Some(Problem::new(
            "host_fence_delay is not set: while a host is lost, off and reboot of the VMs that it ran fail",
            "if the hosts fence each other, set it to the number of seconds after which a lost host is \
             certainly off",
        )),
        (Some(0), _) => Some(Problem::new(
            "host_fence_delay is 0: VMs count as off as soon as their host is lost, though it may still run \
             them",
            "set it to the number of seconds after which a lost host is certainly off",
        )),
        (Some(_), _) => None,
    }
}

/// The backend with its threads.
pub(crate) struct StartedCpg {
    pub(crate) backend: Cpg<UriLink>,
    pub(crate) managers: ConnectionManagers,
    pub(crate) threads: CpgThreads,
}

/// The threads that speak with corosync and pacemaker.
pub(crate) struct CpgThreads {
    cpg: CpgThreadHandle,
    fencer: FencerThreadHandle,
}

impl CpgThreads {
    /// Makes the threads end, and waits for that until `deadline`. One that hangs is left behind.
    pub(crate) fn stop(self, deadline: Instant) {
        self.fencer.begin_stop();
        self.cpg.stop(deadline);
        self.fencer.join();
    }
}

/// Starts the threads and waits for the first join of the group, unless
/// `wait_for_init` lets that come later. Returns none if a stop signal came meanwhile.
///
/// # Errors
///
/// A sentence that says what is missing or cannot be reached.
pub(crate) fn start(
    config: &CpgConfig,
    permissions: Permissions,
    startup: &Startup<'_>,
) -> Result<Option<StartedCpg>, String> {
    let libraries = Libraries::open()?;
    if let Some(warning) = warn_of_delay(config) {
        warn!("cpg: {warning}");
    }
    if let Err(reason) = libraries.check_cmap() {
        warn!("cpg: hosts that were never seen are not known: {reason}");
    }
    let Some((libvirt, managers)) = libvirt::start(&config.uris, permissions, startup)? else {
        return Ok(None);
    };
    let SpawnedThread { handle, link, first } = spawn(libraries, startup.worker)?;
    if !startup.wait_for_init && !has_joined(&first, startup)? {
        return Ok(None);
    }
    let mut number = [0; 4];
    getrandom::fill(&mut number).map_err(|error| format!("cannot get random numbers: {error}"))?;
    let settings = settings(config);
    let number = RequestNumber(u32::from_le_bytes(number));
    let router = Router::new(settings.rules, config.uris.len(), number);
    let SpawnedFencer { handle: fencer, link: fencing } =
        host_fencing::spawn(Pacemaker::default(), startup.worker)?;
    let backend = Cpg::new(libvirt, link, fencing, router, settings).recording_in(startup.journal.clone());
    Ok(Some(StartedCpg { backend, managers, threads: CpgThreads { cpg: handle, fencer } }))
}

/// Returns the settings of a configuration that a reload changes.
pub(crate) fn settings(config: &CpgConfig) -> ClusterSettings {
    let rules = Rules {
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
    };
    ClusterSettings { rules, host_fencing: config.host_fencing }
}

/// Waits for the first join; false if a stop signal came meanwhile.
fn has_joined(first: &FirstJoin, startup: &Startup<'_>) -> Result<bool, String> {
    let deadline = Instant::now() + START_LIMIT;
    let reason = match await_first(first, deadline, startup.signals, "corosync")? {
        FirstAttempt::Interrupted => return Ok(false),
        FirstAttempt::Made(Ok(())) => return Ok(true),
        FirstAttempt::Made(Err(reason)) => reason,
        FirstAttempt::ThreadEnded => "the cpg thread has ended".to_owned(),
        FirstAttempt::TimedOut => "corosync does not answer".to_owned(),
    };
    Err(format!("cannot join the cluster's group: {reason}; start corosync, or start with -w to wait for it"))
}

/// Result of the first attempt to join: success once the group's report of it is there for the worker.
pub(super) type FirstJoin = Receiver<Result<(), String>>;

/// A cpg thread that was just spawned.
pub(super) struct SpawnedThread {
    pub(super) handle: CpgThreadHandle,
    pub(super) link: GroupLink,
    pub(super) first: FirstJoin,
}

/// Spawns the cpg thread.
///
/// # Errors
///
/// If the system has no thread or descriptor left.
pub(super) fn spawn(
    connector: impl GroupConnector,
    worker: &Sender<Message>,
) -> Result<SpawnedThread, String> {
    let (commands, inbox) =
        mailbox().map_err(|error| format!("cannot create a mailbox: {}", error_text(&error)))?;
    let (event_sender, events) = bounded(BATCHES_MAX);
    let (first_sender, first) = bounded(1);
    let progress = Arc::new(ThreadProgress::default());
    let mut cpg = CpgThread::new(inbox, worker.clone(), event_sender, progress.clone(), first_sender);
    let thread = thread::Builder::new()
        .name("cpg".into())
        .stack_size(corosync::STACK_SIZE)
        .spawn(move || cpg.run(&connector))
        .map_err(|error| format!("cannot start a thread: {}", error_text(&error)))?;
    let link =
        GroupLink { commands: commands.clone(), events, progress, generation: JoinGeneration::default() };
    Ok(SpawnedThread { handle: CpgThreadHandle { commands, thread }, link, first })
}

/// The thread, as the main thread holds it.
pub(crate) struct CpgThreadHandle {
    commands: MailboxSender<CpgCommand>,
    thread: JoinHandle<()>,
}

impl CpgThreadHandle {
    /// Makes the thread leave the group and end, and waits for that until `deadline`.
    /// A thread that hangs in corosync is left behind.
    pub(crate) fn stop(self, deadline: Instant) {
        if self.commands.post(CpgCommand::Stop).is_ok() && !join_by(self.thread, deadline) {
            warn!("cpg: corosync does not answer: ending without it");
        }
    }
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;
