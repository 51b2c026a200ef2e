//! `fence_virtd`, the host daemon: takes fencing requests of VMs, and carries them out with libvirt.
//!
//! Its modules are part of this program and not of the library, so that the agents cannot link libvirt.
//!
//! 1. A `listener` thread polls its sockets, runs a session for each client,
//!    and sends each authenticated request to the worker as a `job::Job`.
//! 2. The `worker` thread passes the jobs one by one to the `backend`, which
//!    carries them out, or keeps them for a retry.
//! 3. The job returns the answer to the listener's mailbox.
//! 4. With the backend cpg, the `cpg` thread talks to corosync, and the worker asks other hosts.
//! 5. A `watch` thread tracks running VMs, for listeners that need to know them.
//! 6. The main thread waits for signals, and for threads that end.
#![deny(unsafe_code)]

mod access;
mod args;
mod backend;
mod backends;
mod backoff;
mod caller;
#[cfg(feature = "agent-backend")]
mod children;
mod config_file;
mod console;
mod cpg;
mod directory;
mod heartbeat;
mod hold_options;
mod hold_orders;
mod host_checks;
mod inbox;
mod job;
mod json;
mod libvirt;
mod listener;
mod logging;
mod pauses;
mod pid_file;
mod port_owner;
mod power_journal;
mod problem;
mod reload;
mod restraints;
mod serial_event;
mod start;
mod startup;
mod status;
mod supervise;
mod systemd;
mod threads;
mod tools;
mod usage;
mod watch;
mod worker;

use std::process::ExitCode;

use args::{DaemonCommand, Invocation};
use status::Query;
use tools::{check, doctor, explain, self_test, setup, status_client};

/// Output of `--list`.
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

fn main() -> ExitCode {
    let DaemonCommand { invocation, warning } = match args::parse(std::env::args_os().skip(1)) {
        Ok(line) => line,
        Err(reason) => return console::complain(&format!("fence_virtd: {reason}\nTry fence_virtd -h.\n")),
    };
    if let Some(warning) = warning {
        console::warn_on_stderr(&format!("fence_virtd: warning: {warning}\n"));
    }
    match invocation {
        Invocation::Run(options) => start::run_daemon(&options),
        Invocation::Check { config, pid_file, is_lenient } => check::run(&config, &pid_file, is_lenient),
        Invocation::Status { config, output } => status_client::status(&config, &output),
        Invocation::History { config, form, vm } => {
            status_client::history(&config, &Query::History { form, vm })
        }
        Invocation::Reload(config) => status_client::reload(&config),
        Invocation::Hold { config, change } => status_client::hold(&config, change),
        Invocation::Explain { config, requester, vm, operation } => {
            explain::run(&config, &requester, &vm, operation)
        }
        Invocation::Doctor { config, pid_file, is_json, errors_only } => {
            doctor::run(&config, &pid_file, is_json, errors_only)
        }
        Invocation::AddKey { config, pid_file, vm, uuid } => {
            setup::add_key(&config, &pid_file, &vm, uuid.as_deref())
        }
        Invocation::SelfTest { config, key, vm, is_confirmed } => {
            self_test::run(&config, key.as_deref(), vm.as_deref(), is_confirmed)
        }
        Invocation::Setup(config) => setup::run(&config),
        Invocation::List => console::print(LIST),
        Invocation::Version => console::print(concat!("fence_virtd ", env!("CARGO_PKG_VERSION"), "\n")),
        Invocation::Help => console::print(usage::USAGE),
    }
}
