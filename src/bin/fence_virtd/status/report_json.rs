//! Rendering of a snapshot and its judgement as JSON.

use std::time::Duration;

use super::history;
use super::judgement::Judgement;
use super::place::ListeningPlace;
use super::snapshot::{ClusterState, ListenerState, Snapshot, UriState};
use super::text::fencing_text;
use crate::json::{JsonObject, array, quoted};
use fence_virt::restraints::PowerHold;

/// Returns the report: one object in one line.
pub(super) fn report_json(snapshot: &Snapshot, judgement: &Judgement) -> String {
    let worker = JsonObject::new()
        .value("well", snapshot.is_worker_healthy)
        .value("busy_seconds", seconds(snapshot.busy_for))
        .value("queue", snapshot.queue.len)
        .value("queue_max", snapshot.queue.max);
    let refused = snapshot.refused_reload.as_ref();
    let sentences = |sentences: &[String]| array(sentences.iter().map(|sentence| quoted(sentence)));
    let report = JsonObject::new()
        .value("up", true)
        .value("well", judgement.is_well())
        .string("version", snapshot.version)
        .value("pid", snapshot.pid)
        .value("uptime_seconds", snapshot.uptime.as_secs())
        .string("configuration", &snapshot.config.to_string_lossy())
        .optional("reload_refused", refused.map(|refused| refused.reason.as_str()))
        .value("reload_refused_seconds_ago", seconds(refused.map(|refused| refused.at.elapsed())))
        .value("worker", worker.finish())
        .value("uris", array(snapshot.uris.iter().map(uri_json)))
        .value("cluster", snapshot.cluster.as_ref().map_or("null".to_owned(), cluster_json))
        .value("vm_keys", snapshot.vm_keys)
        .value("listeners", array(snapshot.listeners.iter().map(listener_json)))
        .value("holds", array(snapshot.restraints.holds.iter().map(hold_json)))
        .value("refused_by_hold", snapshot.restraints.refused_by_hold)
        .value("refused_by_cap", snapshot.restraints.refused_by_cap)
        .value("last_operations", array(snapshot.last_operations.iter().map(|record| history::json(record))))
        .value("problems", sentences(&judgement.problems))
        .value("warnings", sentences(&judgement.warnings));
    report.finish() + "\n"
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("null".to_owned(), |time| format!("{:.3}", time.as_secs_f64()))
}

fn uri_json(uri: &UriState) -> String {
    let oldest = uri.lanes.oldest.as_ref();
    JsonObject::new()
        .string("uri", &uri.uri)
        .value("connected", uri.obstacle.is_none())
        .optional("reason", uri.obstacle.as_deref())
        .value("answered_seconds_ago", seconds(uri.answered))
        .value("lanes_busy", uri.lanes.busy)
        .value("lanes_max", uri.lanes.max)
        .value("calls_waiting", uri.lanes.queued)
        .value("oldest_call_seconds", seconds(oldest.map(|oldest| oldest.began.elapsed())))
        .optional("oldest_call", oldest.map(|oldest| oldest.label.as_str()))
        .finish()
}

fn hold_json(hold: &PowerHold) -> String {
    JsonObject::new()
        .string("on", hold.subject.as_str())
        .string("since", &hold.begun.to_string())
        .string("until", &hold.ends.to_string())
        .string("reason", hold.reason.as_str())
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
        JsonObject::new()
            .string("reason", refusal.reason)
            .value("count", refusal.count)
            .value("in_a_row", refusal.streak.map_or(0, |streak| streak.count))
            .finish()
    });
    let reception = &listener.reception;
    let names = |names: &[String]| array(names.iter().map(|name| quoted(name)));
    with_place(JsonObject::new().string("name", &listener.name), &listener.place)
        .optional("key_fingerprint", listener.keys.map(|keys| keys.key.to_string()).as_deref())
        .optional(
            "old_key_fingerprint",
            listener.keys.and_then(|keys| keys.old).map(|old| old.to_string()).as_deref(),
        )
        .value("listening", !reception.is_deaf)
        .value("listening_on", names(&reception.open))
        .value("not_listening", names(&reception.faults))
        .value("not_listening_seconds", seconds(reception.deaf_for))
        .value("open", listener.open)
        .value("requests", array(requests))
        .value("refusals", array(refusals))
        .value("probes", listener.probes)
        .value("version_1_requests", listener.version_1)
        .finish()
}

/// Adds where a listener listens; null where its kind has no such thing.
fn with_place(object: JsonObject, place: &ListeningPlace) -> JsonObject {
    let (address, port, interface, directory) = match place {
        ListeningPlace::Network { address, port, interface } => {
            (Some(address.to_string()), Some(u32::from(*port)), interface.clone(), None)
        }
        ListeningPlace::Vsock { port } => (None, Some(*port), None, None),
        ListeningPlace::Sockets { directory, .. } => {
            (None, None, None, directory.as_ref().map(|path| path.to_string_lossy().into_owned()))
        }
    };
    object
        .optional("address", address.as_deref())
        .value("port", port.map_or_else(|| "null".to_owned(), |port| port.to_string()))
        .optional("interface", interface.as_deref())
        .optional("directory", directory.as_deref())
}
