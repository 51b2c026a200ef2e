//! `fence_virtd --doctor`: looks at this host with the configuration at hand,
//! and says what it found and what helps. It changes nothing.
//!
//! 1. What needs no other program is read and judged at once: the file
//!    ([`settings`]), who runs ([`process`]), and each listener's part of the
//!    host ([`multicast`], [`tcp`], [`vsock`], [`serial`]; [`network`] and
//!    [`sockets`] read).
//! 2. libvirt and corosync are asked, all at the same time and with a bound ([`ask`]).
//! 3. What they said is judged: [`libvirt`], [`cluster`], [`serial`], [`groups`].
//!
//! Reading and judging are apart, so that what is judged can be tested without such a host.

mod ask;
mod cluster;
mod finding;
mod firewall;
mod groups;
mod libvirt;
mod multicast;
mod network;
mod process;
mod serial;
mod settings;
mod sockets;
mod tcp;
mod vsock;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::start::parse_config;
use fence_virt::config::{Config, ListenerConfig, NamedListener};
use finding::{Finding, Report};
use process::Running;

/// What the exit code says where the report cannot be written: it is not known that all is well.
const UNWRITTEN: u8 = 2;

/// Prints the report. Exit code 0: all is well; 1: warnings; 2: errors, or
/// nowhere to print to. Takes a little more than [`ask::LIMIT`] at most, if
/// libvirt or corosync hang.
pub(crate) fn run(config: &Path, pid_file: &Path) -> ExitCode {
    let mut report = Report::new(io::stdout());
    let code = examine(config, pid_file, &mut report).and_then(|()| report.finish());
    ExitCode::from(code.unwrap_or(UNWRITTEN))
}

fn examine(path: &Path, pid_file: &Path, report: &mut Report<impl Write>) -> io::Result<()> {
    let outcome = parse_config(path);
    report.tell(settings::judge(path, &outcome))?;
    let running = process::running(pid_file);
    report.tell(process::judge(running, pid_file, process::own_uid()))?;
    let Some(config) = outcome.ok().and_then(|outcome| outcome.config) else { return Ok(()) };
    for listener in &config.listeners {
        report.tell(settings::keys(listener, running))?;
        report.tell(examine_listener(listener, &config, running))?;
    }
    report.tell(firewall::judge(firewall::look(), &config))?;
    report.tell(examine_backend(&config, running))
}

fn examine_listener(listener: &NamedListener, config: &Config, running: Option<Running>) -> Vec<Finding> {
    let absence = settings::absence(config);
    let name = &listener.name;
    match &listener.config {
        ListenerConfig::Multicast(group) => multicast::judge(name, group, &multicast::look(group, absence)),
        ListenerConfig::Tcp(tcp) => tcp::judge(name, tcp, &tcp::look(tcp, running, absence)),
        ListenerConfig::Vsock(vsock) => vsock::judge(name, vsock, &vsock::look(vsock, running)),
        ListenerConfig::Serial(serial) => serial::examine(listener, serial, config.backend.uris()),
    }
}

fn examine_backend(config: &Config, running: Option<Running>) -> Vec<Finding> {
    let replies = match ask::all(config) {
        Ok(replies) => replies,
        Err(reason) => return vec![Finding::error("libvirt", reason, "reinstall the library libvirt")],
    };
    let mut findings = libvirt::judge(config.backend.kind(), &replies.uris);
    if let Some(reply) = &replies.cluster {
        findings.extend(cluster::judge(&config.backend, reply, running));
    }
    findings.extend(serial::judge_lines(&replies.lines, &replies.uris));
    findings.extend(groups::judge(&config.backend, &config.groups, &replies.uris));
    findings
}
