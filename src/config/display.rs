use std::fmt;
use std::path::Path;

use crate::fence::{ListenerName, SignatureKind};

use super::agent_config::AgentConfig;
use super::model::{
    AuthConfig, BackendConfig, Config, GroupConfig, HostFencing, ListenerConfig, NameMode, NamedListener,
    SerialConfig, SerialMode, UnknownVm,
};
use super::vm_key_config::VmKeysConfig;

/// Maximum number of VMs that the line about the keys names.
const NAMES_MAX: usize = 10;

impl Config {
    /// Summary of the configuration in several lines, for `--check`.
    pub fn summary(&self) -> String {
        let mut lines = Vec::new();
        lines.extend(self.listeners.iter().map(|listener| format!("listener: {listener}")));
        if self.keys != VmKeysConfig::default() {
            lines.push(format!("keys: {}", self.keys));
        }
        lines.push(format!("backend: {}", self.backend));
        if self.groups.is_empty() {
            lines.push("groups: none, any requester may fence any VM".to_string());
        }
        lines.extend(self.groups.iter().map(|group| format!("group: {group}")));
        let place = if self.foreground { "foreground" } else { "background" };
        let waits =
            if self.wait_for_init { "waits for the backend" } else { "does not wait for the backend" };
        lines.push(format!("runs in the {place}, {waits}, debug level {}", self.debug));
        lines.join("\n") + "\n"
    }
}

/// One line: name, address and authentication.
impl fmt::Display for NamedListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.config)
    }
}

/// One line without the name: address and authentication.
impl fmt::Display for ListenerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenerConfig::Tcp(tcp) => write!(f, "{} port {}, {}", tcp.address, tcp.port, tcp.auth),
            ListenerConfig::Vsock(vsock) => write!(f, "port {}, {}", vsock.port, vsock.auth),
            ListenerConfig::Multicast(multicast) => {
                write!(f, "{} port {}", multicast.address, multicast.port)?;
                if let Some(interface) = &multicast.interface {
                    write!(f, " on {interface}")?;
                }
                write!(f, ", {}", multicast.auth)
            }
            ListenerConfig::Serial(serial) => serial.fmt(f),
        }
    }
}

/// One line without the name: mode, URI and path.
impl fmt::Display for SerialConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.mode {
            SerialMode::Serial => "mode serial",
            SerialMode::VmChannel => "mode vmchannel",
        })?;
        if let Some(uri) = &self.uri {
            write!(f, " at {}", uri.escape_debug())?;
        }
        match &self.path {
            Some(path) => write!(f, ", sockets in {}", path.to_string_lossy().escape_debug()),
            None => Ok(()),
        }
    }
}

/// Algorithms and key file.
impl fmt::Display for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hash {}", self.hash)?;
        if self.hash < SignatureKind::HmacSha256 {
            write!(f, ", auth {}", self.auth)?;
        }
        if self.needs_key() {
            write!(f, ", key {}", self.key_file.to_string_lossy().escape_debug())?;
            if let Some(old) = &self.old_key_file {
                write!(f, ", old key {}", old.to_string_lossy().escape_debug())?;
            }
        } else if !self.is_shared {
            f.write_str(", no shared key")?;
        }
        Ok(())
    }
}

/// One line: the VMs with a key of their own, the folder, and whether shared keys count.
impl fmt::Display for VmKeysConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.keys.iter().take(NAMES_MAX).map(|key| key.name.clone()).collect();
        match self.keys.len().checked_sub(NAMES_MAX) {
            _ if names.is_empty() => {}
            Some(more @ 1..) => write!(f, "{} and {more} more; ", listed(&names, ""))?,
            _ => write!(f, "{}; ", listed(&names, ""))?,
        }
        if let Some(folder) = &self.folder {
            write!(f, "folder {}; ", folder.to_string_lossy().escape_debug())?;
        }
        f.write_str(if self.is_shared { "shared keys count, too" } else { "shared keys do not count" })
    }
}

/// One line: kind and URIs, for cpg also its policies, for agents their settings.
impl fmt::Display for BackendConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let BackendConfig::Agent { uris, agents } = self {
            let mut places: Vec<String> =
                uris.iter().map(|uri| format!("libvirt at {}", uri.escape_debug())).collect();
            places.extend(agents.iter().map(AgentConfig::to_string));
            return f.write_str(&places.join(", "));
        }
        write!(f, "{} at {}", self.kind(), self.uris().join(", ").escape_debug())?;
        let BackendConfig::Cpg(config) = self else { return Ok(()) };
        f.write_str(match config.name_mode {
            None => ", VMs by name and UUID",
            Some(NameMode::Name) => ", VMs by name",
            Some(NameMode::Uuid) => ", VMs by UUID",
        })?;
        match (config.host_fencing, config.host_fence_delay) {
            (HostFencing::None, None) => f.write_str(", VMs of a lost host may still run")?,
            (HostFencing::None, Some(seconds)) => {
                write!(f, ", a lost host counts as off after {seconds} s")?;
            }
            (HostFencing::Auto, None) => {
                f.write_str(", a lost host counts as off once pacemaker has fenced it")?;
            }
            (HostFencing::Auto, Some(seconds)) => {
                write!(f, ", a lost host counts as off once pacemaker has fenced it, or after {seconds} s")?;
            }
        }
        f.write_str(match config.unknown_vm {
            UnknownVm::Fail => "",
            UnknownVm::Off => ", unknown VMs count as off",
        })
    }
}

