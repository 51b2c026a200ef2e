//! A snapshot as text, as JSON, and as OpenMetrics.

use std::time::Duration;

use crate::logging::quoted;

use super::snapshot::{ListenerState, Snapshot, UriState};

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// One JSON object.
    Json,
    /// The exposition of OpenMetrics 1.0, for a node exporter's textfile collector.
    OpenMetrics,
}

impl Form {
    /// Its name in a question.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Form::Text => "text",
            Form::Json => "json",
            Form::OpenMetrics => "openmetrics",
        }
    }

    /// The form of this name.
    pub(super) fn of_word(word: &str) -> Option<Form> {
        [Form::Text, Form::Json, Form::OpenMetrics].into_iter().find(|form| form.word() == word)
    }
}

/// The report in a form.
pub(super) fn render(snapshot: &Snapshot, form: Form) -> String {
    match form {
        Form::Text => text(snapshot),
        Form::Json => json(snapshot),
        Form::OpenMetrics => openmetrics(snapshot),
    }
}

/// A span of time, like 3 d 4 h, 12 min 5 s, 7 s.
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
    let mut lines = vec![format!("fence_virtd {version}, process {pid}, runs for {}", span(snapshot.uptime))];
    let worker = match snapshot.busy {
        None => "waits".to_owned(),
        Some(busy) => format!("has been at work for {}", span(busy)),
    };
    lines.push(format!("worker: {worker}; {} of {} places of its queue are taken", queue.0, queue.1));
    lines.extend(snapshot.uris.iter().map(|uri| format!("libvirt {}: {}", uri.uri, uri_text(uri))));
    if let Some(cluster) = &snapshot.cluster {
        lines.push(match &cluster.alone {
            Some(reason) => format!("cluster: not in the group: {reason}"),
            None => format!("cluster: {} members, {} requests under way", cluster.members, cluster.under_way),
        });
    }
    for listener in &snapshot.listeners {
        lines.push(format!("listener {}: {} open", listener.name, listener.open));
        lines.extend(listener_lines(listener));
    }
    let problems = snapshot.problems();
    lines.push(if problems.is_empty() { "all is well".to_owned() } else { "problems:".to_owned() });
    lines.extend(problems.iter().map(|problem| format!("  {problem}")));
    lines.iter().map(|line| line.replace(char::is_control, " ") + "\n").collect()
}

fn uri_text(uri: &UriState) -> String {
    let answered = match uri.answered {
        None => "has never answered".to_owned(),
        Some(ago) => format!("last answered {} ago", span(ago)),
    };
    match &uri.closed {
        None => format!("connected, {answered}"),
        Some(reason) => format!("not connected, {answered}: {reason}"),
    }
}

fn listener_lines(listener: &ListenerState) -> Vec<String> {
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for (operation, verdict, count) in &listener.requests {
        let (name, count) = (operation.to_string(), format!("{count} {verdict}"));
        match lines.last_mut().filter(|(last, _)| *last == name) {
            Some((_, counts)) => counts.push(count),
            None => lines.push((name, vec![count])),
        }
    }
    let refused: Vec<String> =
        listener.refusals.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    if !refused.is_empty() {
        lines.push(("refused".to_owned(), refused));
    }
    lines.into_iter().map(|(name, counts)| format!("  {name}: {}", counts.join(", "))).collect()
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("null".to_owned(), |time| format!("{:.3}", time.as_secs_f64()))
}

