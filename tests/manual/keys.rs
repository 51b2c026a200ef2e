//! fence_virt.conf(5) compared with the table of keys and the defaults.

use std::collections::BTreeSet;
use std::path::Path;

use fence_virt::config::{
    self, AgentConfig, AuthConfig, BackendConfig, Config, CpgConfig, GroupConfig, HostFencing, KEYS,
    ListenerConfig, SerialMode, UnknownVm, ValueKind, VmKeysConfig,
};

use crate::page::{Item, Page};

/// Keys of the page with their items.
fn keys() -> Vec<(Item, String)> {
    let items = Page::read("fence_virt.conf.5").items_of("Ic");
    items
        .into_iter()
        .map(|item| (item.after("Ic"), item))
        .map(|(names, item)| (item, names.concat()))
        .collect()
}

fn accepted(text: &str) -> Config {
    let outcome = config::parse(Path::new("fence_virt.conf.5"), text.as_bytes());
    assert!(outcome.diagnostics.is_empty(), "{}\n{text}", outcome.diagnostics.render(true));
    outcome.config.unwrap()
}

/// Word of the page for a kind of value.
fn word(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Listeners => "listeners",
        ValueKind::Backend => "backend",
        ValueKind::Boolean => "switch",
        ValueKind::Number => "number",
        ValueKind::Path => "file",
        ValueKind::Uri => "uri",
        ValueKind::Signature => "signature",
        ValueKind::Hash => "algorithm",
        ValueKind::Family => "family",
        ValueKind::Address => "address",
        ValueKind::Port | ValueKind::VsockPort => "port",
        ValueKind::Interface => "interface",
        ValueKind::SerialMode | ValueKind::NameMode => "mode",
        ValueKind::UnknownVm => "state",
        ValueKind::HostFencing => "source",
        ValueKind::Operations => "operations",
        ValueKind::PowerOffCap => "cap",
        ValueKind::AgentOption => "option",
        ValueKind::Text => "text",
        ValueKind::Ignored => "value",
    }
}

#[test]
fn the_page_has_every_key_in_its_section_and_no_other() {
    let in_page: Vec<(String, String, String)> = keys()
        .into_iter()
        .map(|(item, name)| (item.section.clone(), name, item.after("Ar").concat()))
        .collect();
    let known =
        |spec: &config::KeySpec| (spec.section.to_owned(), spec.name.to_owned(), word(spec.kind).to_owned());
    let unique: BTreeSet<_> = in_page.iter().cloned().collect();
    assert_eq!(unique.len(), in_page.len(), "a key stands there twice: {in_page:?}");
    assert_eq!(unique, KEYS.iter().map(known).collect());
}

#[test]
fn the_page_explains_every_kind_of_value() {
    let items = Page::read("fence_virt.conf.5").items_of("Ar");
    let explained: BTreeSet<String> = items.iter().flat_map(|item| item.after("Ar")).collect();
    let own = ["backend", "mode", "source", "state", "value"];
    let kinds = KEYS.iter().map(|spec| word(spec.kind)).filter(|word| !own.contains(word));
    assert_eq!(explained, kinds.map(str::to_owned).collect());
}

#[test]
fn the_defaults_in_the_page_are_those_of_an_empty_configuration() {
    let mut checked = 0;
    for (item, name) in keys() {
        let key = (item.section.as_str(), name.as_str());
        let spec = KEYS.iter().find(|spec| (spec.section, spec.name) == key).unwrap();
        if spec.kind == ValueKind::Ignored {
            assert!(item.default().is_none() && !item.says_no_default(), "{key:?} has no effect");
            continue;
        }
        let expected = default(item.section.as_str(), &name);
        assert_eq!(item.default(), expected, "{key:?}");
        assert_eq!(item.says_no_default(), expected.is_none(), "{key:?} says whether it has a default");
        checked += 1;
    }
    assert!(checked > 30);
}

/// Value of a key that is not set; `None` without a default.
fn default(section: &str, name: &str) -> Option<String> {
    let backend = match section {
        "backends/cpg" => "cpg",
        "backends/agent" => "agent",
        _ => "libvirt",
    };
    let listener = section.strip_prefix("listeners/").unwrap_or("multicast");
    // A group has to have something.
    let other = if name == "uuid" { "ip = \"::1\"" } else { "uuid = \"a\"" };
    let text = format!(
        "fence_virtd {{ listener = \"{listener}\"; backend = \"{backend}\"; }} groups {{ group {{ {other}; }} }} \
         backends {{ agent {{ program = \"/p\"; }} }}"
    );
    // A serial listener without a path and a group without members cause warnings.
    let config = config::parse(Path::new("empty"), text.as_bytes()).config.unwrap();
    match section {
        "fence_virtd" => of_daemon(&config, name),
        "groups/group" => of_group(&config, name),
        "keys" | "keys/key" => of_keys(name),
        _ if section.starts_with("backends/") => of_backend(&config.backend, name),
        _ => of_listener(&config.listeners[0].config, name),
    }
}

fn of_daemon(config: &Config, name: &str) -> Option<String> {
    let switch = |is_on: bool| u8::from(is_on).to_string();
    match name {
        // Required, or, for name_mode, an older place of a key without a default.
        "listener" | "backend" | "name_mode" => None,
        "foreground" => Some(switch(config.foreground)),
        "max_parallel" => Some(config.max_parallel.to_string()),
        "wait_for_init" | "wait_for_backend" => Some(switch(config.wait_for_init)),
        "debug" => Some(config.debug.to_string()),
        "history_file" => config.history_file.as_ref().map(|path| path.display().to_string()),
        "status_socket" => Some(config.status_socket.display().to_string()),
        _ => panic!("what is the default of {name}?"),
    }
}

