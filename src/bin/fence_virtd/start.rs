//! From the command line to running threads, and the way out.
//!
//! Arguments, configuration, keys, pid file, sockets, detach, signals,
//! libvirt, threads, ready. Nothing starts a thread or calls libvirt before
//! the daemon has detached.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use crossbeam_channel::bounded;
use log::{error, info, warn};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::access::{key_file, policies};
use crate::args::{self, Command, Options};
use crate::listener::{self, Listener, interface_exists};
use crate::pid_file::{self, PidFile};
use crate::problem::Flaw;
use crate::reload::Reloader;
use crate::status::{Form, Sources, StatusSocket};
use crate::systemd::Manager;
use crate::systemd::Notifier;
use crate::tools::{doctor, setup, status_client};
use crate::watch::Watchers;
use crate::worker::QUEUE_MAX;
use crate::{backend, libvirt, logging, supervise, watch};
use fence_virt::config::{self, Config, ListenerConfig, Outcome};
use fence_virt::fence::ListenerName;
use fence_virt::sys::detach;
use fence_virt::sys::signals::Signals;

/// Runs `fence_virtd` with the arguments of this process. Exit code 0 is a
/// clean end (or, of the parent, a daemon that is ready), 1 an error.
pub(crate) fn run() -> ExitCode {
    match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Run(options)) => {
            logging::start(options.debug.unwrap_or(0), options.is_json);
            let code = match start(&options) {
                Ok(()) => ExitCode::SUCCESS,
                Err(reason) => {
                    error!("{reason}");
                    ExitCode::FAILURE
                }
            };
            logging::flush();
            code
        }
        Ok(Command::Check { config, pid_file, is_lenient }) => check(&config, &pid_file, is_lenient),
        Ok(Command::Status(path, form)) => report(&path, form),
        Ok(Command::Doctor { config, pid_file }) => doctor::run(&config, &pid_file),
        Ok(Command::Setup(path)) => match setup::run(&path) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => complain(&format!("fence_virtd: {reason}\n")),
        },
        Ok(Command::List) => print(LIST),
        Ok(Command::Version) => print(concat!("fence_virtd ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Help) => print(args::USAGE),
        Err(reason) => complain(&format!("fence_virtd: {reason}\nTry fence_virtd -h.\n")),
    }
}

const LIST: &str = "\
Backends:
    cpg (built in)
    libvirt (built in)
Listeners:
    multicast (built in)
    serial (built in)
    tcp (built in)
    vsock (built in)
";

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(text: &str) -> ExitCode {
    warn_on_stderr(text);
    ExitCode::FAILURE
}

/// A stderr that takes nothing is no reason not to go on.
fn warn_on_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Reads the configuration.
///
/// # Errors
///
/// A sentence that names the file, if it cannot be read at all.
pub(crate) fn parse_config(path: &Path) -> Result<Outcome, String> {
    Ok(config::parse(path, &read_file(path)?))
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read the configuration {}: {error}", path.display()))
}

/// Reads the configuration and says what is wrong with it, each line as `say` does.
fn read_config(path: &Path, strict: bool, say: &dyn Fn(&str)) -> Result<Config, String> {
    let outcome = parse_config(path)?;
    if !outcome.diagnostics.is_empty() {
        say(&outcome.diagnostics.render(strict));
    }
    let is_fatal = outcome.diagnostics.is_fatal(strict);
    let config = outcome.config.filter(|_| !is_fatal);
    config.ok_or_else(|| format!("the configuration {} has errors", path.display()))
}

/// The same while the daemon runs, into the log.
fn read_again(path: &Path) -> Result<Config, String> {
    read_config(path, false, &|text| text.lines().for_each(|line| warn!("{line}")))
}

/// `--status`: what the daemon that runs with this configuration says of itself.
/// It may run well while the file is being edited.
fn report(path: &Path, form: Form) -> ExitCode {
    let asked = read_file(path).and_then(|text| status_client::ask(&config::status_socket(&text), form));
    match asked {
        Ok((report, is_well)) => match print(&report) {
            ExitCode::SUCCESS if !is_well => ExitCode::from(2),
            code => code,
        },
        Err(reason) => complain(&format!("fence_virtd: {reason}\n")),
    }
}

/// `--check`: all that can be said without starting anything. The lenient form
/// has errors only where a start would have them.
fn check(path: &Path, pid_file: &Path, is_lenient: bool) -> ExitCode {
    let config = match read_config(path, !is_lenient, &warn_on_stderr) {
        Ok(config) => config,
        Err(reason) => return complain(&format!("{reason}\n")),
    };
    print(&config.summary());
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    let uid_of_daemon = pid_file::running(pid_file).and_then(pid_file::user_of);
    for listener in &config.listeners {
        for path in listener.config.auth().into_iter().flat_map(policies::key_files) {
            match key_file::examine(path, uid_of_daemon) {
                Ok(loaded) => warnings.extend(loaded.warnings.iter().map(Flaw::to_string)),
                Err(flaw) if is_lenient && key_file::is_out_of_reach(path) => {
                    warnings.push(format!("not judged: {}", flaw.what));
                }
                Err(flaw) => errors.push(flaw.to_string()),
            }
        }
        match &listener.config {
            ListenerConfig::Multicast(multicast) => warnings.extend(absent_interface(multicast)),
            ListenerConfig::Serial(serial) => {
                warnings.extend(absent_folder(serial));
                let remote = watch::warn_of_remote(serial, config.backend.uris());
                warnings.extend(remote.iter().map(|warning| format!("{}: {warning}", listener.name)));
            }
            ListenerConfig::Tcp(_) | ListenerConfig::Vsock(_) => {}
        }
    }
    warnings.extend(backend::warn_of_delay(&config.backend).map(|flaw| format!("cpg: {flaw}")));
    let backend = backend::check(&config.backend).err().map(|reason| format!("{reason}: the start fails"));
    if is_lenient {
        errors.extend(backend)
    } else {
        warnings.extend(backend)
    }
    for warning in warnings {
        complain(&format!("warning: {warning}\n"));
    }
    match errors.is_empty() {
        true => print(&format!("{}: no errors\n", path.display())),
        false => complain(&errors.iter().map(|reason| format!("error: {reason}\n")).collect::<String>()),
    }
}