fn json(snapshot: &Snapshot) -> String {
    let listener = |listener: &ListenerState| {
        let requests = listener.requests.iter().map(|(operation, verdict, count)| {
            format!("{{\"operation\":\"{operation}\",\"verdict\":\"{verdict}\",\"count\":{count}}}")
        });
        let refusals = listener
            .refusals
            .iter()
            .map(|(reason, count)| format!("{{\"reason\":\"{reason}\",\"count\":{count}}}"));
        format!(
            "{{\"name\":{},\"open\":{},\"requests\":{},\"refusals\":{}}}",
            quoted(&listener.name),
            listener.open,
            list(requests),
            list(refusals)
        )
    };
    let optional = |text: &Option<String>| text.as_deref().map_or("null".to_owned(), quoted);
    let uri = |uri: &UriState| {
        let (name, closed, answered) = (quoted(&uri.uri), optional(&uri.closed), seconds(uri.answered));
        let is_open = uri.closed.is_none();
        format!(
            "{{\"uri\":{name},\"connected\":{is_open},\"reason\":{closed},\"answered_seconds_ago\":{answered}}}"
        )
    };
    let cluster = snapshot.cluster.as_ref().map_or("null".to_owned(), |cluster| {
        format!(
            "{{\"joined\":{},\"reason\":{},\"members\":{},\"under_way\":{}}}",
            cluster.alone.is_none(),
            optional(&cluster.alone),
            cluster.members,
            cluster.under_way
        )
    });
    format!(
        "{{\"version\":{},\"pid\":{},\"uptime_seconds\":{},\"worker\":{{\"well\":{},\"busy_seconds\":{},\"queue\":{},\
         \"queue_max\":{}}},\"uris\":{},\"cluster\":{cluster},\"listeners\":{},\"problems\":{}}}\n",
        quoted(snapshot.version),
        snapshot.pid,
        snapshot.uptime.as_secs(),
        snapshot.is_worker_well,
        seconds(snapshot.busy),
        snapshot.queue.0,
        snapshot.queue.1,
        list(snapshot.uris.iter().map(uri)),
        list(snapshot.listeners.iter().map(listener)),
        list(snapshot.problems().iter().map(|problem| quoted(problem))),
    )
}

/// Metric families, each with its samples together, as OpenMetrics wants it.
struct Metrics(String);

impl Metrics {
    fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (String, String)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let suffix = if kind == "counter" { "_total" } else { "" };
        let head = format!("# TYPE fence_virtd_{name} {kind}\n# HELP fence_virtd_{name} {help}\n");
        self.0.push_str(&head);
        for (labels, value) in samples {
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            self.0.push_str(&format!("fence_virtd_{name}{suffix}{labels} {value}\n"));
        }
    }
}

/// A label's value: OpenMetrics escapes backslash, quote and line feed.
fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

fn openmetrics(snapshot: &Snapshot) -> String {
    let flag = |is_so: bool| u8::from(is_so).to_string();
    let plain = |value: String| [(String::new(), value)];
    let mut out = Metrics(String::new());
    out.family(
        "uptime_seconds",
        "gauge",
        "Since when it runs.",
        plain(snapshot.uptime.as_secs().to_string()),
    );
    out.family("well", "gauge", "Whether nothing is wrong.", plain(flag(snapshot.problems().is_empty())));
    out.family("worker_well", "gauge", "Whether the worker turns.", plain(flag(snapshot.is_worker_well)));
    out.family("queue", "gauge", "What waits for the worker.", plain(snapshot.queue.0.to_string()));
    let of_uri = |uri: &UriState| (label("uri", &uri.uri), flag(uri.closed.is_none()));
    out.family("uri_connected", "gauge", "Whether libvirt is connected.", snapshot.uris.iter().map(of_uri));
    let answered =
        |uri: &UriState| Some((label("uri", &uri.uri), format!("{:.3}", uri.answered?.as_secs_f64())));
    let answered = snapshot.uris.iter().filter_map(answered);
    out.family("uri_answered_seconds", "gauge", "How long ago libvirt last answered.", answered);
    if let Some(cluster) = &snapshot.cluster {
        let (joined, members) = (flag(cluster.alone.is_none()), cluster.members.to_string());
        out.family("cluster_joined", "gauge", "Whether this host is in the group.", plain(joined));
        out.family("cluster_members", "gauge", "How many members the group has.", plain(members));
    }
    let open = |listener: &ListenerState| (label("listener", &listener.name), listener.open.to_string());
    out.family("open", "gauge", "Connections and lines that are open.", snapshot.listeners.iter().map(open));
    let requests = snapshot.listeners.iter().flat_map(|listener| {
        let name = label("listener", &listener.name);
        listener.requests.iter().map(move |(operation, verdict, count)| {
            (format!("{name},operation=\"{operation}\",verdict=\"{verdict}\""), count.to_string())
        })
    });
    out.family("requests", "counter", "Requests that were answered.", requests);
    let refusals = snapshot.listeners.iter().flat_map(|listener| {
        let name = label("listener", &listener.name);
        let sample =
            move |(reason, count): &(&str, u64)| (format!("{name},reason=\"{reason}\""), count.to_string());
        listener.refusals.iter().map(sample)
    });
    out.family("refusals", "counter", "What went no further, by reason.", refusals);
    out.0 + "# EOF\n"
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
