//! The run of `--doctor`, from the file to the exit code.

use std::path::Path;
use std::process::ExitCode;

#[cfg(feature = "agent-backend")]
use super::agents;
use super::ask::Replies;
use super::libvirt::UriReply;
use super::process::RunningDaemon;
use super::report::DoctorReport;
use super::{
    ask, cluster, fencer, firewall, groups, holds, libvirt, multicast, process, serial, settings, tcp,
    vm_keys, vsock,
};
use crate::access::vm_keys::VmKeys;
use crate::console::{Palette, print, print_coloured};
use crate::restraints::kept_holds;
use crate::tools::finding::Finding;
use crate::{backends, config_file};
use fence_virt::config::{BackendConfig, Config, ListenerConfig, NamedListener};

/// Exit code if the report cannot be written.
const UNWRITTEN: u8 = 2;

/// Prints the report, of all findings or of the errors alone, as text or as JSON. Exit code 0: no problems; 1:
/// warnings; 2: errors, or the report cannot be written. If libvirt, corosync or pacemaker hang, this takes little
/// more than [`REPLY_TIMEOUT`](crate::tools::service_reply::REPLY_TIMEOUT); a fence agent that hangs takes longer.
pub(crate) fn run(config: &Path, pid_file: &Path, is_json: bool, errors_only: bool) -> ExitCode {
    let report = examine(config, pid_file);
    let printed = match is_json {
        true => print(&report.json(errors_only)),
        false => print_coloured(&report.text(errors_only), Palette::of_stdout()),
    };
    ExitCode::from(if printed == ExitCode::SUCCESS { report.exit_code() } else { UNWRITTEN })
}

fn examine(path: &Path, pid_file: &Path) -> DoctorReport {
    let mut report = DoctorReport::default();
    let outcome = config_file::parse(path);
    report.add(settings::judge(path, &outcome));
    let running = process::running(pid_file);
    report.add(process::judge(running, pid_file, process::own_uid()));
    let Some(config) = outcome.ok().and_then(|outcome| outcome.config) else { return report };
    report.add(holds::judge(kept_holds(&config.status_socket)));
    let vm_keys = vm_keys::read(&config, running);
    report.add(vm_keys::judge_files(&config, &vm_keys, running));
    for listener in &config.listeners {
        report.add(settings::keys(listener, running));
        report.add(examine_listener(listener, &config, running));
    }
    report.add(firewall::judge(firewall::inspect(), &config));
    report.add(examine_backend(&config, &vm_keys, running));
    report
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

fn examine_backend(config: &Config, vm_keys: &VmKeys, running: Option<RunningDaemon>) -> Vec<Finding> {
    if let (BackendConfig::Agent { .. }, Err(reason)) = (&config.backend, backends::check(&config.backend)) {
        let remedy = "install a fence_virtd with it, or correct `backend`";
        return vec![Finding::error("backend agent", reason, remedy)];
    }
    let replies = match ask::all(config, running) {
        Ok(replies) => replies,
        Err(reason) => return vec![Finding::error("libvirt", reason, "reinstall libvirt's client library")],
    };
    // The places of the VMs, and those that do not name theirs.
    let (places, unlisted) = places(&replies);
    let mut findings = libvirt::judge(&config.backend, &replies.uris);
    #[cfg(feature = "agent-backend")]
    findings.extend(agents::judge(&replies.agents));
    findings.extend(libvirt::duplicates(&config.backend, &places));
    if let Some(reply) = &replies.cluster {
        findings.extend(cluster::judge(&config.backend, reply, running));
    }
    if let (BackendConfig::Cpg(cpg), Some(reply)) = (&config.backend, &replies.fencer) {
        findings.push(fencer::judge(cpg, reply));
    }
    findings.extend(serial::judge_lines(&replies.lines, &replies.uris));
    findings.extend(groups::judge(&config.backend, &config.groups, &places, &unlisted));
    findings.extend(vm_keys::judge_holders(config, vm_keys, &places, &unlisted));
    findings
}

#[cfg(feature = "agent-backend")]
fn places(replies: &Replies) -> (Vec<UriReply>, Vec<String>) {
    let mut places = replies.uris.clone();
    places.extend(agents::places(&replies.agents));
    (places, agents::without_list(&replies.agents))
}

#[cfg(not(feature = "agent-backend"))]
fn places(replies: &Replies) -> (Vec<UriReply>, Vec<String>) {
    (replies.uris.clone(), Vec::new())
}
