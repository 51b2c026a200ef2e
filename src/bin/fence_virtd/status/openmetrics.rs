//! Rendering of a snapshot as OpenMetrics 1.0.

use std::fmt::Display;

use super::judgement::Judgement;
use super::snapshot::Snapshot;

const UP_HELP: &str = "1 if the daemon answers.";
const WELL_HELP: &str = "1 if there are no problems.";
/// Last line of a report.
const END: &str = "# EOF\n";

/// Metric families, the samples of each together, as OpenMetrics requires.
struct Metrics(String);

/// Sample of a family: labels and value.
type Sample = (String, String);

impl Metrics {
    /// Adds a gauge with one sample and no labels.
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help, [(String::new(), value.to_string())]);
    }

    /// Adds a family, unless it has no samples.
    fn family(&mut self, name: &str, kind: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() {
            self.0 += &format!("# TYPE fence_virtd_{name} {kind}\n# HELP fence_virtd_{name} {help}\n");
        }
        let suffix = if kind == "counter" { "_total" } else { "" };
        for (labels, value) in samples {
            self.0 += &format!("fence_virtd_{name}{suffix}{labels} {value}\n");
        }
    }
}

/// Returns labels in braces. Backslashes, quotes and line feeds of their values are escaped.
fn labels(labels: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let label = |(name, value): &(&str, &str)| format!("{name}=\"{}\"", escaped(value));
    format!("{{{}}}", labels.iter().map(label).collect::<Vec<_>>().join(","))
}

/// Returns the report for a daemon that does not answer.
pub(super) fn openmetrics_down() -> String {
    let mut out = Metrics(String::new());
    out.gauge("up", UP_HELP, 0);
    out.gauge("well", WELL_HELP, 0);
    out.0 + END
}

/// Returns the report.
pub(super) fn openmetrics(snapshot: &Snapshot, judgement: &Judgement) -> String {
    let Snapshot { uris, listeners, .. } = snapshot;
    let mut out = Metrics(String::new());
    out.gauge("up", UP_HELP, 1);
    out.gauge("well", WELL_HELP, u8::from(judgement.is_well()));
    out.gauge("problems", "Problems that the status report names.", judgement.problems.len());
    out.gauge("warnings", "Warnings that the status report names.", judgement.warnings.len());
    let build =
        labels(&[("version", snapshot.version), ("configuration", &snapshot.config.to_string_lossy())]);
    out.family(
        "build_info",
        "gauge",
        "1, with the version and the configuration.",
        [(build, "1".to_owned())],
    );
    out.gauge("uptime_seconds", "Seconds since the start.", snapshot.uptime.as_secs());
    out.gauge(
        "reload_taken",
        "1 unless the last reload was refused.",
        u8::from(snapshot.refused_reload.is_none()),
    );
    out.gauge("worker_well", "1 unless the worker is stuck.", u8::from(snapshot.is_worker_healthy));
    out.gauge("queue", "Messages in the worker's queue.", snapshot.queue.len);
    let connected =
        uris.iter().map(|uri| (labels(&[("uri", &uri.uri)]), u8::from(uri.obstacle.is_none()).to_string()));
    out.family("uri_connected", "gauge", "1 if this libvirt URI or agent answers.", connected);
    let answered = uris.iter().filter_map(|uri| {
        Some((labels(&[("uri", &uri.uri)]), format!("{:.3}", uri.answered?.as_secs_f64())))
    });
    out.family("uri_answered_seconds", "gauge", "Seconds since its last reply.", answered);
    let busy = uris.iter().map(|uri| (labels(&[("uri", &uri.uri)]), uri.lanes.busy.to_string()));
    out.family("uri_lanes_busy", "gauge", "Calls in progress that may take long.", busy);
    let waiting = uris.iter().map(|uri| (labels(&[("uri", &uri.uri)]), uri.lanes.queued.to_string()));
    out.family("uri_calls_waiting", "gauge", "Calls that wait for a lane.", waiting);
    let oldest = uris.iter().filter_map(|uri| {
        let seconds = uri.lanes.oldest.as_ref()?.began.elapsed().as_secs_f64();
        Some((labels(&[("uri", &uri.uri)]), format!("{seconds:.3}")))
    });
    out.family("uri_oldest_call_seconds", "gauge", "Duration so far of the oldest of these calls.", oldest);
    if let Some(cluster) = &snapshot.cluster {
        let joined = u8::from(cluster.alone.is_none());
        out.gauge("cluster_joined", "1 if this host is in the cluster's group.", joined);
        out.gauge("cluster_members", "Members of the cluster's group.", cluster.members);
        if let Some(is_connected) = cluster.fencing.is_connected() {
            out.gauge("fencer_connected", "1 if pacemaker's fencer answers.", u8::from(is_connected));
        }
    }
    out.gauge("holds", "Holds in force.", snapshot.restraints.holds.len());
    let restraints = &snapshot.restraints;
    let refused = [("hold", restraints.refused_by_hold), ("cap", restraints.refused_by_cap)];
    out.family(
        "restrained",
        "counter",
        "Power operations that a hold or max_power_off has refused.",
        refused.map(|(by, count)| (labels(&[("by", by)]), count.to_string())),
    );
    out.gauge("vm_keys", "Keys of VMs in force.", snapshot.vm_keys);
    let up = listeners.iter().map(|listener| {
        (labels(&[("listener", &listener.name)]), u8::from(!listener.reception.is_deaf).to_string())
    });
    out.family("listener_up", "gauge", "1 if this listener listens.", up);
    let open = listeners.iter().map(|it| (labels(&[("listener", &it.name)]), it.open.to_string()));
    out.family("open", "gauge", "Open connections, or lines of VMs.", open);
    let requests = listeners.iter().flat_map(|listener| {
        listener.requests.iter().map(|request| {
            let operation = request.operation.to_string();
            let names =
                [("listener", &*listener.name), ("operation", &operation), ("verdict", request.verdict)];
            (labels(&names), request.count.to_string())
        })
    });
    out.family("requests", "counter", "Answered requests.", requests);
    let refusals = listeners.iter().flat_map(|listener| {
        listener.refusals.iter().map(|refusal| {
            let names = [("listener", &*listener.name), ("reason", refusal.reason)];
            (labels(&names), refusal.count.to_string())
        })
    });
    out.family("refusals", "counter", "Refused requests and connections, by reason.", refusals);
    let in_a_row = listeners.iter().flat_map(|listener| {
        let streaks = listener.refusals.iter().filter_map(|it| Some((it.reason, it.streak?.count)));
        streaks.map(|(reason, count)| {
            (labels(&[("listener", &*listener.name), ("reason", reason)]), count.to_string())
        })
    });
    out.family(
        "refusals_in_a_row",
        "gauge",
        "Refusals since the last request that was carried out, by reason.",
        in_a_row,
    );
    let probes = listeners.iter().map(|it| (labels(&[("listener", &it.name)]), it.probes.to_string()));
    out.family("probes", "counter", "Questions of agents that probe for late answers.", probes);
    let older = listeners.iter().map(|it| (labels(&[("listener", &it.name)]), it.version_1.to_string()));
    out.family(
        "version_1_requests",
        "counter",
        "Answered requests with an older hash than hmac-sha256.",
        older,
    );
    out.0 + END
}
