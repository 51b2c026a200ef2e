//! The run of `--doctor`, from the file to the exit code.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::finding::Finding;
use super::process::RunningDaemon;
use super::report::FindingPrinter;
use super::{
    ask, cluster, fencer, firewall, groups, libvirt, multicast, process, serial, settings, tcp, vsock,
};
use crate::config_file;
use crate::console::Palette;
use fence_virt::config::{BackendConfig, Config, ListenerConfig, NamedListener};

/// Exit code if the report cannot be written.
const UNWRITTEN: u8 = 2;

/// Prints the report. Exit code 0: no problems; 1: warnings; 2: errors, or the report cannot
/// be written. If libvirt, corosync or pacemaker hang, this takes little more than
/// [`REPLY_TIMEOUT`](crate::tools::service_reply::REPLY_TIMEOUT).
pub(crate) fn run(config: &Path, pid_file: &Path) -> ExitCode {
    let mut printer = FindingPrinter::new(io::stdout(), Palette::of_stdout());
    let code = examine(config, pid_file, &mut printer).and_then(|()| printer.finish());
    ExitCode::from(code.unwrap_or(UNWRITTEN))
}

fn examine(path: &Path, pid_file: &Path, printer: &mut FindingPrinter<impl Write>) -> io::Result<()> {
    let outcome = config_file::parse(path);
    printer.print(settings::judge(path, &outcome))?;
    let running = process::running(pid_file);
    printer.print(process::judge(running, pid_file, process::own_uid()))?;
    let Some(config) = outcome.ok().and_then(|outcome| outcome.config) else { return Ok(()) };
    for listener in &config.listeners {
        printer.print(settings::keys(listener, running))?;
        printer.print(examine_listener(listener, &config, running))?;
    }
    printer.print(firewall::judge(firewall::inspect(), &config))?;
    printer.print(examine_backend(&config, running))
}

fn examine_listener(
    listener: &NamedListener,
    config: &Config,
    running: Option<RunningDaemon>,
) -> Vec<Finding> {
    let absence = settings::absence(config);
    let name = &listener.name;
    match &listener.config {
        ListenerConfig::Multicast(group) => {
            multicast::judge(name, group, &multicast::inspect(group, absence))
        }
        ListenerConfig::Tcp(tcp) => tcp::judge(name, tcp, &tcp::inspect(tcp, running, absence)),
        ListenerConfig::Vsock(vsock) => vsock::judge(name, vsock, &vsock::inspect(vsock, running)),
        ListenerConfig::Serial(serial) => serial::examine(listener, serial, config.backend.uris()),
    }
}

fn examine_backend(config: &Config, running: Option<RunningDaemon>) -> Vec<Finding> {
    let replies = match ask::all(config) {
        Ok(replies) => replies,
        Err(reason) => return vec![Finding::error("libvirt", reason, "reinstall libvirt's client library")],
    };
    let mut findings = libvirt::judge(config.backend.kind(), &replies.uris);
    if let Some(reply) = &replies.cluster {
        findings.extend(cluster::judge(&config.backend, reply, running));
    }
    if let (BackendConfig::Cpg(cpg), Some(reply)) = (&config.backend, &replies.fencer) {
        findings.push(fencer::judge(cpg, reply));
    }
    findings.extend(serial::judge_lines(&replies.lines, &replies.uris));
    findings.extend(groups::judge(&config.backend, &config.groups, &replies.uris));
    findings
}
