//! Selection and start of the configured backend.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex};

use crate::access::Permissions;
#[cfg(feature = "agent-backend")]
use crate::backend::agent::{self, AgentThreads};
use crate::backend::libvirt::ConnectionManagers;
use crate::backend::{Backend, libvirt};
use crate::cpg::{self, CpgThreads};
use crate::problem::Problem;
use crate::startup::Startup;
use crate::status::{ClusterState, UriState};
use crate::watch::Watchers;
use fence_virt::config::BackendConfig;

/// Error of a build without the feature agent-backend.
const WITHOUT_AGENTS: &str =
    "this fence_virtd was built without the backend agent: install one with it, or correct backend";

/// A backend with its threads. Its connections may still be missing with `wait_for_init`.
pub(crate) struct StartedBackend {
    pub(crate) backend: Box<dyn Backend + Send>,
    pub(crate) managers: ConnectionManagers,
    #[cfg(feature = "agent-backend")]
    pub(crate) agents: Option<AgentThreads>,
    /// Threads that speak with corosync and pacemaker.
    pub(crate) cpg_threads: Option<CpgThreads>,
    /// State of this host in the cluster, for the status report.
    pub(crate) cluster: Option<Arc<Mutex<ClusterState>>>,
}

/// Checks that the libraries of the backend are installed.
/// Errors: the library that is missing.
pub(crate) fn check(config: &BackendConfig) -> Result<(), String> {
    match config {
        BackendConfig::Libvirt { .. } => Ok(()),
        BackendConfig::Cpg(_) => cpg::check(),
        BackendConfig::Agent { .. } if cfg!(feature = "agent-backend") => Ok(()),
        BackendConfig::Agent { .. } => Err(WITHOUT_AGENTS.to_owned()),
    }
}

/// Warning about a setting of the backend that has no safe default.
pub(crate) fn warn_of_delay(config: &BackendConfig) -> Option<Problem> {
    match config {
        BackendConfig::Libvirt { .. } | BackendConfig::Agent { .. } => None,
        BackendConfig::Cpg(config) => cpg::warn_of_delay(config),
    }
}

/// Starts the threads of the backend and waits for its first connection, unless
/// `wait_for_init` lets that come later. Returns none if a stop signal came meanwhile.
/// Errors: a sentence for each URI that cannot be reached.
pub(crate) fn start(
    config: &BackendConfig,
    permissions: Permissions,
    watchers: &mut Watchers,
    startup: &Startup<'_>,
) -> Result<Option<StartedBackend>, String> {
    match config {
        BackendConfig::Libvirt { uris } => {
            let Some((libvirt, managers)) = libvirt::start(uris, permissions, startup)? else {
                return Ok(None);
            };
            // Events of a test driver tell nothing about the worker's VMs.
            if !uris.iter().any(|uri| libvirt::has_private_state(uri)) {
                watchers.follow_vms("list", uris, startup.worker)?;
            }
            Ok(Some(StartedBackend {
                backend: Box::new(libvirt),
                managers,
                #[cfg(feature = "agent-backend")]
                agents: None,
                cpg_threads: None,
                cluster: None,
            }))
        }
        #[cfg(not(feature = "agent-backend"))]
        BackendConfig::Agent { .. } => Err(WITHOUT_AGENTS.to_owned()),
        #[cfg(feature = "agent-backend")]
        BackendConfig::Agent { uris, agents } => {
            let Some(started) = agent::start(uris, agents, permissions, startup)? else { return Ok(None) };
            if !uris.is_empty() && !uris.iter().any(|uri| libvirt::has_private_state(uri)) {
                watchers.follow_vms("list", uris, startup.worker)?;
            }
            Ok(Some(StartedBackend {
                backend: Box::new(started.backend),
                managers: started.managers,
                agents: Some(started.agents),
                cpg_threads: None,
                cluster: None,
            }))
        }
        BackendConfig::Cpg(config) => {
            let Some(started) = cpg::start(config, permissions, startup)? else { return Ok(None) };
            watchers.follow_vms("cpg", &config.uris, startup.worker)?;
            Ok(Some(StartedBackend {
                cluster: Some(started.backend.cluster_state()),
                backend: Box::new(started.backend),
                managers: started.managers,
                #[cfg(feature = "agent-backend")]
                agents: None,
                cpg_threads: Some(started.threads),
            }))
        }
    }
}

impl StartedBackend {
    /// Returns a closure that reports the state of the places of VMs: URIs, then agents.
    pub(crate) fn reporter(&self) -> Box<dyn Fn() -> Vec<UriState> + Send> {
        let uris = self.managers.reporter();
        #[cfg(feature = "agent-backend")]
        if let Some(agents) = self.agents.as_ref().map(AgentThreads::reporter) {
            return Box::new(move || uris().into_iter().chain(agents()).collect());
        }
        Box::new(uris)
    }
}
