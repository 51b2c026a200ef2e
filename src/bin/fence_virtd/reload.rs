//! Reload on SIGHUP or by `--reload`: groups, keys, hash and auth, and the log level change while the
//! daemon runs. All of them change, or, if anything is wrong, nothing.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use log::{info, warn};

use crate::access::{CidTable, Permissions, policies, vm_keys};
use crate::config_file;
use crate::cpg;
use crate::inbox::{BackendSettings, ClusterSettings, Message};
use crate::listener::ListenerHandle;
use crate::logging;
use crate::restraints::SharedRestraints;
use crate::watch::Watchers;
use fence_virt::auth::KeyRing;
use fence_virt::config::{
    BackendConfig, Config, CpgConfig, HostFencing, ListenerConfig, NamedListener, UnknownVm,
};
use fence_virt::fence::{Endpoint, counted, listed};
use fence_virt::session::Policy;

/// Time limit for the worker to take the new permissions.
const WORKER_LIMIT: Duration = Duration::from_secs(5);

/// Reads a configuration and logs its diagnostics.
pub(crate) type Read = fn(&Path) -> Result<Config, String>;

/// The configuration in force.
pub(crate) struct Reloader {
    path: PathBuf,
    read: Read,
    running: Config,
    /// Log level of the command line; it overrides that of the file.
    debug: Option<u32>,
    /// Table of vsock CIDs, from the first configuration that needs it on; a reload that fails keeps it.
    cids: Option<CidTable>,
    /// Holds and caps, which go by the groups.
    restraints: SharedRestraints,
    /// Keys of VMs in force.
    vm_keys: Arc<KeyRing>,
}

/// Recipients of the changes.
pub(crate) struct Targets<'a> {
    /// Listeners, in the order of the configuration at the start.
    pub(crate) listeners: &'a [ListenerHandle],
    pub(crate) worker: &'a Sender<Message>,
    pub(crate) watchers: &'a mut Watchers,
}

impl Reloader {
    /// Takes the configuration at the start, and the log level of the command line.
    pub(crate) fn new(path: PathBuf, read: Read, running: Config, debug: Option<u32>) -> Reloader {
        let restraints = SharedRestraints::default();
        Reloader { path, read, running, debug, cids: None, restraints, vm_keys: Arc::default() }
    }

    /// Tells these restraints the groups of each configuration.
    pub(crate) fn restraining(self, restraints: SharedRestraints) -> Reloader {
        restraints.set_groups(policies::restrained_groups(&self.running));
        Reloader { restraints, ..self }
    }

    /// Takes the keys of VMs that are in force, to tell at the next reload what it changes.
    pub(crate) fn set_vm_keys(&mut self, vm_keys: Arc<KeyRing>) {
        self.vm_keys = vm_keys;
    }

    /// Permissions of a configuration. With a vsock listener and groups, watchers map CIDs to VMs.
    /// Errors: if the system has no thread left for a watcher.
    pub(crate) fn permissions(
        &mut self,
        config: &Config,
        watchers: &mut Watchers,
    ) -> Result<Permissions, String> {
        let is_vsock = |listener: &NamedListener| matches!(listener.config, ListenerConfig::Vsock(_));
        let runs_vsock = self.running.listeners.iter().any(is_vsock);
        if self.cids.is_none() && runs_vsock && !config.groups.is_empty() {
            self.cids = Some(watchers.follow_cids(self.running.backend.uris())?);
        }
        Ok(Permissions::new(policies::groups(config), self.cids.clone()))
    }

    /// Reason not to reload for a client that means this configuration, if it is another one.
    pub(crate) fn other_than(&self, path: &Path) -> Option<String> {
        (!config_file::is_same(&self.path, path))
            .then(|| format!("this daemon runs with {}, not {}", self.path.display(), path.display()))
    }

