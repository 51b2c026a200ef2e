use std::net::IpAddr;
use std::path::PathBuf;

use super::backend::{self, BACKENDS};
use super::diagnostic_sink::{Report, quoted};
use super::fields::Fields;
use super::lexer::Spot;
use super::listener_selection::{self, Named};
use super::model::{Config, GroupConfig};
use super::schema;
use super::tree::{Entry, Section};
use super::values;

/// Where `--status` asks unless the configuration says otherwise.
const STATUS_SOCKET: &str = "/run/fence_virtd/status.sock";

/// Gives the tree its meaning. The result is only worth something if no error
/// was reported.
pub(super) fn config(root: &Section, report: &mut Report) -> Config {
    let whole = !report.has_errors();
    let sections = Fields::of(Some(root), "", report);
    let daemon_section = sections.section("fence_virtd");
    if whole && daemon_section.is_none() {
        let example = "fence_virtd { listener = \"multicast\"; backend = \"libvirt\"; }";
        report.error(0, format!("the section fence_virtd is missing; write {example}"));
    }
    let daemon = Fields::of(daemon_section, "fence_virtd", report);
    if let Some(section) = daemon_section.filter(|_| whole) {
        require(&daemon, section.at(), "listener", "multicast", report);
        require(&daemon, section.at(), "backend", "libvirt", report);
    }
    let chosen =
        daemon.value("listener").map_or(Vec::new(), |value| listener_selection::named(value, report));
    let listeners = Fields::of(sections.section("listeners"), "listeners", report);
    for named in chosen.iter().filter(|named| named.name.kind() == "serial") {
        warn_of_path(named, listener_selection::section(&named.name, &chosen, &listeners), report);
    }
    let backends = Fields::of(sections.section("backends"), "backends", report);
    let backend = backend::read(chosen_backend(&daemon, report), &daemon, &backends, report);
    // Like the C daemon: either name is enough.
    let waits = ["wait_for_init", "wait_for_backend"].map(|key| daemon.read(key, report, values::boolean));
    Config {
        foreground: daemon.read("foreground", report, values::boolean).unwrap_or(false),
        wait_for_init: waits.contains(&Some(true)),
        debug: daemon.read("debug", report, values::number).unwrap_or(0),
        status_socket: read_status_socket(&daemon, report).unwrap_or(STATUS_SOCKET.into()),
        listeners: listener_selection::read(&chosen, &listeners, backend.uris(), report),
        backend,
        groups: groups(sections.section("groups"), &chosen, report),
    }
}

/// Where `--status` asks, though the file may have mistakes. If its braces or
/// quotes are wrong, the key counts in whichever section it seems to be.
pub(super) fn status_socket(root: &Section, report: &mut Report) -> PathBuf {
    let is_torn = report.has_errors();
    let section = Fields::of(Some(root), "", report).section("fence_virtd");
    let daemon = Fields::of(section, "fence_virtd", report);
    let found = read_status_socket(&daemon, report);
    let found = found.or_else(|| if is_torn { status_socket_anywhere(root) } else { None });
    found.unwrap_or(STATUS_SOCKET.into())
}

fn read_status_socket(daemon: &Fields, report: &mut Report) -> Option<PathBuf> {
    daemon.read("status_socket", report, values::file)
}

fn status_socket_anywhere(section: &Section) -> Option<PathBuf> {
    let is_meant = |entry: &&Entry| entry.key.text.eq_ignore_ascii_case("status_socket");
    let here = section.entries.iter().rev().filter(is_meant);
    let found = here.filter_map(|entry| values::file(entry.value.text).ok()).next();
    found.or_else(|| section.sections.iter().find_map(status_socket_anywhere))
}