fn absent_interface(config: &config::MulticastConfig) -> Option<String> {
    let name = config.interface.as_ref().filter(|name| !interface_exists(name))?;
    Some(format!("this host has no interface {name}: the start fails, or with wait_for_init waits for it"))
}

fn absent_folder(config: &config::SerialConfig) -> Option<String> {
    let path = config.path.as_ref().filter(|path| !path.is_dir())?;
    Some(format!("there is no folder {}: no socket of a VM can be in it", path.display()))
}

fn start(options: &Options) -> Result<(), String> {
    // A daemon that has detached stands in / and reads it again.
    let config_path = std::path::absolute(&options.config)
        .map_err(|error| format!("cannot tell where {} is: {error}", options.config.display()))?;
    let config = read_config(&options.config, false, &warn_on_stderr)?;
    log::set_max_level(logging::level(options.debug.unwrap_or(config.debug)));
    let wait = options.wait_for_init || config.wait_for_init;
    backend::check(&config.backend)?;

    raise_descriptor_limit();
    let policies = config.listeners.iter().map(policies::policy).collect::<Result<Vec<_>, _>>()?;
    let mut pid_file = PidFile::take(&options.pid_file)?;
    let mut listeners: Vec<Listener> = Vec::new();
    for (listener, policy) in config.listeners.iter().zip(policies) {
        listeners.push(listener::bind(listener, policy, wait)?);
    }

    let is_foreground = options.foreground || config.foreground;
    let background = match is_foreground {
        true => None,
        false => Some(detach::detach().map_err(|error| format!("cannot go into the background: {error}"))?),
    };
    pid_file.write()?;
    let signals = Signals::block().map_err(|error| format!("cannot take signals: {error}"))?;
    logging::start_writer()?;
    let (inbox, messages) = bounded(QUEUE_MAX);
    libvirt::begin()?;
    let mut watchers = Watchers::default();
    let mut reloader = Reloader::new(config_path, read_again, config.clone(), options.debug);
    let permissions = reloader.permissions(&config, &mut watchers)?;
    let started = backend::start(&config.backend, permissions, &mut watchers, &inbox, wait, &signals)?;
    let Some(started) = started else { return Ok(()) };
    if !follow_lines(&config, &listeners, &mut watchers, wait, &signals)? {
        return Ok(());
    }
    let notifier = Notifier::from_environment();
    let began = Instant::now();
    let counts: Vec<_> = listeners.iter().map(Listener::counts).collect();
    let uris = Box::new(started.keepers.reporter());
    let cluster = started.cluster.clone();
    let running = supervise::Running::start(listeners, started, watchers, (inbox.clone(), messages))?;
    let manager = Manager::new(&notifier, counts.clone(), running.pulse(), config.backend.kind());
    let sources = Sources { started: began, counts, inbox, pulse: running.pulse(), uris, cluster };
    // Fencing goes on without anybody being able to ask.
    let status = StatusSocket::open(&config.status_socket, sources);
    let _status = status.map_err(|reason| warn!("{reason}")).ok();
    if let Some(background) = background {
        logging::switch_to_syslog();
        background.ready().map_err(|error| format!("cannot go into the background: {error}"))?;
    }
    info!("fence_virtd {} is ready", env!("CARGO_PKG_VERSION"));
    notifier.send("READY=1");
    running.until_stopped(&signals, &notifier, manager, reloader)
}

/// Has the lines of VMs brought to the serial listener; false if a signal says stop meanwhile.
fn follow_lines(
    config: &Config,
    listeners: &[Listener],
    watchers: &mut Watchers,
    wait: bool,
    signals: &Signals,
) -> Result<bool, String> {
    for (config_of, listener) in config.listeners.iter().zip(listeners) {
        if let ListenerConfig::Serial(serial) = &config_of.config {
            warn_of_folder(&config_of.name, serial);
            watchers.follow_lines(serial, config.backend.uris(), &listener.address())?;
        }
    }
    if wait { Ok(true) } else { watchers.await_first(signals) }
}

fn warn_of_folder(name: &ListenerName, serial: &config::SerialConfig) {
    if let Some(warning) = absent_folder(serial) {
        warn!("{name}: {warning}");
    }
}

/// As many descriptors as the system lets us have: sessions must not be
/// bounded by anything but their quota.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard.min(1 << 20), hard));
    if let Err(error) = raised {
        warn!("cannot raise the limit of open files: {error}");
    }
}
