//! The program: its output and its exit code.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use super::advice::{Advice, advise, withhold};
use super::asked::AskedRequester;
use super::decision::{Decision, Judged, TargetVm, judge};
use super::known_vms::{KnownVms, UriVms};
use super::ways::{Way, ways};
use crate::access::{GroupMembership, named, policies};
use crate::config_file;
use crate::console::{complain, print, warn_on_stderr};
use crate::libvirt::FoundDomain;
use fence_virt::config::{Config, ListenerConfig};
use fence_virt::fence::{ListenerName, Operation, PowerState, Rights, Source, Uuid};
use fence_virt::restraints::{NamedVm, RestrainedGroup};

/// Answer of the program, as its exit code tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Allowed = 0,
    Denied = 1,
    Unknown = 2,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Allowed => "allowed",
            Outcome::Denied => "denied",
            Outcome::Unknown => "not known",
        })
    }
}

/// Prints by which listeners the requester comes, its groups and those of the VM, and the decision about an
/// operation, or about all. Exit code 0: one listener at least allows it; 1: it is denied, or of all operations
/// some are; 2: that is not known.
pub(crate) fn run(path: &Path, requester: &str, vm: &str, operation: Option<Operation>) -> ExitCode {
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
    let (text, outcome) = match explain(&config, &asked, (vm, operation), &known) {
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
    (vm, operation): (&str, Option<Operation>),
    known: &KnownVms,
) -> Result<(String, Outcome), String> {
    let target = TargetVm::find(config, known, vm)?;
    let operations = operation.map_or_else(Rights::all, |operation| [operation].into_iter().collect());
    let mut lines = vec![format!("requester: {asked}"), format!("VM: {}", target.description)];
    lines.extend(operation.map(|_| format!("operation: {operations}")));
    let silent = |place: &UriVms| place.vms.as_ref().err().cloned();
    let uris = known.uris().filter_map(silent).map(|reason| format!("libvirt: {reason}"));
    let agents = known.agents.iter().filter_map(silent).map(|reason| format!("agents: {reason}"));
    lines.extend(uris.chain(agents).map(|line| format!("{line}; names and UUIDs are compared as given")));
    if config.groups.is_empty() {
        lines.push("groups: none, so any requester may fence any VM".to_owned());
    }
    lines.extend(cap_lines(config, &target));
    // By each listener that the requester may come by.
    let mut outcomes: Vec<Vec<(Operation, Outcome)>> = Vec::new();
    for (listener, way) in ways(config, asked, known) {
        match way {
            Way::Open { source, listed_as } => {
                let judged = judge(config, known, (&listener, &source), &target, operations);
                let decisions = judged.decisions.iter();
                outcomes
                    .push(decisions.map(|(operation, decision)| (*operation, outcome(decision))).collect());
                lines.extend(listener_lines(config, &listener, (&source, &listed_as), &target, &judged));
            }
            Way::Closed(reason) => lines.push(format!("listener {listener}: not this way: {reason}")),
            Way::Unknown(reason) => {
                outcomes.push(operations.iter().map(|operation| (operation, Outcome::Unknown)).collect());
                lines.push(format!("listener {listener}: not known: {reason}"));
            }
        }
    }
    if outcomes.is_empty() && matches!(asked, AskedRequester::Vm(_)) && has_network(config) {
        lines.push("not known: give the address by which the VM sends its requests".to_owned());
        return Ok((lines.join("\n") + "\n", Outcome::Unknown));
    }
    if outcomes.is_empty() {
        lines.push("denied: no listener of the configuration takes such a requester".to_owned());
        return Ok((lines.join("\n") + "\n", Outcome::Denied));
    }
    let of_each: Vec<(Operation, Outcome)> =
        operations.iter().map(|operation| (operation, overall(operation, &outcomes))).collect();
    let mut parts = by_value(&of_each);
    parts.sort_by_key(|(_, outcome)| *outcome as u8);
    lines.push(match parts[..] {
        [(_, outcome)] => outcome.to_string(),
        _ => {
            let part = |(operations, outcome): &(Rights, Outcome)| format!("{outcome}: {operations}");
            parts.iter().map(part).collect::<Vec<_>>().join("; ")
        }
    });
    let worst = [Outcome::Denied, Outcome::Unknown]
        .into_iter()
        .find(|worst| parts.iter().any(|(_, outcome)| outcome == worst));
    Ok((lines.join("\n") + "\n", worst.unwrap_or(Outcome::Allowed)))
}

/// Operations with the same value, in the order of their first ones.
fn by_value<T: Clone + PartialEq>(all: &[(Operation, T)]) -> Vec<(Rights, T)> {
    let mut parts: Vec<(Rights, T)> = Vec::new();
    for (operation, value) in all {
        let one = [*operation].into_iter().collect();
        match parts.iter_mut().find(|(_, other)| other == value) {
            Some((operations, _)) => *operations = operations.with(one),
            None => parts.push((one, value.clone())),
        }
    }
    parts
}

/// Returns the caps of the VM's groups. They limit power-offs by whatever requester.
fn cap_lines(config: &Config, target: &TargetVm) -> Vec<String> {
    let copies: Vec<NamedVm<'_>> =
        target.copies.iter().map(|copy| NamedVm { name: &copy.name, uuid: &copy.uuid }).collect();
    let groups = policies::restrained_groups(config);
    let capped = groups.iter().filter(|group| group.lists(&copies));
    let line = |group: &RestrainedGroup| {
        let cap = group.cap()?;
        Some(format!("max_power_off of group {}: {cap}, for all requesters together", group.label()))
    };
    capped.filter_map(line).collect()
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

/// One listener that allows an operation is enough; one that may allow it makes a denial uncertain.
fn overall(operation: Operation, outcomes: &[Vec<(Operation, Outcome)>]) -> Outcome {
    [Outcome::Allowed, Outcome::Unknown]
        .into_iter()
        .find(|outcome| outcomes.iter().flatten().any(|found| *found == (operation, *outcome)))
        .unwrap_or(Outcome::Denied)
}

fn listener_lines(
    config: &Config,
    listener: &ListenerName,
    (source, listed_as): (&Source, &Source),
    target: &TargetVm,
    Judged { decisions, groups }: &Judged,
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
    let mut parts = by_value(decisions);
    parts.sort_by_key(|(_, decision)| outcome(decision) as u8);
    for (operations, decision) in &parts {
        let of = if parts.len() > 1 { format!(" ({operations})") } else { String::new() };
        match decision {
            Decision::Allowed => lines.push(format!("  allowed{of}")),
            Decision::Unknown(reason) => lines.push(format!("  not known{of}: {reason}")),
            Decision::Denied(reason) => {
                let reason = reason.as_deref().unwrap_or_else(|| denial(groups, *operations));
                lines.push(format!("  denied{of}: {reason}"));
                let way = (listener, listed_as);
                lines.extend(advice_lines(&advise(
                    &config.groups,
                    groups,
                    way,
                    target.best_name(),
                    *operations,
                )));
            }
        }
    }
    lines
}

/// Reason why the groups deny operations.
fn denial(groups: &[GroupMembership], operations: Rights) -> &'static str {
    match withhold(groups, operations) {
        true => "no group of this listener with both requester and VM allows it",
        false => "no group of this listener has both requester and VM",
    }
}

fn advice_lines(advice: &[Advice]) -> Vec<String> {
    let mut lines = Vec::new();
    for (at, advice) in advice.iter().enumerate() {
        let begins = if at > 0 { "or" } else { "to allow it," };
        lines.push(format!("  {begins} {}:", advice.place));
        lines.push(format!("    {}", advice.line));
        lines.push(format!("    ({})", advice.effect));
    }
    lines
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
