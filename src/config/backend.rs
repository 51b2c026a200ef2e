use std::collections::BTreeSet;

use super::diagnostic_sink::{DiagnosticSink, quoted};
use super::fields::SectionFields;
use super::model::{BackendConfig, CpgConfig, HostFencing, UnknownVm};
use super::values;

/// Names of all backends.
pub(super) const BACKENDS: [&str; 2] = ["libvirt", "cpg"];

const DEFAULT_URI: &str = "qemu:///system";

/// Reads the sections of all backends. Errors in one other than `selected` only warn.
pub(super) fn read(
    selected: &str,
    daemon: &SectionFields,
    backends: &SectionFields,
    sink: &mut DiagnosticSink,
) -> BackendConfig {
    let runs_cpg = selected == "cpg";
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
    let needs_libvirt = !runs_cpg || cpg.uris.is_empty();
    let libvirt_uris = sink.for_section(needs_libvirt, |sink| {
        let fields = SectionFields::of(backends.section("libvirt"), "backends/libvirt", sink);
        uris(&fields, sink)
    });
    let or_default = |uris: Vec<String>| if uris.is_empty() { vec![DEFAULT_URI.to_string()] } else { uris };
    if runs_cpg {
        cpg.uris = or_default(if needs_libvirt { libvirt_uris } else { cpg.uris });
        BackendConfig::Cpg(cpg)
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
