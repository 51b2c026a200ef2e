//! SIGHUP: the configuration is read anew, and what can change while the daemon
//! runs is changed: groups, keys, hash and auth, and the log level. All of it or,
//! if anything is wrong, nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use log::{info, warn};

use crate::access::Permissions;
use crate::access::policies;
use crate::listener::Mail;
use crate::logging;
use crate::watch::{Roster, Watchers};
use crate::worker::Message;
use fence_virt::config::{AuthConfig, Config, ListenerConfig, NamedListener};
use fence_virt::fence::ListenerName;
use fence_virt::session::Policy;
use fence_virt::sys::mailbox::Address;

/// How long the worker may take to have room for the new groups.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads a configuration, and says what is wrong with it.
pub(crate) type Read = fn(&Path) -> Result<Config, String>;

/// What the daemon runs with.
pub(crate) struct Reloader {
    path: PathBuf,
    read: Read,
    running: Config,
    /// The log level of the command line, which goes before that of the file.
    debug: Option<u32>,
    /// Which VM has which CID, once that has to be known; kept though a reload fails.
    roster: Option<Roster>,
}

/// Where what has changed goes.
pub(crate) struct Targets<'a> {
    /// The listeners in the order of the configuration that the daemon was started with.
    pub(crate) listeners: &'a [(Address<Mail>, ListenerName)],
    pub(crate) worker: &'a Sender<Message>,
    pub(crate) watchers: &'a mut Watchers,
}

impl Reloader {
    /// `running` is what the daemon was started with, `debug` the level of its command line.
    pub(crate) fn new(path: PathBuf, read: Read, running: Config, debug: Option<u32>) -> Reloader {
        Reloader { path, read, running, debug, roster: None }
    }

    /// Who may do what by this configuration. Where VMs can ask by vsock, they are
    /// known by their CIDs and by what libvirt says of those.
    ///
    /// # Errors
    ///
    /// If there is no thread to follow the CIDs.
    pub(crate) fn permissions(
        &mut self,
        config: &Config,
        watchers: &mut Watchers,
    ) -> Result<Permissions, String> {
        let is_vsock = |listener: &NamedListener| matches!(listener.config, ListenerConfig::Vsock(_));
        let runs_vsock = self.running.listeners.iter().any(is_vsock);
        if self.roster.is_none() && runs_vsock && !config.groups.is_empty() {
            self.roster = Some(watchers.follow_cids(self.running.backend.uris())?);
        }
        Ok(Permissions::new(policies::groups(config), self.roster.clone()))
    }

    /// Reads the configuration anew and puts it into effect, and logs what was changed.
    ///
    /// # Errors
    ///
    /// A sentence that says why nothing was changed.
    pub(crate) fn reload(&mut self, targets: Targets<'_>) -> Result<(), String> {
        let new = (self.read)(&self.path)?;
        let moved = moved(&self.running, &new);
        if !moved.is_empty() {
            // Keys and groups go with what listens, and that cannot go there now.
            return Err(format!("a restart is needed to change where {} listens", moved.join(" and ")));
        }
        let mut policies: Vec<Option<Arc<Policy>>> = Vec::new();
        for (_, name) in targets.listeners {
            let listener = new.listeners.iter().find(|listener| listener.name == *name);
            policies.push(listener.map(policies::policy).transpose()?.flatten());
        }
        let permissions = self.permissions(&new, targets.watchers)?;
        targets
            .worker
            .send_deadline(Message::Permit(permissions), Instant::now() + PATIENCE)
            .map_err(|_| "the worker has no time for it: it has too much to do, or hangs".to_owned())?;
        for ((address, _), policy) in targets.listeners.iter().zip(policies) {
            // A listener that has ended ends the daemon.
            let _ = policy.map(|policy| address.post(Mail::Policy(policy)));
        }
        log::set_max_level(logging::level(self.debug.unwrap_or(new.debug)));
        let changes = changes(&self.running, &new);
        let waiting = needing_restart(&self.running, &new);
        info!("reloaded {}: {}", self.path.display(), Listed(&changes, "nothing has changed"));
        if !waiting.is_empty() {
            warn!("not changed until the daemon is restarted: {}", Listed(&waiting, ""));
        }
        self.adopt(new);
        Ok(())
    }

    /// What of a new configuration is in effect now.
    fn adopt(&mut self, new: Config) {
        for listener in &mut self.running.listeners {
            let other = new.listeners.iter().find(|other| other.name == listener.name);
            if let (Some(auth), Some(new)) =
                (auth_mut(&mut listener.config), other.and_then(|other| other.config.auth()))
            {
                auth.clone_from(new);
            }
        }
        self.running.groups = new.groups;
        self.running.debug = new.debug;
    }
}

