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
mod cpg;
mod heartbeat;
mod job;
mod libvirt;
mod listener;
mod logging;
mod pid_file;
mod problem;
mod reload;
mod start;
mod status;
mod supervise;
mod systemd;
mod threads;
mod tools;
mod watch;
mod worker;

fn main() -> std::process::ExitCode {
    start::run()
}
