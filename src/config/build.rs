use std::path::PathBuf;

use super::backend;
use super::diagnostic_sink::DiagnosticSink;
use super::fields::SectionFields;
use super::group_ips::{self, GroupListeners};
use super::group_placement;
use super::group_rights;
use super::key_placement::KEYS_SECTION;
use super::lexer::Span;
use super::listener_selection::{self, SelectedListener};
use super::model::{Config, DEFAULT_PARALLEL, GroupConfig};
use super::tree::{KeyEntry, Section};
use super::values;
use super::vm_keys;

/// Default path of the status socket.
const STATUS_SOCKET: &str = "/run/fence_virtd/status.sock";

/// Builds the configuration from the tree. The result is valid only if `sink` has no errors.
pub(super) fn config(root: &Section, sink: &mut DiagnosticSink) -> Config {
    let whole = !sink.has_errors();
    group_placement::check(root, sink);
    let sections = SectionFields::of(Some(root), "", sink);
    let daemon_section = sections.section("fence_virtd");
    if whole && daemon_section.is_none() {
        let example = "fence_virtd { listener = \"multicast\"; backend = \"libvirt\"; }";
        sink.error(0, format!("missing section fence_virtd; add {example}"));
    }
    let daemon = SectionFields::of(daemon_section, "fence_virtd", sink);
    if let Some(section) = daemon_section.filter(|_| whole) {
        require(&daemon, section.at(), "listener", "multicast", sink);
        require(&daemon, section.at(), "backend", "libvirt", sink);
    }
    let selected = listener_selection::parse_names(daemon.value("listener"), sink);
    let listeners = SectionFields::of(sections.section("listeners"), "listeners", sink);
    for named in selected.iter().filter(|named| named.name.kind() == "serial") {
        warn_of_path(named, listener_selection::section(&named.name, &selected, &listeners), sink);
    }
    let backends = SectionFields::of(sections.section("backends"), "backends", sink);
    let is_sound = daemon.read("backend", sink, |_| Ok(())).is_some();
    let selected_backends = backend::select(daemon.value("backend").filter(|_| is_sound), sink);
    let backend = backend::read(&selected_backends, &daemon, &backends, sink);
    let keys_section = sections.section(KEYS_SECTION);
    let keys = vm_keys::read(root, keys_section, sink);
    let mut running = listener_selection::read(&selected, &listeners, backend.uris(), sink);
    vm_keys::check_listeners(&keys, keys_section, &running, sink);
    vm_keys::set_shared(&mut running, keys.is_shared);
    let groups = groups(sections.section("groups"), &selected, !keys.is_empty(), sink);
    // Like the C daemon: either name is enough.
    let waits = ["wait_for_init", "wait_for_backend"].map(|key| daemon.read(key, sink, values::boolean));
    Config {
        foreground: daemon.read("foreground", sink, values::boolean).unwrap_or(false),
        wait_for_init: waits.contains(&Some(true)),
        max_parallel: daemon.read("max_parallel", sink, values::max_parallel).unwrap_or(DEFAULT_PARALLEL),
        debug: daemon.read("debug", sink, values::number).unwrap_or(0),
        status_socket: read_status_socket(&daemon, sink).unwrap_or(STATUS_SOCKET.into()),
        history_file: daemon.read("history_file", sink, values::file),
        listeners: running,
        keys,
        backend,
        groups,
    }
}

/// Path of the status socket, from a file that may have errors. If its braces or
/// quotes are wrong, the key counts in any section.
pub(super) fn status_socket(root: &Section, sink: &mut DiagnosticSink) -> PathBuf {
    let is_torn = sink.has_errors();
    let section = SectionFields::of(Some(root), "", sink).section("fence_virtd");
    let daemon = SectionFields::of(section, "fence_virtd", sink);
    let found = read_status_socket(&daemon, sink);
    let found = found.or_else(|| if is_torn { status_socket_anywhere(root) } else { None });
    found.unwrap_or(STATUS_SOCKET.into())
}

fn read_status_socket(daemon: &SectionFields, sink: &mut DiagnosticSink) -> Option<PathBuf> {
    daemon.read("status_socket", sink, values::file)
}

fn status_socket_anywhere(section: &Section) -> Option<PathBuf> {
    let is_meant = |entry: &&KeyEntry| entry.key.text.eq_ignore_ascii_case("status_socket");
    let here = section.entries.iter().rev().filter(is_meant);
    let found = here.filter_map(|entry| values::file(entry.value.text).ok()).next();
    found.or_else(|| section.sections.iter().find_map(status_socket_anywhere))
}