    /// Reads the configuration again, puts it into effect, logs the changes and returns them, a line or two.
    /// Errors: reason why nothing was changed.
    pub(crate) fn reload(&mut self, targets: Targets<'_>) -> Result<String, String> {
        let new = (self.read)(&self.path)?;
        let moved = moved(&self.running, &new);
        if !moved.is_empty() {
            // Keys and groups belong to the addresses they were written for.
            return Err(format!("changing where {} listens needs a restart", moved.join(" and ")));
        }
        let policies::Policies { listeners: policies, vm_keys } =
            policies::load(&new, |name| targets.listeners.iter().any(|handle| handle.name() == name))?;
        let permissions = self.permissions(&new, targets.watchers)?;
        targets
            .worker
            .send_timeout(
                Message::Settings(BackendSettings { permissions, cluster: cluster_settings(&new) }),
                WORKER_LIMIT,
            )
            .map_err(|_| "the worker does not take the new groups: it is overloaded or hangs".to_owned())?;
        let unheld = self.restraints.set_groups(policies::restrained_groups(&new));
        for handle in targets.listeners {
            match policies.iter().find(|(name, _)| name == handle.name()) {
                Some((_, Some(policy))) => handle.set_policy(policy.clone()),
                Some((_, None)) => {}
                // It ends with the restart; what was revoked must not count until then.
                None => handle.set_policy(Arc::new(Policy::closed(Endpoint::LINE))),
            }
        }
        log::set_max_level(logging::level(self.debug.unwrap_or(new.debug)));
        let mut changes = changes(&self.running, &new);
        changes.extend(vm_keys::changes(&self.vm_keys, &vm_keys));
        let changes = changes.join(", ");
        let waiting = needing_restart(&self.running, &new).join(", ");
        let changes = if changes.is_empty() { "no changes" } else { &changes };
        let mut summary = format!("reloaded {}: {changes}", self.path.display());
        info!("{summary}");
        if !waiting.is_empty() {
            let waiting = format!("unchanged until the daemon is restarted: {waiting}");
            warn!("{waiting}");
            summary = format!("{summary}\n{waiting}");
        }
        if !unheld.is_empty() {
            let unheld = format!(
                "no group has these names any more, so their holds hold no group: {}; hold it by its new name",
                listed(unheld.iter().map(|name| format!("{name:?}")))
            );
            warn!("{unheld}");
            summary = format!("{summary}\n{unheld}");
        }
        self.adopt(new);
        self.set_vm_keys(vm_keys);
        Ok(summary)
    }

    /// Records the settings of a new configuration that are in effect now.
    fn adopt(&mut self, new: Config) {
        for listener in &mut self.running.listeners {
            if let Some(other) = new.listeners.iter().find(|other| other.name == listener.name) {
                // They differ in authentication only.
                listener.config.clone_from(&other.config);
            }
        }
        if let (BackendConfig::Cpg(old), BackendConfig::Cpg(new)) = (&mut self.running.backend, &new.backend)
        {
            *old = with_rules_of(old, new);
        }
        self.running.groups = new.groups;
        self.running.keys = new.keys;
        self.running.debug = new.debug;
    }
}

/// Changes that take effect at once. Key files count as read again although their names are the same.
fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    if old.groups != new.groups {
        changes.push(format!("{} instead of {}", counted(new.groups.len(), "group"), old.groups.len()));
    }
    for listener in &old.listeners {
        let Some(other) = new.listeners.iter().find(|other| other.name == listener.name) else { continue };
        let (Some(before), Some(after)) = (listener.config.auth(), other.config.auth()) else { continue };
        if before != after {
            changes.push(format!("{} with {after}", listener.name));
        }
    }
    let auths = old.listeners.iter().filter_map(|listener| listener.config.auth());
    let files = auths.flat_map(policies::key_files).count();
    if files > 0 {
        changes.push(format!("{} read again", counted(files, "key file")));
    }
    if let (BackendConfig::Cpg(old), BackendConfig::Cpg(new)) = (&old.backend, &new.backend) {
        if old.host_fencing != new.host_fencing {
            let source = if new.host_fencing == HostFencing::Auto { "auto" } else { "none" };
            changes.push(format!("host_fencing {source}"));
        }
        if old.host_fence_delay != new.host_fence_delay {
            let delay = new.host_fence_delay.map_or("unset".to_owned(), |seconds| format!("{seconds} s"));
            changes.push(format!("host_fence_delay {delay}"));
        }
        if old.unknown_vm != new.unknown_vm {
            let rule = if new.unknown_vm == UnknownVm::Off { "off" } else { "fail" };
            changes.push(format!("unknown_vm {rule}"));
        }
    }
    if old.debug != new.debug {
        changes.push(format!("debug {}", new.debug));
    }
    changes
}

/// Listeners whose address, port, interface or other settings than authentication changed.
fn moved(old: &Config, new: &Config) -> Vec<String> {
    let is_moved = |listener: &&NamedListener| {
        let other = new.listeners.iter().find(|other| other.name == listener.name);
        other.is_some_and(|other| with_auth_of(&listener.config, &other.config) != listener.config)
    };
    old.listeners.iter().filter(is_moved).map(|listener| listener.name.to_string()).collect()
}

