//! Rendering of a snapshot and its judgement as text.

use super::counts::VERDICTS;
use super::history;
use super::judgement::Judgement;
use super::place::ListeningPlace;
use super::snapshot::{
    FencerState, HostFencingState, KeyNames, LaneReport, ListenerState, OldestCall, Snapshot, UriState,
};
use super::span::span;
use super::table::table;
use crate::restraints::RestraintReport;
use fence_virt::fence::{Operation, counted, printable};
use fence_virt::restraints::PowerHold;

/// Maximum of names in a line.
const NAMES_MAX: usize = 6;

/// Name of the requests of version 1 of the protocol.
const OLDER_HASH: &str = "with an older hash";

/// Form of the listeners' counters in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counters {
    /// Below each listener, in lines as short as they can be.
    Lines,
    /// In one table for all listeners.
    Table,
}

/// Returns the report for people.
pub(super) fn text(snapshot: &Snapshot, judgement: &Judgement, counters: Counters) -> String {
    let Snapshot { version, pid, queue, listeners, .. } = snapshot;
    let mut lines = vec![
        format!("fence_virtd {version}, pid {pid}, up {}", span(snapshot.uptime)),
        format!("configuration: {}", snapshot.config.display()),
    ];
    let worker = match snapshot.busy_for {
        None => "idle".to_owned(),
        Some(busy) => format!("busy for {}", span(busy)),
    };
    lines.push(format!("worker: {worker}; queue: {} of {}", queue.len, queue.max));
    lines.extend(snapshot.uris.iter().map(uri_line));
    if let Some(cluster) = &snapshot.cluster {
        lines.push(match &cluster.alone {
            Some(reason) => format!("cluster: not in the group: {reason}"),
            None => format!(
                "cluster: {}, {} in flight",
                counted(cluster.members, "member"),
                counted(cluster.under_way, "request")
            ),
        });
        lines.push(format!("host fencing: {}", fencing_text(&cluster.fencing)));
    }
    if snapshot.vm_keys > 0 {
        lines.push(format!("keys of VMs: {}", snapshot.vm_keys));
    }
    for listener in listeners {
        lines.push(listener_text(listener));
        if counters == Counters::Lines {
            lines.extend(listener_lines(listener));
        }
    }
    if counters == Counters::Table {
        lines.extend(counter_table(listeners));
    }
    lines.extend(restraint_lines(&snapshot.restraints));
    if !snapshot.last_operations.is_empty() {
        lines.push("last power operations:".to_owned());
        lines.extend(snapshot.last_operations.iter().map(|record| format!("  {}", history::line(record))));
    }
    lines.extend(judgement_lines(judgement));
    lines.iter().flat_map(|line| [printable(line), "\n".into()]).collect()
}

/// Returns the holds, the caps, and the number of operations that they have refused.
fn restraint_lines(restraints: &RestraintReport) -> Vec<String> {
    let RestraintReport { holds, caps, refused_by_hold, refused_by_cap } = restraints;
    let hold = |hold: &PowerHold| {
        let PowerHold { subject, reason, begun, ends } = hold;
        format!("hold on {:?}: since {begun}, until {ends}: {}", subject.as_str(), reason.as_str())
    };
    let mut lines: Vec<String> = holds.iter().map(hold).collect();
    if *refused_by_hold > 0 {
        lines.push(format!("refused because of holds: {}", counted(*refused_by_hold, "power operation")));
    }
    if !caps.is_empty() || *refused_by_cap > 0 {
        let groups = if caps.is_empty() { "no group".to_owned() } else { cut(caps) };
        let refused = counted(*refused_by_cap, "power operation");
        lines.push(format!("max_power_off: {groups}; refused: {refused}"));
    }
    lines
}

/// Returns the problems and the warnings, each in a line that begins with its severity.
fn judgement_lines(Judgement { problems, warnings }: &Judgement) -> Vec<String> {
    let no_problems = problems.is_empty().then(|| "no problems".to_owned());
    let problems = problems.iter().map(|problem| format!("ERROR    {problem}"));
    let warnings = warnings.iter().map(|warning| format!("warning  {warning}"));
    problems.chain(warnings).chain(no_problems).collect()
}

/// Returns the line about a listener: where it listens, its key, its connections.
fn listener_text(listener: &ListenerState) -> String {
    let ListenerState { name, place, reception, keys, open, .. } = listener;
    let key = match keys {
        None => String::new(),
        Some(KeyNames { key, old: None }) => format!(", key {key}"),
        Some(KeyNames { key, old: Some(old) }) => format!(", key {key}, old key {old}"),
    };
    let interface = match place {
        ListeningPlace::Network { interface: Some(interface), .. } => format!(" on {interface}"),
        ListeningPlace::Network { address, .. } if address.is_multicast() && !reception.open.is_empty() => {
            format!(" on {}", cut(&reception.open))
        }
        _ => String::new(),
    };
    let state = if reception.is_deaf { "NOT LISTENING" } else { "listening" };
    format!("listener {name}: {state}: {place}{interface}{key}; {open} open")
}

