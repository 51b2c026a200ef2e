//! Start of the daemon.
//!
//! The order: configuration, keys, pid file, sockets, detach, signals, libvirt, threads, ready. Nothing
//! starts a thread or calls libvirt before the daemon has detached.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use crossbeam_channel::bounded;
use log::{error, info, warn};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use crate::access::policies;
use crate::args::Options;
use crate::hold_orders::HoldOrders;
use crate::host_checks::missing_directory;
use crate::inbox::INBOX_MAX;
use crate::listener::{self, Listener};
use crate::pid_file::PidFile;
use crate::power_journal::{JournalWriter, PowerJournal};
use crate::reload::Reloader;
use crate::restraints::{HoldKeeper, SharedRestraints};
use crate::startup::Startup;
use crate::status::{Sources, StatusSocket};
use crate::systemd::{Notifier, ServiceManager};
use crate::watch::Watchers;
use crate::{backends, config_file, libvirt, logging, supervise};
use fence_virt::config::{Config, ListenerConfig, NamedListener};
use fence_virt::quota;
use fence_virt::sys::detach;
use fence_virt::sys::error_text;
use fence_virt::sys::signals::Signals;
use fence_virt::time::Instant;

/// Runs the daemon until it is stopped. Exit code 0: a clean end (in the parent
/// process: a daemon that is ready); 1: an error, which was logged.
pub(crate) fn run_daemon(options: &Options) -> ExitCode {
    logging::start(options.debug.unwrap_or(0), options.is_json);
    if options.foreground {
        logging::stay_in_foreground();
    }
    let outcome = start(options).inspect_err(|reason| error!("{reason}"));
    logging::flush();
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn start(options: &Options) -> Result<(), String> {
    // Once detached, the daemon has / as its directory and reads the file again.
    let config_path = std::path::absolute(&options.config)
        .map_err(|error| format!("cannot find {}: {}", options.config.display(), error_text(&error)))?;
    let config = config_file::load_and_log(&options.config)?;
    let status_socket = &config.status_socket;
    log::set_max_level(logging::level(options.debug.unwrap_or(config.debug)));
    let is_foreground = options.foreground || config.foreground;
    if is_foreground {
        logging::stay_in_foreground();
    }
    let wait = options.wait_for_init || config.wait_for_init;
    backends::check(&config.backend)?;

    let sessions_max = sessions_max(&config, raise_descriptor_limit());
    let policies::Policies { listeners: policies, vm_keys } = policies::load(&config, |_| true)?;
    let mut pid_file = PidFile::take(&options.pid_file)?;
    let journal = PowerJournal::default();
    let bound = config
        .listeners
        .iter()
        .zip(policies)
        .map(|(of, (_, policy))| listener::bind(of, policy, sessions_max, wait, &journal));
    let listeners: Vec<Listener> = bound.collect::<Result<_, _>>()?;

    let not_detached = |error| format!("cannot detach from the terminal: {}", error_text(&error));
    let background = if is_foreground { None } else { Some(detach::detach().map_err(not_detached)?) };
    pid_file.write()?;
    let signals =
        Signals::block().map_err(|error| format!("cannot block signals: {}", error_text(&error)))?;
    logging::start_writer()?;
    // Dropped last, once nothing more is recorded.
    let _writer = config.history_file.clone().and_then(|path| JournalWriter::start(path, &journal));
    let restraints = SharedRestraints::default();
    let holds = HoldKeeper::load(status_socket, restraints.clone())?;
    let (inbox, messages) = bounded(INBOX_MAX);
    libvirt::begin()?;
    let mut watchers = Watchers::default();
    let mut reloader =
        Reloader::new(config_path.clone(), config_file::load_and_log, config.clone(), options.debug)
            .restraining(restraints.clone());
    reloader.set_vm_keys(vm_keys);
    let permissions = reloader.permissions(&config, &mut watchers)?;
    let startup = Startup {
        worker: &inbox,
        wait_for_init: wait,
        held_vms: watchers.held_vms(),
        max_parallel: config.max_parallel,
        signals: &signals,
        journal: &journal,
        restraints: &restraints,
    };
    let started = backends::start(&config.backend, permissions, &mut watchers, &startup)?;
    let Some(started) = started else { return Ok(()) };
    if !follow_lines(&config, &listeners, &mut watchers, &startup)? {
        return Ok(());
    }
    listener::follow_prefixes(&listeners)?;
    let notifier = Notifier::from_environment();
    let began = Instant::now();
    let counts: Vec<_> = listeners.iter().map(Listener::counts).collect();
    let sources: Vec<_> = listeners.iter().map(Listener::source).collect();
    let uris = started.reporter();
    let cluster = started.cluster.clone();
    let holds = HoldOrders::new(holds, inbox.clone());
    let threads = supervise::Threads::start(listeners, started, watchers, inbox.clone(), messages)?;
    let manager = ServiceManager::new(&notifier, counts, threads.heartbeat(), config.backend.kind());
    let sources = Sources {
        started: began,
        config: config_path,
        listeners: sources,
        queue_len: Box::new(move || inbox.len()),
        queue_max: INBOX_MAX,
        heartbeat: threads.heartbeat(),
        uris,
        cluster,
        journal,
        last_reload: threads.last_reload(),
        orders: threads.orders(),
        restraints,
    };
    // Without the status socket the daemon still fences.
    let status = StatusSocket::open(status_socket, sources);
    let _status = status
        .map_err(|reason| warn!("{reason}: --status, --history, --reload, --hold and --release do not work"))
        .ok();
    if let Some(background) = background {
        logging::switch_to_syslog();
        background.ready().map_err(not_detached)?;
    }
    info!("fence_virtd {} is ready", env!("CARGO_PKG_VERSION"));
    notifier.send("READY=1");
    threads.run_until_stopped(&signals, &notifier, manager, reloader, holds)
}

/// Starts the watchers that bring the lines of VMs to the serial listener; false if a stop
/// signal came meanwhile.
fn follow_lines(
    config: &Config,
    listeners: &[Listener],
    watchers: &mut Watchers,
    startup: &Startup<'_>,
) -> Result<bool, String> {
    for (config_of, listener) in config.listeners.iter().zip(listeners) {
        if let ListenerConfig::Serial(serial) = &config_of.config {
            if let Some(warning) = missing_directory(serial) {
                warn!("{}: {warning}", config_of.name);
            }
            let Some(sink) = listener.handle().serial_sink() else { continue };
            watchers.follow_lines(serial, config.backend.uris(), &sink, listener.handle().reception())?;
        }
    }
    if startup.wait_for_init { Ok(true) } else { watchers.await_first(startup) }
}

/// Raises the soft limit of open files to the hard limit, so that nothing but their quota
/// limits the sessions. Returns the limit.
fn raise_descriptor_limit() -> rlim_t {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard.min(1 << 20), hard));
    if let Err(error) = raised {
        warn!("cannot raise the limit of open files (RLIMIT_NOFILE): {}", error.desc());
    }
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

/// Maximum sessions of each listener with this limit of open files.
fn sessions_max(config: &Config, descriptors: rlim_t) -> usize {
    let has_sessions = |listener: &&NamedListener| !matches!(listener.config, ListenerConfig::Serial(_));
    let count = config.listeners.iter().filter(has_sessions).count();
    let sessions_max = quota::sessions_max(usize::try_from(descriptors).unwrap_or(usize::MAX), count);
    if sessions_max < quota::SESSIONS_MAX {
        warn!(
            "the limit of open files is {descriptors} (LimitNOFILE, ulimit -n): {sessions_max} sessions a listener instead of {}",
            quota::SESSIONS_MAX
        );
    }
    sessions_max
}
