//! Rendering of a snapshot as text and as JSON.

use std::time::Duration;

use super::form::Form;
use super::history;
use super::openmetrics::openmetrics;
use super::snapshot::{
    ClusterState, FencerState, HostFencingState, LaneReport, ListenerState, OldestCall, Snapshot, UriState,
};
use crate::json::{JsonObject, array, quoted};
use fence_virt::fence::{counted, printable};

/// Returns the report in a format.
pub(super) fn render(snapshot: &Snapshot, form: Form) -> String {
    match form {
        Form::Text => text(snapshot),
        Form::Json => json(snapshot),
        Form::OpenMetrics => openmetrics(snapshot),
    }
}

/// Returns a duration for people, such as 3 d 4 h, 12 min 5 s, 7 s.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds % 86_400 / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

fn text(snapshot: &Snapshot) -> String {
    let Snapshot { version, pid, queue, .. } = snapshot;
    let mut lines = vec![format!("fence_virtd {version}, pid {pid}, up {}", span(snapshot.uptime))];
    let worker = match snapshot.busy_for {
        None => "idle".to_owned(),
        Some(busy) => format!("busy for {}", span(busy)),
    };
    lines.push(format!("worker: {worker}; queue: {} of {}", queue.len, queue.max));
    lines.extend(snapshot.uris.iter().map(|uri| format!("libvirt {}: {}", uri.uri, uri_text(uri))));
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
    for listener in &snapshot.listeners {
        lines.push(format!("listener {}: {} open", listener.name, listener.open));
        lines.extend(listener_lines(listener));
    }
    if !snapshot.last_operations.is_empty() {
        lines.push("last power operations:".to_owned());
        lines.extend(snapshot.last_operations.iter().map(|record| format!("  {}", history::line(record))));
    }
    let problems = snapshot.problems();
    lines.push(if problems.is_empty() { "no problems".to_owned() } else { "problems:".to_owned() });
    lines.extend(problems.iter().map(|problem| format!("  {problem}")));
    lines.iter().flat_map(|line| [printable(line), "\n".into()]).collect()
}

/// Returns what makes a lost host count as off.
fn fencing_text(fencing: &HostFencingState) -> String {
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

fn uri_text(uri: &UriState) -> String {
    let reply = match uri.answered {
        None => "no reply yet".to_owned(),
        Some(ago) => format!("last reply {} ago", span(ago)),
    };
    match &uri.closed {
        None => format!("connected, {reply}; {}", lanes_text(&uri.lanes)),
        Some(reason) => format!("not connected, {reply}: {reason}"),
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
    if listener.probes > 0 {
        lines.push(("probes".to_owned(), vec![listener.probes.to_string()]));
    }
    lines.into_iter().map(|(name, counts)| format!("  {name}: {}", counts.join(", "))).collect()
}

fn json(snapshot: &Snapshot) -> String {
    let worker = JsonObject::new()
        .value("well", snapshot.is_worker_healthy)
        .value("busy_seconds", seconds(snapshot.busy_for))
        .value("queue", snapshot.queue.len)
        .value("queue_max", snapshot.queue.max);
    let report = JsonObject::new()
        .string("version", snapshot.version)
        .value("pid", snapshot.pid)
        .value("uptime_seconds", snapshot.uptime.as_secs())
        .value("worker", worker.finish())
        .value("uris", array(snapshot.uris.iter().map(uri_json)))
        .value("cluster", snapshot.cluster.as_ref().map_or("null".to_owned(), cluster_json))
        .value("listeners", array(snapshot.listeners.iter().map(listener_json)))
        .value("last_operations", array(snapshot.last_operations.iter().map(|record| history::json(record))))
        .value("problems", array(snapshot.problems().iter().map(|problem| quoted(problem))));
    report.finish() + "\n"
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("null".to_owned(), |time| format!("{:.3}", time.as_secs_f64()))
}

fn uri_json(uri: &UriState) -> String {
    let oldest = uri.lanes.oldest.as_ref();
    JsonObject::new()
        .string("uri", &uri.uri)
        .value("connected", uri.closed.is_none())
        .optional("reason", uri.closed.as_deref())
        .value("answered_seconds_ago", seconds(uri.answered))
        .value("lanes_busy", uri.lanes.busy)
        .value("lanes_max", uri.lanes.max)
        .value("calls_waiting", uri.lanes.queued)
        .value("oldest_call_seconds", seconds(oldest.map(|oldest| oldest.began.elapsed())))
        .optional("oldest_call", oldest.map(|oldest| oldest.label.as_str()))
        .finish()
}

fn cluster_json(cluster: &ClusterState) -> String {
    JsonObject::new()
        .value("joined", cluster.alone.is_none())
        .optional("reason", cluster.alone.as_deref())
        .value("members", cluster.members)
        .value("under_way", cluster.under_way)
        .value(
            "fencer_connected",
            cluster.fencing.is_connected().map_or("null".to_owned(), |is| is.to_string()),
        )
        .string("host_fencing", &fencing_text(&cluster.fencing))
        .finish()
}

fn listener_json(listener: &ListenerState) -> String {
    let requests = listener.requests.iter().map(|request| {
        JsonObject::new()
            .string("operation", &request.operation.to_string())
            .string("verdict", request.verdict)
            .value("count", request.count)
            .finish()
    });
    let refusals = listener.refusals.iter().map(|refusal| {
        JsonObject::new().string("reason", refusal.reason).value("count", refusal.count).finish()
    });
    JsonObject::new()
        .string("name", &listener.name)
        .value("open", listener.open)
        .value("requests", array(requests))
        .value("refusals", array(refusals))
        .value("probes", listener.probes)
        .finish()
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