/// Warns of a serial listener without a path.
fn warn_of_path(named: &SelectedListener, section: Option<&Section>, sink: &mut DiagnosticSink) {
    let is_path = |entry: &KeyEntry| entry.key.text.eq_ignore_ascii_case("path");
    if !section.is_some_and(|section| section.entries.iter().any(is_path)) {
        let message = format!(
            "listener {} has no path: every serial port (or channel) of type unix, mode bind, is used for fencing, \
             including consoles that other programs use",
            named.name
        );
        sink.warning(section.map_or(named.at, Section::at), message);
    }
}

fn require(daemon: &SectionFields, at: usize, key: &str, example: &str, sink: &mut DiagnosticSink) {
    if daemon.value(key).is_none() {
        sink.error(at, format!("missing key {key}; add {key} = \"{example}\"; to this section"));
    }
}

fn groups(
    section: Option<&Section>,
    selected: &[SelectedListener],
    has_keys: bool,
    sink: &mut DiagnosticSink,
) -> Vec<GroupConfig> {
    let fields = SectionFields::of(section, "groups", sink);
    let groups: Vec<GroupConfig> =
        fields.sections("group").map(|group| read_group(group, selected, has_keys, sink)).collect();
    let Some(section) = section else { return groups };
    if groups.is_empty() {
        // With an error, which may be a group in another place, the file is not used.
        if !sink.has_errors() {
            sink.warning(section.at(), "groups has no group: any requester may fence any VM");
        }
        return groups;
    }
    for SelectedListener { name, .. } in selected {
        if !groups.iter().any(|group| group.listeners.is_empty() || group.listeners.contains(name)) {
            let message = format!("no group applies to listener {name}: all its requests are denied");
            sink.warning(section.at(), message);
        }
    }
    groups
}

fn read_group(
    section: &Section,
    selected: &[SelectedListener],
    has_keys: bool,
    sink: &mut DiagnosticSink,
) -> GroupConfig {
    let fields = SectionFields::of(Some(section), "groups/group", sink);
    let only = listener_selection::parse_names(fields.value("listener"), sink);
    for named in only.iter().filter(|named| !selected.iter().any(|other| other.name == named.name)) {
        sink.warning(named.at, format!("listener {} is not enabled: no request comes from it", named.name));
    }
    let listeners = group_listeners(selected, &only);
    let uuids = fields.all("uuid", sink);
    let ips = fields.all("ip", sink);
    let [sources, targets] = ["source", "target"].map(|key| fields.all(key, sink));
    let has_requester = !uuids.is_empty() || !ips.is_empty() || !sources.is_empty();
    let has_target = !uuids.is_empty() || !targets.is_empty();
    let error = match (has_requester, has_target) {
        (false, false) => {
            Some("this group has neither uuid nor ip: it permits nothing; complete or remove it")
        }
        (false, true) => {
            Some("nobody may ask for the targets of this group; add source, ip or uuid, or remove it")
        }
        // Files of 4.x may have such a group.
        (true, false) if sources.is_empty() => {
            sink.warning(section.at(), "this group has no uuid: no VM can be fenced through it");
            None
        }
        (true, false) => Some("the sources of this group have no target; add target or uuid, or remove it"),
        (true, true) => None,
    };
    error.into_iter().for_each(|message| sink.error(section.at(), message));
    if listeners.by_address && has_requester && !has_keys && !group_ips::has_address(&ips, &sources) {
        let missing = if sources.is_empty() { "no ip" } else { "no address in ip or source" };
        let message = format!(
            "this group has {missing}: its members can be fenced only through the serial and vsock listeners"
        );
        sink.warning(section.at(), message);
    }
    group_ips::check(&ips, &sources, listeners, sink);
    let label = section.label.filter(|label| !label.text.is_empty()).map(|label| label.text.to_string());
    let text = |spans: Vec<Span>| spans.into_iter().map(|span| span.text.to_string()).collect();
    GroupConfig {
        name: fields.read("name", sink, |text| Ok(text.to_string())).or(label),
        uuids: text(uuids),
        ips: text(ips),
        sources: text(sources),
        targets: text(targets),
        rights: group_rights::read(fields.value("allow"), sink),
        listeners: only.into_iter().map(|named| named.name).collect(),
        max_power_off: fields.read("max_power_off", sink, values::power_off_cap),
    }
}

/// Kinds of the selected listeners that a group for `only` these (empty: all) applies to.
fn group_listeners(selected: &[SelectedListener], only: &[SelectedListener]) -> GroupListeners {
    let names = selected.iter().map(|named| &named.name);
    let kinds: Vec<&str> = names
        .filter(|name| only.is_empty() || only.iter().any(|named| named.name == **name))
        .map(|name| name.kind())
        .collect();
    let has = |wanted: &[&str]| kinds.iter().any(|kind| wanted.contains(kind));
    GroupListeners {
        by_address: has(&["multicast", "tcp"]),
        by_cid: has(&["vsock"]),
        by_vm: has(&["vsock", "serial"]),
    }
}
