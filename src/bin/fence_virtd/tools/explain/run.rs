//! The program: its output and its exit code.

use std::path::Path;
use std::process::ExitCode;

use super::advice::advise;
use super::asked::AskedRequester;
use super::decision::{Decision, Judged, TargetVm, judge};
use super::known_vms::KnownVms;
use super::ways::{Way, ways};
use crate::access::named;
use crate::config_file;
use crate::console::{complain, print, warn_on_stderr};
use crate::libvirt::FoundDomain;
use fence_virt::config::{Config, ListenerConfig};
use fence_virt::fence::{ListenerName, PowerState, Source, Uuid};

/// Answer of the program, as its exit code tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Allowed = 0,
    Denied = 1,
    Unknown = 2,
}

/// Prints by which listeners the requester comes, its groups and those of the VM, and the decision. Exit code 0:
/// one listener at least allows it; 1: it is denied; 2: that is not known.
pub(crate) fn run(path: &Path, requester: &str, vm: &str) -> ExitCode {
    let unknown = |reason: &str| {
        complain(&format!("fence_virtd: {reason}\n"));
        ExitCode::from(Outcome::Unknown as u8)
    };
    let asked = match AskedRequester::parse(requester) {
        Ok(asked) => asked,
        Err(reason) => return unknown(&reason),
    };
    let config = match config_file::load(path, false, &warn_on_stderr) {
        Ok(config) => config,
        Err(reason) => return unknown(&reason),
    };
    let known = match &asked {
        AskedRequester::Address(_) | AskedRequester::Key(_) => KnownVms::ask(&config, |_, _| false, ""),
        // Any VM that runs may have the CID.
        AskedRequester::Cid(_) => {
            KnownVms::ask(&config, |found, _| found.state.power == PowerState::Running, "")
        }
        AskedRequester::Vm(text) => KnownVms::ask(&config, is_named, text),
    };
    let (text, outcome) = match explain(&config, &asked, vm, &known) {
        Ok(explained) => explained,
        Err(reason) => return unknown(&reason),
    };
    let text = format!("configuration: {}\n{text}", path.display());
    match print(&text) {
        ExitCode::SUCCESS => ExitCode::from(outcome as u8),
        code => code,
    }
}

fn is_named(found: &FoundDomain, text: &str) -> bool {
    match Uuid::parse(text) {
        Some(uuid) => Uuid::parse(&found.uuid) == Some(uuid),
        None => found.name == text,
    }
}

/// Returns the output. Errors: the VM is ambiguous.
fn explain(
    config: &Config,
    asked: &AskedRequester,
    vm: &str,
    known: &KnownVms,
) -> Result<(String, Outcome), String> {
    let target = TargetVm::find(config, known, vm)?;
    let mut lines = vec![format!("requester: {asked}"), format!("VM: {}", target.description)];
    let silent = known.all().filter_map(|place| place.vms.as_ref().err());
    lines.extend(silent.map(|reason| format!("libvirt: {reason}; names and UUIDs are compared as given")));
    if config.groups.is_empty() {
        lines.push("groups: none, so any requester may fence any VM".to_owned());
    }
    let mut outcomes = Vec::new();
    for (listener, way) in ways(config, asked, known) {
        match way {
            Way::Open { source, listed_as } => {
                let judged = judge(config, known, (&listener, &source), &target);
                outcomes.push(outcome(&judged.decision));
                lines.extend(listener_lines(config, &listener, (&source, &listed_as), &target, &judged));
            }
            Way::Closed(reason) => lines.push(format!("listener {listener}: not this way: {reason}")),
            Way::Unknown(reason) => {
                outcomes.push(Outcome::Unknown);
                lines.push(format!("listener {listener}: not known: {reason}"));
            }
        }
    }
    if outcomes.is_empty() && matches!(asked, AskedRequester::Vm(_)) && has_network(config) {
        lines.push("not known: give the address by which the VM sends its requests".to_owned());
        return Ok((lines.join("\n") + "\n", Outcome::Unknown));
    }
    let all = overall(&outcomes);
    lines.push(match all {
        _ if outcomes.is_empty() => {
            "denied: no listener of the configuration takes such a requester".to_owned()
        }
        Outcome::Allowed => "allowed".to_owned(),
        Outcome::Denied => "denied".to_owned(),
        Outcome::Unknown => "not known".to_owned(),
    });
    Ok((lines.join("\n") + "\n", all))
}

/// True if a listener knows requesters by their addresses.
fn has_network(config: &Config) -> bool {
    let is_network =
        |listener: &ListenerConfig| matches!(listener, ListenerConfig::Tcp(_) | ListenerConfig::Multicast(_));
    config.listeners.iter().any(|listener| is_network(&listener.config))
}

fn outcome(decision: &Decision) -> Outcome {
    match decision {
        Decision::Allowed => Outcome::Allowed,
        Decision::Denied(_) => Outcome::Denied,
        Decision::Unknown(_) => Outcome::Unknown,
    }
}

/// One listener that allows it is enough; one that may allow it makes a denial uncertain.
fn overall(outcomes: &[Outcome]) -> Outcome {
    [Outcome::Allowed, Outcome::Unknown]
        .into_iter()
        .find(|outcome| outcomes.contains(outcome))
        .unwrap_or(Outcome::Denied)
}

fn listener_lines(
    config: &Config,
    listener: &ListenerName,
    (source, listed_as): (&Source, &Source),
    target: &TargetVm,
    Judged { decision, groups }: &Judged,
) -> Vec<String> {
    let comes_as = match source {
        Source::Key(keyed) => format!("{}, from any address", keyed.holder),
        other => other.to_string(),
    };
    let mut lines = vec![format!("listener {listener}: the requester comes as {comes_as}")];
    if !groups.is_empty() {
        let of_requester = named(groups.iter().filter(|group| group.has_requester), listener, usize::MAX);
        let of_vm = named(groups.iter().filter(|group| group.has_vm), listener, usize::MAX);
        lines.push(format!("  groups of the requester: {of_requester}"));
        lines.push(format!("  groups of the VM: {of_vm}"));
    }
    match decision {
        Decision::Allowed => lines.push("  allowed".to_owned()),
        Decision::Unknown(reason) => lines.push(format!("  not known: {reason}")),
        Decision::Denied(reason) => {
            let reason = reason.as_deref().unwrap_or("no group of this listener has both requester and VM");
            lines.push(format!("  denied: {reason}"));
            let advice = advise(&config.groups, groups, listener, listed_as, target.best_name());
            for (at, advice) in advice.iter().enumerate() {
                let begins = if at > 0 { "or" } else { "to allow it," };
                lines.push(format!("  {begins} {}:", advice.place));
                lines.push(format!("    {}", advice.line));
                lines.push(format!("    ({})", advice.effect));
            }
        }
    }
    lines
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