/// A serial listener that is chosen.
fn warn_of_path(named: &Named, section: Option<&Section>, report: &mut Report) {
    let is_path = |entry: &Entry| entry.key.text.eq_ignore_ascii_case("path");
    if !section.is_some_and(|section| section.entries.iter().any(is_path)) {
        let message = format!(
            "the listener {} has no path: every serial port (or channel) of type unix, mode bind, is taken for a \
             fence line, also one that is somebody's console",
            named.name
        );
        report.warning(section.map_or(named.at, Section::at), message);
    }
}

fn require(daemon: &Fields, at: usize, key: &str, example: &str, report: &mut Report) {
    if daemon.value(key).is_none() {
        report.error(at, format!("no {key} is named; write {key} = \"{example}\"; in this section"));
    }
}

/// The backend that is named; the first one, and an error, if it is unknown.
fn chosen_backend(daemon: &Fields, report: &mut Report) -> &'static str {
    let named = daemon.read("backend", report, |text| {
        let known = BACKENDS.into_iter().find(|known| known.eq_ignore_ascii_case(text.trim()));
        known.ok_or_else(|| format!("unknown backend {}; known are {}", quoted(text), BACKENDS.join(", ")))
    });
    named.unwrap_or(BACKENDS[0])
}

fn groups(section: Option<&Section>, chosen: &[Named], report: &mut Report) -> Vec<GroupConfig> {
    let fields = Fields::of(section, "groups", report);
    let groups: Vec<GroupConfig> =
        fields.sections(schema::REPEATABLE).map(|group| read_group(group, chosen, report)).collect();
    let Some(section) = section else { return groups };
    if groups.is_empty() {
        report.warning(section.at(), "there is no group in here: everyone may fence everything");
        return groups;
    }
    for Named { name, .. } in chosen {
        if !groups.iter().any(|group| group.listeners.is_empty() || group.listeners.contains(name)) {
            report.warning(
                section.at(),
                format!("no group is for the listener {name}: its requests are denied"),
            );
        }
    }
    groups
}

fn read_group(section: &Section, chosen: &[Named], report: &mut Report) -> GroupConfig {
    let fields = Fields::of(Some(section), "groups/group", report);
    let only = fields.value("listener").map_or(Vec::new(), |value| listener_selection::named(value, report));
    for named in only.iter().filter(|named| !chosen.iter().any(|other| other.name == named.name)) {
        let message = format!("the listener {} does not run: it lets nobody be fenced", named.name);
        report.warning(named.at, message);
    }
    // Some requests come with an address, and from nobody who is known by more.
    let by_address = chosen.iter().map(|named| &named.name).any(|name| {
        let is_meant = only.is_empty() || only.iter().any(|named| named.name == *name);
        is_meant && matches!(name.kind(), "multicast" | "tcp")
    });
    let uuids = fields.all("uuid", report);
    if uuids.is_empty() {
        report.warning(section.at(), "this group has no uuid: nobody can be fenced through it");
    }
    let ips = fields.all("ip", report);
    if by_address && ips.is_empty() {
        report.warning(
            section.at(),
            "this group has no ip: only the listeners serial and vsock let its members be fenced",
        );
    }
    for ip in &ips {
        if !is_source(ip.text) {
            let message =
                format!("{} is neither an IP address nor a vsock CID; it matches nobody", quoted(ip.text));
            report.warning(ip.at, message);
        }
    }
    let label = section.label.filter(|label| !label.text.is_empty()).map(|label| label.text.to_string());
    let text = |spots: Vec<Spot>| spots.into_iter().map(|spot| spot.text.to_string()).collect();
    GroupConfig {
        name: fields.read("name", report, |text| Ok(text.to_string())).or(label),
        uuids: text(uuids),
        ips: text(ips),
        listeners: only.into_iter().map(|named| named.name).collect(),
    }
}

/// An IP address, perhaps with its scope (`fe80::1%eth0`), or a CID.
fn is_source(text: &str) -> bool {
    let text = text.trim();
    let address = text.split('%').next().unwrap_or(text);
    address.parse::<IpAddr>().is_ok() || text.parse::<u32>().is_ok()
}
