//! Checks of each libvirt URI and its VMs.

use std::collections::BTreeMap;
use std::fmt;

use crate::libvirt::{Connection, FoundDomain, Host};
use crate::tools::finding::{Finding, listed};
use crate::tools::service_reply::{NoReply, REPLY_TIMEOUT, ServiceReply};
use fence_virt::config::BackendConfig;
use fence_virt::fence::PowerState;

/// A VM at a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedVm {
    pub(super) name: String,
    /// Lower case.
    pub(super) uuid: String,
    pub(super) runs: bool,
}

/// Reply of libvirt at a URI.
pub(super) type UriReply = (String, ServiceReply<Vec<ListedVm>>);

/// Returns the VMs at a URI. Blocks while libvirt hangs.
pub(super) fn list(uri: &str) -> Result<Vec<ListedVm>, String> {
    let list = || Connection::open(uri)?.list();
    let found = list().map_err(|error| error.to_string())?;
    let vm = |found: FoundDomain| ListedVm {
        name: found.name,
        uuid: found.uuid,
        runs: found.state.power == PowerState::Running,
    };
    Ok(found.into_iter().map(vm).collect())
}

/// Returns a finding about a libvirt that did not reply.
pub(super) fn unanswered(about: impl fmt::Display, uri: &str, why: &NoReply) -> Finding {
    match why {
        NoReply::Failed(reason) => {
            let what = format!("cannot connect to {uri}: {reason}");
            let remedy = format!(
                "correct the URI, or start libvirt (`systemctl start libvirtd`, or virtqemud.socket); `virsh -c '{uri}' list --all` must work"
            );
            Finding::error(about, what, remedy)
        }
        NoReply::TimedOut => {
            let what = format!("{uri} does not answer within {} s", REPLY_TIMEOUT.as_secs());
            let remedy = "check why libvirt hangs (`journalctl -u libvirtd`), or restart it: `systemctl restart libvirtd` (or virtqemud); running VMs are not affected";
            Finding::error(about, what, remedy)
        }
    }
}

pub(super) fn judge(backend: &BackendConfig, uris: &[UriReply]) -> Vec<Finding> {
    // Beside agents, the URIs are those of the backend libvirt.
    let kind = if matches!(backend, BackendConfig::Cpg(_)) { "cpg" } else { "libvirt" };
    let about = format!("backend {kind}");
    uris.iter().map(|(uri, reply)| judge_uri(&about, uri, reply)).collect()
}

fn judge_uri(about: &str, uri: &str, reply: &ServiceReply<Vec<ListedVm>>) -> Finding {
    match reply {
        Err(why) => unanswered(about, uri, why),
        Ok(vms) if vms.is_empty() => {
            let remedy =
                "if there should be VMs, the URI is wrong: `virsh uri` prints the one that virsh uses";
            Finding::note(about, format!("{uri} answers but has no VMs"), remedy)
        }
        Ok(vms) => {
            let runs = vms.iter().filter(|vm| vm.runs).count();
            Finding::ok(about, format!("{uri} answers; VMs: {}, running: {runs}", vms.len()))
        }
    }
}

/// Places that have a VM, each with true if it runs there.
type PlacesOfVm<'a> = Vec<(&'a str, bool)>;

/// Returns findings about ambiguous names, and about VMs that run at two places: URIs or agents.
pub(super) fn duplicates(backend: &BackendConfig, places: &[UriReply]) -> Vec<Finding> {
    let about = format!("backend {}", backend.kind());
    let mut by_name: BTreeMap<&str, BTreeMap<&str, PlacesOfVm>> = BTreeMap::new();
    for (place, reply) in places {
        for vm in reply.iter().flatten() {
            let copies = by_name.entry(&vm.name).or_default().entry(&vm.uuid).or_default();
            copies.push((place, vm.runs));
        }
    }
    let ambiguous: Vec<String> = by_name
        .iter()
        .filter(|(_, uuids)| uuids.len() > 1)
        .map(|(name, uuids)| {
            let places: Vec<&str> = uuids.values().flatten().map(|(place, _)| *place).collect();
            format!("{name} ({})", places.join(", "))
        })
        .collect();
    let doubled: Vec<&str> = by_name
        .iter()
        .flat_map(|(name, uuids)| uuids.values().map(move |copies| (*name, copies)))
        .filter(|(_, copies)| copies.iter().filter(|(_, runs)| *runs).count() > 1)
        .map(|(name, _)| name)
        .collect();
    let mut findings = Vec::new();
    if !ambiguous.is_empty() {
        let what = format!(
            "these names are ambiguous (two VMs each), so requests for them fail: {}",
            listed(&ambiguous)
        );
        let remedy = match backend {
            BackendConfig::Agent { .. } => {
                "rename one of each, or use UUIDs in requests; if both are one VM, leave it to one of the places"
            }
            _ => "rename one of each (`virsh -c URI domrename OLD NEW`), or use UUIDs in requests",
        };
        findings.push(Finding::warning(&about, what, remedy));
    }
    if !doubled.is_empty() {
        let (what, same) = match backend {
            BackendConfig::Agent { .. } => ("places", "places are the same hypervisor"),
            _ => ("URIs", "URIs are the same libvirt"),
        };
        let what = format!("these VMs run at two {what} at once: {}", listed(&doubled));
        let remedy = format!(
            "if both {same}, remove one; otherwise stop one of the VMs before both write to the same disk"
        );
        findings.push(Finding::warning(&about, what, remedy));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::finding::{Level, shown};

    fn vm(name: &str, uuid: &str, runs: bool) -> ListedVm {
        ListedVm { name: name.into(), uuid: uuid.into(), runs }
    }

    fn judged(replies: Vec<ServiceReply<Vec<ListedVm>>>) -> Vec<(Level, String)> {
        let uris: Vec<_> =
            replies.into_iter().enumerate().map(|(at, reply)| (format!("uri{at}"), reply)).collect();
        let backend = BackendConfig::Libvirt { uris: Vec::new() };
        let findings = judge(&backend, &uris).into_iter().chain(duplicates(&backend, &uris));
        shown(findings.collect())
    }

    #[test]
    fn a_uri_that_answers_and_one_that_does_not() {
        let found = judged(vec![Ok(vec![vm("a", "1", true), vm("b", "2", false)])]);
        assert_eq!(found, [(Level::Ok, "uri0 answers; VMs: 2, running: 1 / ".to_owned())]);
        assert_eq!(judged(vec![Ok(vec![])])[0].0, Level::Note);
        let found = judged(vec![Err(NoReply::Failed("no".into())), Err(NoReply::TimedOut)]);
        assert!(found[0].0 == Level::Error && found[0].1.contains("virsh -c 'uri0' list"), "{found:?}");
        assert!(found[1].0 == Level::Error && found[1].1.contains("within 5 s"), "{found:?}");
    }

    #[test]
    fn duplicates_are_reported() {
        let found = judged(vec![Ok(vec![vm("a", "1", true)]), Ok(vec![vm("a", "2", true)])]);
        assert!(found[2].0 == Level::Warning && found[2].1.contains("a (uri0, uri1)"), "{found:?}");
        let found = judged(vec![Ok(vec![vm("a", "1", true)]), Ok(vec![vm("a", "1", true)])]);
        assert!(found.len() == 3 && found[2].1.contains("run at two URIs at once: a"), "{found:?}");
        // A VM that has migrated.
        let found = judged(vec![Ok(vec![vm("a", "1", false)]), Ok(vec![vm("a", "1", true)])]);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
