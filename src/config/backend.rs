use std::collections::BTreeSet;

use super::agents::{self, SelectedAgents};
use super::diagnostic_sink::{DiagnosticSink, quoted};
use super::fields::SectionFields;
use super::lexer::Span;
use super::listener_selection::words;
use super::model::{BackendConfig, CpgConfig, HostFencing, UnknownVm};
use super::obsolete;
use super::values;
use crate::fence::did_you_mean;

/// Names of all backends.
pub(super) const BACKENDS: [&str; 3] = ["libvirt", "cpg", "agent"];

const DEFAULT_URI: &str = "qemu:///system";

/// Backends that the key `backend` names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SelectedBackends<'a> {
    has_libvirt: bool,
    has_cpg: bool,
    agents: SelectedAgents<'a>,
    at: usize,
}

/// Reads the value of `backend`. Reports unknown backends, and those that do not go together.
pub(super) fn select<'a>(value: Option<Span<'a>>, sink: &mut DiagnosticSink) -> SelectedBackends<'a> {
    let mut selected = SelectedBackends::default();
    let Some(value) = value else { return selected };
    selected.at = value.at;
    for Span { text: word, at } in words(value) {
        match word.split_once(':').map_or((word, None), |(kind, name)| (kind, Some(name))) {
            (kind, None) if kind.eq_ignore_ascii_case("libvirt") => selected.has_libvirt = true,
            (kind, None) if kind.eq_ignore_ascii_case("cpg") => selected.has_cpg = true,
            (kind, None) if kind.eq_ignore_ascii_case("agent") => selected.agents.all = true,
            (kind, Some(name)) if kind.eq_ignore_ascii_case("agent") => {
                selected.agents.names.push(Span { at: at + kind.len() + 1, text: name });
            }
            _ => {
                let hint =
                    obsolete::backend_hint(word).unwrap_or_else(|| did_you_mean(word, BACKENDS.into_iter()));
                let known = BACKENDS.join(", ");
                sink.error(at, format!("unknown backend {}; expected one of: {known}{hint}", quoted(word)));
            }
        }
    }
    let names_one = selected.has_libvirt || selected.has_cpg || selected.has_agents();
    if !(names_one || sink.has_errors()) {
        sink.error(value.at, format!("names no backend; expected one of: {}", BACKENDS.join(", ")));
    }
    if selected.has_cpg && (selected.has_libvirt || selected.has_agents()) {
        let message =
            "cpg goes with no other backend: its VMs are those of libvirt on all hosts of the cluster";
        sink.error(value.at, message);
    }
    selected
}

impl SelectedBackends<'_> {
    fn has_agents(&self) -> bool {
        self.agents.all || !self.agents.names.is_empty()
    }
}

/// Reads the sections of all backends. Errors in one other than `selected` only warn.
pub(super) fn read(
    selected: &SelectedBackends,
    daemon: &SectionFields,
    backends: &SectionFields,
    sink: &mut DiagnosticSink,
) -> BackendConfig {
    let runs_cpg = selected.has_cpg;
    let mut cpg = sink.for_section(runs_cpg, |sink| {
        let fields = SectionFields::of(backends.section("cpg"), "backends/cpg", sink);
        let mode = fields.read("name_mode", sink, values::name_mode);
        let old_mode = daemon.read("name_mode", sink, values::name_mode);
        CpgConfig {
            uris: uris(&fields, sink),
            name_mode: mode.or(old_mode),
            host_fence_delay: fields.read("host_fence_delay", sink, values::number),
            host_fencing: fields
                .read("host_fencing", sink, values::host_fencing)
                .unwrap_or(HostFencing::Auto),
            unknown_vm: fields.read("unknown_vm", sink, values::unknown_vm).unwrap_or(UnknownVm::Fail),
        }
    });
    let agents = agents::read(backends, &selected.agents, selected.at, sink);
    let needs_libvirt =
        if runs_cpg { cpg.uris.is_empty() } else { !selected.has_agents() || selected.has_libvirt };
    let libvirt_uris = sink.for_section(needs_libvirt, |sink| {
        let fields = SectionFields::of(backends.section("libvirt"), "backends/libvirt", sink);
        uris(&fields, sink)
    });
    let or_default = |uris: Vec<String>| if uris.is_empty() { vec![DEFAULT_URI.to_string()] } else { uris };
    if runs_cpg {
        cpg.uris = or_default(if needs_libvirt { libvirt_uris } else { cpg.uris });
        BackendConfig::Cpg(cpg)
    } else if selected.has_agents() {
        let uris = if selected.has_libvirt { or_default(libvirt_uris) } else { Vec::new() };
        BackendConfig::Agent { uris, agents }
    } else {
        BackendConfig::Libvirt { uris: or_default(libvirt_uris) }
    }
}

fn uris(fields: &SectionFields, sink: &mut DiagnosticSink) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut uris = Vec::new();
    for uri in fields.numbered(sink) {
        if seen.insert(uri.text) {
            uris.push(uri.text.to_string());
        } else {
            sink.warning(uri.at, format!("duplicate {}; it is used once", quoted(uri.text)));
        }
    }
    uris
}