/// BackendSettings that change only with a restart.
fn needing_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut names = Vec::new();
    let is_new = |listener: &&NamedListener| !old.listeners.iter().any(|other| other.name == listener.name);
    let added = new.listeners.iter().filter(is_new);
    names.extend(added.map(|listener| format!("the listener {} (new)", listener.name)));
    let is_gone = |listener: &&NamedListener| !new.listeners.iter().any(|other| other.name == listener.name);
    let removed = old.listeners.iter().filter(is_gone);
    names.extend(removed.map(|listener| format!("the listener {} (removed)", listener.name)));
    let same = [
        ("foreground", old.foreground == new.foreground),
        ("wait_for_init", old.wait_for_init == new.wait_for_init),
        ("max_parallel", old.max_parallel == new.max_parallel),
        ("status_socket", old.status_socket == new.status_socket),
        ("history_file", old.history_file == new.history_file),
        ("backend", old.backend.kind() == new.backend.kind()),
        ("backend settings", is_same_but_rules(&old.backend, &new.backend)),
    ];
    names.extend(same.iter().filter(|(_, is_same)| !is_same).map(|(name, _)| (*name).to_owned()));
    names
}

/// Settings for the worker; none unless the backend is cpg.
fn cluster_settings(config: &Config) -> Option<ClusterSettings> {
    match &config.backend {
        BackendConfig::Cpg(config) => Some(cpg::settings(config)),
        BackendConfig::Libvirt { .. } | BackendConfig::Agent { .. } => None,
    }
}

/// BackendSettings of one configuration of the backend cpg, with those of another one that a reload changes.
fn with_rules_of(old: &CpgConfig, new: &CpgConfig) -> CpgConfig {
    let CpgConfig { host_fence_delay, host_fencing, unknown_vm, .. } = *new;
    CpgConfig { host_fence_delay, host_fencing, unknown_vm, ..old.clone() }
}

/// True if no other settings of the backend differ than those that a reload changes.
fn is_same_but_rules(old: &BackendConfig, new: &BackendConfig) -> bool {
    match (old, new) {
        (BackendConfig::Cpg(old), BackendConfig::Cpg(new)) => with_rules_of(old, new) == *new,
        _ => old == new || old.kind() != new.kind(),
    }
}

