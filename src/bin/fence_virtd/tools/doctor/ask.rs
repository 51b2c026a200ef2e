//! Queries of libvirt, corosync, pacemaker and fence agents, which may hang. All run in parallel; a query that
//! exceeds its time limit is abandoned, and its thread ends with this process; a fence agent is killed.

use std::thread;

#[cfg(feature = "agent-backend")]
use super::agents::{self, AgentReply};
use super::cluster::{self, ClusterReport};
use super::fencer::{self, FencerReport};
use super::libvirt::{self, UriReply};
use super::process::RunningDaemon;
use crate::tools::service_reply::{ServiceReply, bounded, join};
use crate::watch::{self, LineCounts};
use fence_virt::config::{BackendConfig, Config, HostFencing, ListenerConfig, SerialConfig};
use fence_virt::fence::ListenerName;

/// A serial listener and one of the URIs that it follows.
#[derive(Debug, Clone)]
pub(super) struct SerialUri {
    pub(super) listener: ListenerName,
    pub(super) config: SerialConfig,
    pub(super) uri: String,
}

/// LineCounts of a serial listener at one URI.
#[derive(Debug)]
pub(super) struct LinesAt {
    pub(super) at: SerialUri,
    pub(super) lines: ServiceReply<LineCounts>,
}

/// Replies to all queries.
#[derive(Debug)]
pub(super) struct Replies {
    /// Each URI of the backend, in the order of the configuration.
    pub(super) uris: Vec<UriReply>,
    pub(super) lines: Vec<LinesAt>,
    /// Each agent of the backend.
    #[cfg(feature = "agent-backend")]
    pub(super) agents: Vec<AgentReply>,
    /// None without the backend cpg.
    pub(super) cluster: Option<ServiceReply<ClusterReport>>,
    /// None unless it is asked for fences of hosts.
    pub(super) fencer: Option<ServiceReply<FencerReport>>,
}

/// Runs all queries, within [`REPLY_TIMEOUT`](crate::tools::service_reply::REPLY_TIMEOUT) and a moment for the threads.
/// Agents have longer limits of their own.
/// Errors: a sentence if libvirt cannot be used at all.
#[cfg_attr(not(feature = "agent-backend"), allow(unused_variables))]
pub(super) fn all(config: &Config, running: Option<RunningDaemon>) -> Result<Replies, String> {
    crate::libvirt::begin()?;
    let serial = serial_uris(config);
    Ok(thread::scope(|scope| {
        let uris: Vec<_> =
            config.backend.uris().iter().map(|uri| scope.spawn(|| bounded(uri, libvirt::list))).collect();
        let lines: Vec<_> = serial.iter().map(|at| scope.spawn(|| lines(&at.uri, &at.config))).collect();
        #[cfg(feature = "agent-backend")]
        let agents: Vec<_> = config
            .backend
            .agents()
            .iter()
            .map(|agent| scope.spawn(move || agents::ask(agent, running)))
            .collect();
        let cluster = matches!(config.backend, BackendConfig::Cpg(_))
            .then(|| scope.spawn(|| bounded("", |_| cluster::query())));
        let asks_fencer =
            matches!(&config.backend, BackendConfig::Cpg(cpg) if cpg.host_fencing == HostFencing::Auto);
        let fencer = asks_fencer.then(|| scope.spawn(|| bounded("", |_| fencer::query())));
        let lines = serial.iter().cloned().zip(lines);
        Replies {
            uris: config.backend.uris().iter().cloned().zip(uris.into_iter().map(join)).collect(),
            lines: lines.map(|(at, lines)| LinesAt { at, lines: join(lines) }).collect(),
            #[cfg(feature = "agent-backend")]
            agents: agents.into_iter().filter_map(|agent| agent.join().ok()).collect(),
            cluster: cluster.map(join),
            fencer: fencer.map(join),
        }
    }))
}

/// Returns each serial listener with each URI of this host that it follows.
fn serial_uris(config: &Config) -> Vec<SerialUri> {
    let mut found = Vec::new();
    for listener in &config.listeners {
        if let ListenerConfig::Serial(serial) = &listener.config {
            let uris = watch::local_uris(serial, config.backend.uris());
            found.extend(uris.map(|uri| SerialUri {
                listener: listener.name.clone(),
                config: serial.clone(),
                uri: uri.clone(),
            }));
        }
    }
    found
}

fn lines(uri: &str, config: &SerialConfig) -> ServiceReply<LineCounts> {
    let config = config.clone();
    bounded(uri, move |uri| watch::lines(uri, &config).map_err(|error| error.to_string()))
}
