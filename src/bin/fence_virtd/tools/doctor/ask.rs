//! Asks libvirt and corosync, which may hang: all at once, and whoever does not
//! answer in time is left behind, to end with this process.

use std::thread;
use std::time::Duration;

use super::cluster::{self, Cluster};
use super::libvirt::{self, Vm};
use crate::watch::{self, Lines};
use fence_virt::config::{BackendConfig, Config, ListenerConfig, SerialConfig};
use fence_virt::fence::ListenerName;
use fence_virt::sys::within::within;

/// How long each may take. They are asked side by side, so all of them take no longer.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// It said so.
    Refused(String),
    /// It said nothing within [`LIMIT`].
    Silent,
}

/// What came of a question.
pub(super) type Reply<T> = Result<T, Unanswered>;

/// The lines of a serial listener at one URI.
#[derive(Debug)]
pub(super) struct LinesAt {
    pub(super) listener: ListenerName,
    pub(super) config: SerialConfig,
    pub(super) uri: String,
    pub(super) lines: Reply<Lines>,
}

/// All that was asked.
#[derive(Debug)]
pub(super) struct Replies {
    /// Each URI of the backend, in the order of the configuration.
    pub(super) uris: Vec<(String, Reply<Vec<Vm>>)>,
    pub(super) lines: Vec<LinesAt>,
    /// None without the backend cpg.
    pub(super) cluster: Option<Reply<Cluster>>,
}

/// Asks all of them. Ends within [`LIMIT`], and a moment for the threads.
///
/// # Errors
///
/// If libvirt cannot be used at all.
pub(super) fn all(config: &Config) -> Result<Replies, String> {
    crate::libvirt::begin()?;
    let of_lines = places_of_lines(config);
    let replies = thread::scope(|scope| {
        let uris: Vec<_> =
            config.backend.uris().iter().map(|uri| scope.spawn(|| bounded(uri, libvirt::list))).collect();
        let lines: Vec<_> =
            of_lines.iter().map(|(_, config, uri)| scope.spawn(|| lines(uri, config))).collect();
        let cluster = matches!(config.backend, BackendConfig::Cpg(_))
            .then(|| scope.spawn(|| bounded("", |_| cluster::look())));
        (
            uris.into_iter().map(join).collect::<Vec<_>>(),
            lines.into_iter().map(join).collect::<Vec<_>>(),
            cluster.map(join),
        )
    });
    let (uris, lines, cluster) = replies;
    let lines = of_lines.into_iter().zip(lines);
    let lines = lines.map(|((listener, config, uri), lines)| LinesAt { listener, config, uri, lines });
    Ok(Replies {
        uris: config.backend.uris().iter().cloned().zip(uris).collect(),
        lines: lines.collect(),
        cluster,
    })
}

/// Each serial listener with each URI of this host that it follows.
fn places_of_lines(config: &Config) -> Vec<(ListenerName, SerialConfig, String)> {
    let mut places = Vec::new();
    for listener in &config.listeners {
        if let ListenerConfig::Serial(serial) = &listener.config {
            let uris = watch::local_uris(serial, config.backend.uris());
            places.extend(uris.map(|uri| (listener.name.clone(), serial.clone(), uri.clone())));
        }
    }
    places
}

fn lines(uri: &str, config: &SerialConfig) -> Reply<Lines> {
    let config = config.clone();
    bounded(uri, move |uri| watch::lines(uri, &config).map_err(|failed| failed.0))
}

fn bounded<T: Send + 'static>(
    uri: &str,
    job: impl FnOnce(&str) -> Result<T, String> + Send + 'static,
) -> Reply<T> {
    let uri = uri.to_owned();
    match within(LIMIT, move || job(&uri)) {
        Ok(Some(outcome)) => outcome.map_err(Unanswered::Refused),
        Ok(None) => Err(Unanswered::Silent),
        Err(error) => Err(Unanswered::Refused(format!("no thread can be started: {error}"))),
    }
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, Reply<T>>) -> Reply<T> {
    thread.join().unwrap_or_else(|_| Err(Unanswered::Refused("its thread has failed".to_owned())))
}