/// One line: place, program, user, limits and names of the options, without their values.
impl fmt::Display for AgentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |path: &Path| path.to_string_lossy().escape_debug().to_string();
        let user = self.user.as_ref().map_or("the user of the daemon", String::as_str);
        write!(f, "{} ({} as {}", self.place(), path(&self.program), user.escape_debug())?;
        if !self.options.is_empty() {
            let names: Vec<&str> = self.options.iter().map(|option| option.name.as_str()).collect();
            write!(f, "; options {}", names.join(", "))?;
        }
        if let Some(file) = &self.password_file {
            write!(f, "; password in {}", path(file))?;
        }
        let (timeout, interval) = (self.timeout.as_secs(), self.list_interval.as_secs());
        write!(f, "; timeout {timeout} s, list every {interval} s, {} calls at a time)", self.max_parallel)
    }
}

/// One line: name, members, permitted requesters, operations and cap.
impl fmt::Display for GroupConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("(unnamed)");
        let mut parts = Vec::new();
        if !self.uuids.is_empty() || self.targets.is_empty() {
            parts.push(format!("members: {}", listed(&self.uuids, "none")));
        }
        if !self.ips.is_empty() || self.sources.is_empty() {
            let ips = listed(&self.ips, "members only, by serial, vsock or a key of their own");
            parts.push(format!("requests from: {ips}"));
        }
        for (what, lines) in [("sources", &self.sources), ("targets", &self.targets)] {
            parts.extend((!lines.is_empty()).then(|| format!("{what}: {}", listed(lines, ""))));
        }
        parts.extend((!self.rights.is_all()).then(|| format!("allows {} only", self.rights)));
        if !self.listeners.is_empty() {
            let names: Vec<&str> = self.listeners.iter().map(ListenerName::as_str).collect();
            parts.push(format!("through {} only", names.join(", ")));
        }
        parts.extend(self.max_power_off.map(|cap| format!("max_power_off {cap}")));
        write!(f, "{}, {}", name.escape_debug(), parts.join("; "))
    }
}

fn listed(words: &[String], none: &str) -> String {
    if words.is_empty() { none.to_string() } else { words.join(", ").escape_debug().to_string() }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use crate::auth::HashKind;
    use crate::fence_agent::AgentOption;

    use super::super::model::{DEFAULT_PARALLEL, MulticastConfig, VsockConfig};
    use super::super::vm_key_config::VmKeyConfig;
    use super::*;

    #[test]
    fn the_line_of_an_agent_has_its_settings_and_no_secrets() {
        let option = |text: &str| AgentOption::parse(text).unwrap();
        let seconds = Duration::from_secs;
        let agent = AgentConfig {
            name: Some("pve".to_owned()),
            program: PathBuf::from("/usr/sbin/fence_pve"),
            options: vec![option("ip=pve1"), option("token=hidden")],
            password_file: Some(PathBuf::from("/etc/p\n")),
            user: None,
            list_interval: seconds(60),
            timeout: seconds(30),
            max_parallel: 4,
        };
        let line = "agent:pve (/usr/sbin/fence_pve as the user of the daemon; options ip, token; password in /etc/p\\n; \
                    timeout 30 s, list every 60 s, 4 calls at a time)";
        assert_eq!(agent.to_string(), line);
        let named = AgentConfig { name: None, user: Some("fence".to_owned()), options: vec![], ..agent };
        assert!(named.to_string().starts_with("agent (/usr/sbin/fence_pve as fence; password"), "{named}");
        let backend = BackendConfig::Agent { uris: vec!["qemu:///system".to_owned()], agents: vec![named] };
        assert!(backend.to_string().starts_with("libvirt at qemu:///system, agent (/usr"), "{backend}");
    }

    #[test]
    fn a_summary() {
        let auth = |auth: HashKind| AuthConfig {
            key_file: PathBuf::from("/k"),
            old_key_file: None,
            hash: auth.into(),
            auth,
            is_shared: true,
        };
        let multicast = MulticastConfig {
            auth: auth(HashKind::Sha256),
            address: [225, 0, 0, 12].into(),
            port: 1229,
            interface: Some("virbr0".to_string()),
        };
        let group = GroupConfig { uuids: vec!["a".to_string(), "b\n".to_string()], ..GroupConfig::default() };
        let vsock = ListenerConfig::Vsock(VsockConfig { auth: auth(HashKind::None), port: 5 });
        let named = |kind, label, config| NamedListener { name: ListenerName::new(kind, label), config };
        let mut config = Config {
            foreground: true,
            wait_for_init: false,
            max_parallel: DEFAULT_PARALLEL,
            debug: 2,
            listeners: vec![
                named("multicast", None, ListenerConfig::Multicast(multicast)),
                named("vsock", Some("b"), vsock),
            ],
            status_socket: "/s".into(),
            history_file: None,
            keys: VmKeysConfig::default(),
            backend: BackendConfig::Libvirt { uris: vec!["qemu:///system".to_string()] },
            groups: vec![group],
        };
        let expected = "listener: multicast 225.0.0.12 port 1229 on virbr0, hash sha256, auth sha256, key /k\n\
            listener: vsock:b port 5, hash none, auth none\n\
            backend: libvirt at qemu:///system\n\
            group: (unnamed), members: a, b\\n; requests from: members only, by serial, vsock or a key of their own\n\
            runs in the foreground, does not wait for the backend, debug level 2\n";
        assert_eq!(config.summary(), expected);
        config.groups.clear();
        let key =
            |at: usize| VmKeyConfig { name: format!("n{at}"), uuid: None, file: "/k".into(), old_file: None };
        config.keys.keys = (0..12).map(key).collect();
        let line = "keys: n0, n1, n2, n3, n4, n5, n6, n7, n8, n9 and 2 more; shared keys count, too\n";
        assert!(config.summary().contains(line), "{}", config.summary());
        assert!(config.summary().contains("groups: none"));
    }
}