/// Returns the new configuration of a listener with the authentication of the old one.
fn with_auth_of(old: &ListenerConfig, new: &ListenerConfig) -> ListenerConfig {
    use ListenerConfig::{Multicast, Tcp, Vsock};
    let mut config = new.clone();
    match (&mut config, old) {
        (Tcp(new), Tcp(old)) => new.auth.clone_from(&old.auth),
        (Multicast(new), Multicast(old)) => new.auth.clone_from(&old.auth),
        (Vsock(new), Vsock(old)) => new.auth.clone_from(&old.auth),
        _ => {}
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::config;
    use fence_virt::time::Instant;

    fn config(text: &str) -> Config {
        config::parse(Path::new("f"), text.as_bytes()).config.unwrap()
    }

    fn with(listeners: &str, rest: &str) -> Config {
        config(&format!("fence_virtd {{ listener = \"{listeners}\"; backend = \"libvirt\"; }} {rest}"))
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let old = with("tcp", "");
        assert_eq!(needing_restart(&old, &old), [""; 0]);
        let new = with("vsock tcp", "listeners { tcp { port = \"5\"; hash = \"sha512\"; } }");
        assert_eq!(needing_restart(&old, &new), ["the listener vsock (new)"]);
        assert_eq!(needing_restart(&new, &old), ["the listener vsock (removed)"]);
        assert_eq!(moved(&old, &new), ["tcp"]);
        let new = with("tcp", "backends { libvirt { uri = \"test:///default\"; } }");
        assert_eq!(needing_restart(&old, &new), ["backend settings"]);
        let new = config("fence_virtd { listener = \"tcp\"; backend = \"cpg\"; foreground = \"1\"; }");
        assert_eq!(needing_restart(&old, &new), ["foreground", "backend"]);
        let kept =
            config("fence_virtd { listener = \"tcp\"; backend = \"libvirt\"; history_file = \"/h\"; }");
        assert_eq!(needing_restart(&old, &kept), ["history_file"]);
    }

    #[test]
    fn changed_settings_of_an_agent_need_a_restart() {
        let agent = |backend: &str, lines: &str| {
            config(&format!(
                "fence_virtd {{ listener = \"tcp\"; backend = \"{backend}\"; }}
                 backends {{ agent = \"a\" {{ program = \"/a\"; {lines} }} }}"
            ))
        };
        let old = agent("agent:a", "option = \"ip=1\";");
        assert_eq!(needing_restart(&old, &old), [""; 0]);
        for lines in
            ["option = \"ip=2\";", "option = \"ip=1\"; timeout = \"5\";", "option = \"ip=1\"; user = \"u\";"]
        {
            assert_eq!(needing_restart(&old, &agent("agent:a", lines)), ["backend settings"], "{lines}");
        }
        let with_libvirt = agent("libvirt, agent:a", "option = \"ip=1\";");
        assert_eq!(needing_restart(&old, &with_libvirt), ["backend settings"]);
        assert_eq!(needing_restart(&old, &agent("libvirt", "option = \"ip=1\";")), ["backend"]);
    }

    const VSOCK: &str = "fence_virtd { listener = \"vsock\"; backend = \"libvirt\"; }
        listeners { vsock { hash = \"none\"; auth = \"none\"; } } backends { libvirt { uri = \"test:///default\"; } }";

    #[test]
    fn a_reload_that_failed_leaves_nothing_half_done() {
        let read: Read =
            |_| Ok(config(&format!("{VSOCK} groups {{ group {{ uuid = \"a\"; ip = \"7\"; }} }}")));
        let mut reloader = Reloader::new("f".into(), read, config(VSOCK), None);
        let mut watchers = Watchers::default();
        let (worker, messages) = crossbeam_channel::bounded(1);
        let mut reload = |worker: &Sender<Message>| {
            reloader.reload(Targets { listeners: &[], worker, watchers: &mut watchers })
        };
        let (dead, gone) = crossbeam_channel::bounded(1);
        drop(gone);
        assert!(reload(&dead).unwrap_err().contains("the worker does not take"));
        reload(&worker).unwrap();
        // What was made for the first, which VM has which CID, is there for the second.
        let Ok(Message::Settings(BackendSettings { permissions, .. })) = messages.try_recv() else {
            panic!("the worker is not told")
        };
        assert!(permissions.knows_cids());
        watchers.stop(Instant::now() + WORKER_LIMIT);
    }

    #[test]
    fn rules_of_the_cluster_change_without_a_restart() {
        let cpg = |settings: &str| {
            config(&format!(
                "fence_virtd {{ listener = \"tcp\"; backend = \"cpg\"; }} backends {{ cpg {{ {settings} }} }}"
            ))
        };
        let old = cpg("");
        let new = cpg("host_fencing = \"none\"; host_fence_delay = \"60\"; unknown_vm = \"off\";");
        let named = ["host_fencing none", "host_fence_delay 60 s", "unknown_vm off"].map(str::to_owned);
        assert!(changes(&old, &new).ends_with(&named), "{:?}", changes(&old, &new));
        assert!(changes(&new, &old).contains(&"host_fencing auto".to_owned()));
        assert_eq!(needing_restart(&old, &new), [""; 0]);
        let settings = cluster_settings(&new).unwrap();
        assert_eq!(settings.rules.host_fence_delay, Some(Duration::from_secs(60)));
        assert_eq!(settings.host_fencing, HostFencing::None);
        let mut reloader = Reloader::new("f".into(), |_| Err(String::new()), old, None);
        reloader.adopt(new.clone());
        assert_eq!(reloader.running.backend, new.backend);
        let other = cpg(
            "uri = \"test:///default\"; host_fencing = \"none\"; host_fence_delay = \"60\"; unknown_vm = \"off\";",
        );
        assert_eq!(needing_restart(&new, &other), ["backend settings"]);
    }

    #[test]
    fn what_is_in_effect_is_named() {
        let old = with("tcp", "");
        let rest = "listeners { tcp { hash = \"sha512\"; old_key_file = \"/o\"; } }
            groups { group { uuid = \"a\"; ip = \"192.0.2.1\"; } }";
        let new = with("tcp", rest);
        let changes = changes(&old, &new);
        assert_eq!(changes[0], "1 group instead of 0");
        assert!(changes[1].starts_with("tcp with hash sha512, auth sha256,"), "{changes:?}");
        assert!(needing_restart(&old, &new).is_empty() && moved(&old, &new).is_empty());
    }
}
