//! Rendering of a snapshot as OpenMetrics 1.0.

use std::fmt::Display;

use super::snapshot::{ListenerState, Snapshot, UriState};

/// Metric families, the samples of each together, as OpenMetrics requires.
struct Metrics(String);

/// Label names and values of a sample.
type Labels<'a> = [(&'static str, &'a str)];

impl Metrics {
    /// Adds a gauge with one sample and no labels.
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.0 += &format!("# TYPE fence_virtd_{name} {kind}\n# HELP fence_virtd_{name} {help}\n");
    }

    /// Adds a sample to the last family.
    fn sample(&mut self, name: &str, labels: &Labels, value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| label(name, value)).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.0 += &format!("fence_virtd_{name}{labels} {value}\n");
    }
}

/// Returns a label; backslash, quote and line feed of its value are escaped.
fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

/// Returns the report. Families without samples are left out.
pub(super) fn openmetrics(snapshot: &Snapshot) -> String {
    let mut out = Metrics(String::new());
    out.gauge("uptime_seconds", "Seconds since the start.", snapshot.uptime.as_secs());
    out.gauge("well", "1 if there are no problems.", u8::from(snapshot.problems().is_empty()));
    out.gauge("worker_well", "1 unless the worker is stuck.", u8::from(snapshot.is_worker_healthy));
    out.gauge("queue", "Messages in the worker's queue.", snapshot.queue.len);
    uris(&snapshot.uris, &mut out);
    if let Some(cluster) = &snapshot.cluster {
        let joined = u8::from(cluster.alone.is_none());
        out.gauge("cluster_joined", "1 if this host is in the cluster's group.", joined);
        out.gauge("cluster_members", "Members of the cluster's group.", cluster.members);
    }
    listeners(&snapshot.listeners, &mut out);
    out.0 + "# EOF\n"
}

fn uris(uris: &[UriState], out: &mut Metrics) {
    if !uris.is_empty() {
        out.family("uri_connected", "gauge", "1 if this libvirt URI is connected.");
    }
    for uri in uris {
        out.sample("uri_connected", &[("uri", &uri.uri)], u8::from(uri.closed.is_none()));
    }
    if uris.iter().any(|uri| uri.answered.is_some()) {
        out.family("uri_answered_seconds", "gauge", "Seconds since libvirt's last reply.");
    }
    for (uri, ago) in uris.iter().filter_map(|uri| Some((&uri.uri, uri.answered?))) {
        out.sample("uri_answered_seconds", &[("uri", uri)], format_args!("{:.3}", ago.as_secs_f64()));
    }
}

fn listeners(listeners: &[ListenerState], out: &mut Metrics) {
    if !listeners.is_empty() {
        out.family("open", "gauge", "Open connections, or lines of VMs.");
    }
    for listener in listeners {
        out.sample("open", &[("listener", &listener.name)], listener.open);
    }
    if listeners.iter().any(|listener| !listener.requests.is_empty()) {
        out.family("requests", "counter", "Answered requests.");
    }
    for listener in listeners {
        for request in &listener.requests {
            let operation = request.operation.to_string();
            let labels =
                [("listener", &*listener.name), ("operation", &*operation), ("verdict", request.verdict)];
            out.sample("requests_total", &labels, request.count);
        }
    }
    if listeners.iter().any(|listener| !listener.refusals.is_empty()) {
        out.family("refusals", "counter", "Refused requests and connections, by reason.");
    }
    for listener in listeners {
        for refusal in &listener.refusals {
            let labels = [("listener", &*listener.name), ("reason", refusal.reason)];
            out.sample("refusals_total", &labels, refusal.count);
        }
    }
}
