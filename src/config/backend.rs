use std::collections::BTreeSet;

use super::diagnostic_sink::{Report, quoted};
use super::fields::Fields;
use super::lexer::Spot;
use super::model::{BackendConfig, CpgConfig, UnknownVm};
use super::values;

/// The names of all backends.
pub(super) const BACKENDS: [&str; 2] = ["libvirt", "cpg"];

const DEFAULT_URI: &str = "qemu:///system";

/// Reads the sections of the backends. `chosen` is the one that will run;
/// mistakes elsewhere only warn.
pub(super) fn read(chosen: &str, daemon: &Fields, backends: &Fields, report: &mut Report) -> BackendConfig {
    let runs_cpg = chosen == "cpg";
    let mut cpg = report.judged(runs_cpg, |report| {
        let fields = Fields::of(backends.section("cpg"), "backends/cpg", report);
        let mode = fields.read("name_mode", report, values::name_mode);
        let old_mode = daemon.read("name_mode", report, values::name_mode);
        CpgConfig {
            uris: uris(&fields, report),
            name_mode: mode.or(old_mode),
            host_fence_delay: fields.read("host_fence_delay", report, values::number),
            unknown_vm: fields.read("unknown_vm", report, values::unknown_vm).unwrap_or(UnknownVm::Fail),
        }
    });
    let needs_libvirt = !runs_cpg || cpg.uris.is_empty();
    let libvirt_uris = report.judged(needs_libvirt, |report| {
        let fields = Fields::of(backends.section("libvirt"), "backends/libvirt", report);
        uris(&fields, report)
    });
    let or_default = |uris: Vec<String>| if uris.is_empty() { vec![DEFAULT_URI.to_string()] } else { uris };
    if runs_cpg {
        cpg.uris = or_default(if needs_libvirt { libvirt_uris } else { cpg.uris });
        BackendConfig::Cpg(cpg)
    } else {
        BackendConfig::Libvirt { uris: or_default(libvirt_uris) }
    }
}

fn uris(fields: &Fields, report: &mut Report) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let values = fields.numbered(report);
    let unique = values.into_iter().filter(|uri| is_new(*uri, &mut seen, report));
    unique.map(|uri| uri.text.to_string()).collect()
}

fn is_new<'a>(uri: Spot<'a>, seen: &mut BTreeSet<&'a str>, report: &mut Report) -> bool {
    let is_new = seen.insert(uri.text);
    if !is_new {
        let message = format!("{} is given twice; it is used once", quoted(uri.text));
        report.warning(uri.at, message);
    }
    is_new
}