fn of_keys(name: &str) -> Option<String> {
    let VmKeysConfig { is_shared, folder, keys } = VmKeysConfig::default();
    assert!(is_shared && keys.is_empty());
    match name {
        "shared" => Some("yes".to_owned()),
        "folder" => folder.map(|path| path.display().to_string()),
        // Of a key, which is there or not.
        "file" | "old_file" | "uuid" => None,
        _ => panic!("what is the default of {name}?"),
    }
}

fn of_group(config: &Config, name: &str) -> Option<String> {
    let group = &config.groups[0];
    match name {
        "name" => group.name.clone(),
        "uuid" => group.uuids.first().cloned(),
        "ip" => group.ips.first().cloned(),
        "source" => group.sources.first().cloned(),
        "target" => group.targets.first().cloned(),
        "allow" => Some(group.rights.to_string()),
        "listener" => group.listeners.first().map(|name| name.to_string()),
        "max_power_off" => group.max_power_off.map(|cap| cap.to_string()),
        _ => panic!("what is the default of {name}?"),
    }
}

fn of_backend(backend: &BackendConfig, name: &str) -> Option<String> {
    if name == "uri" {
        return Some(backend.uris().join(" "));
    }
    let config = match backend {
        BackendConfig::Cpg(config) => config,
        BackendConfig::Agent { agents, .. } => return of_agent(&agents[0], name),
        BackendConfig::Libvirt { .. } => panic!("what is the default of {name}?"),
    };
    let CpgConfig { name_mode, host_fence_delay, host_fencing, unknown_vm, .. } = config;
    match name {
        "host_fencing" => Some(if *host_fencing == HostFencing::Auto { "auto" } else { "none" }.to_owned()),
        "name_mode" => name_mode.map(|mode| format!("{mode:?}").to_lowercase()),
        "host_fence_delay" => host_fence_delay.map(|delay| delay.to_string()),
        "unknown_vm" => Some(if *unknown_vm == UnknownVm::Fail { "fail" } else { "off" }.to_owned()),
        _ => panic!("what is the default of {name}?"),
    }
}

fn of_agent(agent: &AgentConfig, name: &str) -> Option<String> {
    match name {
        // Required.
        "program" => None,
        "option" => agent.options.first().map(|option| option.name.clone()),
        "password_file" => agent.password_file.as_ref().map(|path| path.display().to_string()),
        "user" => agent.user.clone(),
        "list_interval" => Some(agent.list_interval.as_secs().to_string()),
        "timeout" => Some(agent.timeout.as_secs().to_string()),
        "max_parallel" => Some(agent.max_parallel.to_string()),
        _ => panic!("what is the default of {name}?"),
    }
}

fn of_listener(listener: &ListenerConfig, name: &str) -> Option<String> {
    if let Some(AuthConfig { key_file, old_key_file, hash, auth, is_shared: _ }) = listener.auth() {
        match name {
            "key_file" => return Some(key_file.display().to_string()),
            "old_key_file" => return old_key_file.as_ref().map(|path| path.display().to_string()),
            "hash" => return Some(hash.to_string()),
            "auth" => return Some(auth.to_string()),
            _ => {}
        }
    }
    let (address, port) = match listener {
        ListenerConfig::Multicast(config) => (Some(config.address), config.port.into()),
        ListenerConfig::Tcp(config) => (Some(config.address), config.port.into()),
        ListenerConfig::Vsock(config) => (None, config.port),
        ListenerConfig::Serial(config) => {
            return match name {
                "uri" => config.uri.clone(),
                "path" => config.path.as_ref().map(|path| path.display().to_string()),
                "mode" if config.mode == SerialMode::Serial => Some("serial".to_owned()),
                _ => panic!("what is the default of {name}?"),
            };
        }
    };
    match (name, listener) {
        ("family", _) => Some(if address.unwrap().is_ipv4() { "ipv4" } else { "ipv6" }.to_owned()),
        ("address", _) => address.map(|address| address.to_string()),
        ("port", _) => Some(port.to_string()),
        ("interface", ListenerConfig::Multicast(config)) => config.interface.clone(),
        _ => panic!("what is the default of {name}?"),
    }
}

#[test]
fn the_examples_in_the_page_are_taken_without_a_word() {
    let examples = Page::read("fence_virt.conf.5").literals();
    let whole: Vec<&String> = examples.iter().filter(|text| text.contains("fence_virtd {")).collect();
    assert!(whole.len() >= 5, "{examples:?}");
    let configs: Vec<Config> = whole.into_iter().map(|text| accepted(text)).collect();
    let runs = |kind: &str| configs.iter().any(|c| c.listeners.iter().any(|l| l.config.kind() == kind));
    assert!(["multicast", "tcp", "vsock", "serial"].into_iter().all(runs), "an example of each listener");
    assert!(configs.iter().any(|config| config.backend.kind() == "cpg"), "an example of cpg");
    assert!(configs.iter().any(|config| config.listeners.iter().any(|l| l.name.label().is_some())));
    let has_group = |is_meant: fn(&GroupConfig) -> bool| configs.iter().flat_map(|c| &c.groups).any(is_meant);
    assert!(has_group(|group| !group.listeners.is_empty()));
    assert!(has_group(|group| !group.rights.is_all()
        && !group.sources.is_empty()
        && !group.targets.is_empty()));
    let auths = configs.iter().flat_map(|config| &config.listeners).filter_map(|l| l.config.auth());
    assert!(auths.into_iter().any(|auth| auth.old_key_file.is_some()), "an example of a change of keys");
}