/// Returns the first names of a list, and how many more there are.
fn cut(names: &[String]) -> String {
    match names.len().saturating_sub(NAMES_MAX) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..NAMES_MAX].join(", ")),
    }
}

/// Returns what makes a lost host count as off.
pub(super) fn fencing_text(fencing: &HostFencingState) -> String {
    let fencer = match &fencing.fencer {
        None => "pacemaker is not asked".to_owned(),
        Some(FencerState::Unknown) => "pacemaker has not answered yet".to_owned(),
        Some(FencerState::Absent(reason) | FencerState::Lost(reason)) => {
            format!("no fence is known: {reason}")
        }
        Some(FencerState::Connected(library)) => format!("pacemaker answers ({library})"),
    };
    match fencing.delay {
        None => format!("{fencer}; host_fence_delay is not set"),
        Some(delay) => format!("{fencer}; host_fence_delay is {} s", delay.as_secs()),
    }
}

/// Returns the line about a place of VMs: a libvirt URI, or an agent.
fn uri_line(uri: &UriState) -> String {
    let (what, works) = match uri.is_agent {
        true => ("", "works"),
        false => ("libvirt ", "connected"),
    };
    let reply = match uri.answered {
        None => "no reply yet".to_owned(),
        Some(ago) => format!("last reply {} ago", span(ago)),
    };
    match &uri.obstacle {
        None => format!("{what}{}: {works}, {reply}; {}", uri.uri, lanes_text(&uri.lanes)),
        Some(reason) => format!("{what}{}: NOT AVAILABLE, {reply}: {reason}", uri.uri),
    }
}

fn lanes_text(lanes: &LaneReport) -> String {
    let LaneReport { busy, max, queued, oldest } = lanes;
    let mut text = format!("{busy} of {max} lanes busy");
    if *queued > 0 {
        text += &format!(", {} waiting", counted(*queued, "call"));
    }
    if let Some(OldestCall { label, began }) = oldest {
        text += &format!(", oldest call {}: {label}", span(began.elapsed()));
    }
    text
}

fn listener_lines(listener: &ListenerState) -> Vec<String> {
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for request in &listener.requests {
        let name = request.operation.to_string();
        let count = format!("{} {}", request.count, request.verdict);
        match lines.last_mut().filter(|(last, _)| *last == name) {
            Some((_, counts)) => counts.push(count),
            None => lines.push((name, vec![count])),
        }
    }
    let refused = listener.refusals.iter().map(|refusal| format!("{} {}", refusal.count, refusal.reason));
    let refused: Vec<String> = refused.collect();
    if !refused.is_empty() {
        lines.push(("refused".to_owned(), refused));
    }
    for (name, count) in [("probes", listener.probes), (OLDER_HASH, listener.version_1)] {
        if count > 0 {
            lines.push((name.to_owned(), vec![count.to_string()]));
        }
    }
    lines.into_iter().map(|(name, counts)| format!("  {name}: {}", counts.join(", "))).collect()
}

/// Returns a table with the counters of all listeners: requests by operation and verdict, refusals by reason.
fn counter_table(listeners: &[ListenerState]) -> Vec<String> {
    let heads = ["LISTENER", "OPERATION"].map(str::to_owned).into_iter();
    let verdicts = VERDICTS.map(str::to_uppercase).into_iter();
    let mut rows = vec![heads.chain(verdicts).collect::<Vec<String>>()];
    for listener in listeners {
        let of = |operation, verdict: &str| {
            let mut counts = listener.requests.iter();
            let found = counts.find(|it| it.operation == operation && it.verdict == verdict);
            found.map_or_else(|| "-".to_owned(), |it| it.count.to_string())
        };
        let mut operations: Vec<Operation> = listener.requests.iter().map(|it| it.operation).collect();
        operations.dedup();
        rows.extend(operations.into_iter().map(|operation| {
            let names = [listener.name.clone(), operation.to_string()].into_iter();
            names.chain(VERDICTS.map(|verdict| of(operation, verdict))).collect()
        }));
        rows.extend(listener.refusals.iter().map(|refusal| {
            vec![listener.name.clone(), "refused".to_owned(), format!("{} {}", refusal.count, refusal.reason)]
        }));
        for (name, count) in [("probes", listener.probes), (OLDER_HASH, listener.version_1)] {
            if count > 0 {
                rows.push(vec![listener.name.clone(), name.to_owned(), count.to_string()]);
            }
        }
    }
    if rows.len() == 1 { Vec::new() } else { table(&rows) }
}
