//! Selection and start of the configured backend.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex};

use crate::access::Permissions;
use crate::backend::libvirt::ConnectionManagers;
use crate::backend::{Backend, libvirt};
use crate::cpg::{self, CpgThreads};
use crate::problem::Problem;
use crate::startup::Startup;
use crate::status::ClusterState;
use crate::watch::Watchers;
use fence_virt::config::BackendConfig;

/// A backend with its threads. Its connections may still be missing with `wait_for_init`.
pub(crate) struct StartedBackend {
    pub(crate) backend: Box<dyn Backend + Send>,
    pub(crate) managers: ConnectionManagers,
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
    }
}

/// Warning about a setting of the backend that has no safe default.
pub(crate) fn warn_of_delay(config: &BackendConfig) -> Option<Problem> {
    match config {
        BackendConfig::Libvirt { .. } => None,
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
                cpg_threads: Some(started.threads),
            }))
        }
    }
}
