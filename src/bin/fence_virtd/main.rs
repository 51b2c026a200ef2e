//! `fence_virtd`, the host daemon: it starts and stops the threads, and carries
//! requests from the listeners to the backend and the answers back.
//!
//! Its modules are compiled into this program and not into the library, so that
//! nothing of libvirt can get into the agents, whatever the linker.
//!
//! 1. A `listener` thread polls its sockets, runs a session for each client
//!    and posts each authenticated request as a `job::Job`.
//! 2. The `worker` thread takes the jobs one by one and hands them to the
//!    `backend`, which carries them out, or keeps them to try again.
//! 3. The job's ticket carries the answer into the listener's mailbox.
//! 4. With the backend cpg, the `cpg` thread speaks with corosync, and the worker asks other hosts.
//! 5. A `watch` thread follows which VMs run, where a listener has to know.
//! 6. The main thread waits for signals, and for threads that end.
#![deny(unsafe_code)]

mod access;
mod args;
mod backend;
mod backends;
mod config_file;
mod console;
mod cpg;
mod heartbeat;
mod host_checks;
mod inbox;
mod job;
mod libvirt;
mod listener;
mod logging;
mod pid_file;
mod problem;
mod reload;
mod serial_event;
mod start;
mod startup;
mod status;
mod supervise;
mod systemd;
mod threads;
mod tools;
mod watch;
mod worker;

use std::process::ExitCode;

use args::Invocation;
use tools::{check, doctor, setup, status_client};

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
    match args::parse(std::env::args_os().skip(1)) {
        Ok(Invocation::Run(options)) => start::run_daemon(&options),
        Ok(Invocation::Check { config, pid_file, is_lenient }) => check::run(&config, &pid_file, is_lenient),
        Ok(Invocation::Status(config, form)) => status_client::run(&config, form),
        Ok(Invocation::Doctor { config, pid_file }) => doctor::run(&config, &pid_file),
        Ok(Invocation::Setup(config)) => setup::run(&config),
        Ok(Invocation::List) => console::print(LIST),
        Ok(Invocation::Version) => console::print(concat!("fence_virtd ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Invocation::Help) => console::print(args::USAGE),
        Err(reason) => console::complain(&format!("fence_virtd: {reason}\nTry fence_virtd -h.\n")),
    }
}