fn auth_mut(config: &mut ListenerConfig) -> Option<&mut AuthConfig> {
    match config {
        ListenerConfig::Tcp(config) => Some(&mut config.auth),
        ListenerConfig::Multicast(config) => Some(&mut config.auth),
        ListenerConfig::Vsock(config) => Some(&mut config.auth),
        ListenerConfig::Serial(_) => None,
    }
}

struct Listed<'a>(&'a [String], &'static str);

impl std::fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { self.1 } else { "" })?;
        f.write_str(&self.0.join(", "))
    }
}

/// What is in effect at once. Keys count as read anew though their names are the same.
fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    if old.groups != new.groups {
        changes.push(format!("{} groups in place of {}", new.groups.len(), old.groups.len()));
    }
    for listener in &old.listeners {
        let Some(other) = new.listeners.iter().find(|other| other.name == listener.name) else { continue };
        let (Some(before), Some(after)) = (listener.config.auth(), other.config.auth()) else { continue };
        if before != after {
            changes.push(format!("{} with {after}", listener.name));
        }
    }
    let files = old.listeners.iter().filter_map(|listener| listener.config.auth());
    match files.map(|auth| policies::key_files(auth).count()).sum::<usize>() {
        0 => {}
        count => changes.push(format!("{count} key files read anew")),
    }
    if old.debug != new.debug {
        changes.push(format!("debug {}", new.debug));
    }
    changes
}

/// The listeners that run and are to listen elsewhere, or otherwise.
fn moved(old: &Config, new: &Config) -> Vec<String> {
    let is_moved = |listener: &&NamedListener| {
        let other = new.listeners.iter().find(|other| other.name == listener.name);
        other.is_some_and(|other| without_auth(&other.config) != without_auth(&listener.config))
    };
    old.listeners.iter().filter(is_moved).map(|listener| listener.name.to_string()).collect()
}

/// The settings that are not.
fn needing_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut names = Vec::new();
    let is_new = |listener: &&NamedListener| !old.listeners.iter().any(|other| other.name == listener.name);
    for listener in new.listeners.iter().filter(is_new) {
        names.push(format!("the listener {}, which is new", listener.name));
    }
    let is_gone = |listener: &&NamedListener| !new.listeners.iter().any(|other| other.name == listener.name);
    for listener in old.listeners.iter().filter(is_gone) {
        names.push(format!("the listener {}, which is there no more", listener.name));
    }
    let same = [
        ("foreground", old.foreground == new.foreground),
        ("wait_for_init", old.wait_for_init == new.wait_for_init),
        ("status_socket", old.status_socket == new.status_socket),
        ("the backend", old.backend.kind() == new.backend.kind()),
        (
            "the settings of the backend",
            old.backend == new.backend || old.backend.kind() != new.backend.kind(),
        ),
    ];
    names.extend(same.iter().filter(|(_, is_same)| !is_same).map(|(name, _)| (*name).to_owned()));
    names
}

fn without_auth(config: &ListenerConfig) -> ListenerConfig {
    let mut config = config.clone();
    if let Some(auth) = auth_mut(&mut config) {
        *auth = AuthConfig {
            key_file: PathBuf::new(),
            old_key_file: None,
            hash: fence_virt::auth::HashKind::None,
            auth: fence_virt::auth::HashKind::None,
        };
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::config;

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
        assert_eq!(needing_restart(&old, &new), ["the listener vsock, which is new"]);
        assert_eq!(needing_restart(&new, &old), ["the listener vsock, which is there no more"]);
        assert_eq!(moved(&old, &new), ["tcp"]);
        let new = with("tcp", "backends { libvirt { uri = \"test:///default\"; } }");
        assert_eq!(needing_restart(&old, &new), ["the settings of the backend"]);
        let new = config("fence_virtd { listener = \"tcp\"; backend = \"cpg\"; foreground = \"1\"; }");
        assert_eq!(needing_restart(&old, &new), ["foreground", "the backend"]);
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
        assert!(reload(&dead).unwrap_err().contains("the worker has no time"));
        reload(&worker).unwrap();
        // What was made for the first, which VM has which CID, is there for the second.
        let Ok(Message::Permit(permissions)) = messages.try_recv() else { panic!("the worker is not told") };
        assert!(permissions.knows_cids());
        watchers.stop(Instant::now() + PATIENCE);
    }

    #[test]
    fn what_is_in_effect_is_named() {
        let old = with("tcp", "");
        let rest = "listeners { tcp { hash = \"sha512\"; old_key_file = \"/o\"; } }
            groups { group { uuid = \"a\"; ip = \"192.0.2.1\"; } }";
        let new = with("tcp", rest);
        let changes = changes(&old, &new);
        assert_eq!(changes[0], "1 groups in place of 0");
        assert!(changes[1].starts_with("tcp with hash sha512, auth sha256,"), "{changes:?}");
        assert!(needing_restart(&old, &new).is_empty() && moved(&old, &new).is_empty());
    }
}
