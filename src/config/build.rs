use std::net::IpAddr;

use super::backend::{self, BACKENDS};
use super::fields::Fields;
use super::lexer::Spot;
use super::listener::{self, LISTENERS};
use super::model::{Config, GroupConfig, ListenerConfig};
use super::report::{Report, quoted};
use super::schema;
use super::tree::{Entry, Section};
use super::values;

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
    let chosen = daemon.value("listener").map_or(Vec::new(), |value| chosen_listeners(value, report));
    let listeners = Fields::of(sections.section("listeners"), "listeners", report);
    if let Some(value) = daemon.value("listener").filter(|_| chosen.contains(&"serial")) {
        warn_of_path(listeners.section("serial"), value.at, report);
    }
    let backends = Fields::of(sections.section("backends"), "backends", report);
    // Like the C daemon: either name is enough.
    let waits = ["wait_for_init", "wait_for_backend"].map(|key| daemon.read(key, report, values::boolean));
    Config {
        foreground: daemon.read("foreground", report, values::boolean).unwrap_or(false),
        wait_for_init: waits.contains(&Some(true)),
        debug: daemon.read("debug", report, values::number).unwrap_or(0),
        listeners: read_listeners(&chosen, &listeners, report),
        backend: backend::read(chosen_backend(&daemon, report), &daemon, &backends, report),
        groups: groups(sections.section("groups"), &chosen, report),
    }
}

/// The serial listener is chosen at `at`.
fn warn_of_path(section: Option<&Section>, at: usize, report: &mut Report) {
    let is_path = |entry: &Entry| entry.key.text.eq_ignore_ascii_case("path");
    if !section.is_some_and(|section| section.entries.iter().any(is_path)) {
        let message = "the listener serial has no path: every serial port (or channel) of type unix, mode bind, \
                       is taken for a fence line, also one that is somebody's console";
        report.warning(section.map_or(at, Section::at), message);
    }
}

fn require(daemon: &Fields, at: usize, key: &str, example: &str, report: &mut Report) {
    if daemon.value(key).is_none() {
        report.error(at, format!("no {key} is named; write {key} = \"{example}\"; in this section"));
    }
}

/// The listeners of a list like `"multicast, tcp"`.
fn chosen_listeners(value: Spot, report: &mut Report) -> Vec<&'static str> {
    let mut chosen = Vec::new();
    let names = words(value);
    if names.is_empty() {
        report.error(value.at, format!("no listener is named; known are {}", LISTENERS.join(", ")));
    }
    for name in names {
        match LISTENERS.into_iter().find(|known| known.eq_ignore_ascii_case(name.text)) {
            Some(known) if chosen.contains(&known) => {
                report.error(name.at, format!("the listener {known} is named twice"));
            }
            Some(known) => chosen.push(known),
            None => {
                let message =
                    format!("unknown listener {}; known are {}", quoted(name.text), LISTENERS.join(", "));
                report.error(name.at, message);
            }
        }
    }
    chosen
}

fn words(value: Spot) -> Vec<Spot> {
    let mut at = value.at;
    let mut words = Vec::new();
    for piece in value.text.split_inclusive(|c: char| c == ',' || c.is_whitespace()) {
        let text = piece.trim_end_matches(|c: char| c == ',' || c.is_whitespace());
        if !text.is_empty() {
            words.push(Spot { text, at });
        }
        at += piece.len();
    }
    words
}

/// The backend that is named; the first one, and an error, if it is unknown.
fn chosen_backend(daemon: &Fields, report: &mut Report) -> &'static str {
    let named = daemon.read("backend", report, |text| {
        let known = BACKENDS.into_iter().find(|known| known.eq_ignore_ascii_case(text.trim()));
        known.ok_or_else(|| format!("unknown backend {}; known are {}", quoted(text), BACKENDS.join(", ")))
    });
    named.unwrap_or(BACKENDS[0])
}

/// Reads the sections of all listeners and keeps those that are chosen.
fn read_listeners(chosen: &[&str], fields: &Fields, report: &mut Report) -> Vec<ListenerConfig> {
    let all = LISTENERS.map(|name| {
        let in_use = chosen.contains(&name);
        report.judged(in_use, |report| {
            let path = format!("listeners/{name}");
            listener::read(name, &Fields::of(fields.section(name), &path, report), in_use, report)
        })
    });
    let by_name = |name: &&str| all.iter().find(|listener| listener.kind() == *name).cloned();
    chosen.iter().filter_map(by_name).collect()
}

fn groups(section: Option<&Section>, chosen: &[&str], report: &mut Report) -> Vec<GroupConfig> {
    let by_address = chosen.iter().any(|listener| matches!(*listener, "multicast" | "tcp"));
    let fields = Fields::of(section, "groups", report);
    let groups: Vec<GroupConfig> =
        fields.sections(schema::REPEATABLE).map(|group| read_group(group, by_address, report)).collect();
    if let (Some(section), true) = (section, groups.is_empty()) {
        report.warning(section.at(), "there is no group in here: everyone may fence everything");
    }
    groups
}

/// `by_address`: some requests come with an address and from nobody who is known by more.
fn read_group(section: &Section, by_address: bool, report: &mut Report) -> GroupConfig {
    let fields = Fields::of(Some(section), "groups/group", report);
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
    }
}

/// An IP address, perhaps with its scope (`fe80::1%eth0`), or a CID.
fn is_source(text: &str) -> bool {
    let text = text.trim();
    let address = text.split('%').next().unwrap_or(text);
    address.parse::<IpAddr>().is_ok() || text.parse::<u32>().is_ok()
}
