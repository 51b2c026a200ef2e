//! Whether each libvirt answers, and which VMs it has.

use std::collections::BTreeMap;
use std::fmt;

use super::ask::{LIMIT, Reply, Unanswered};
use super::finding::{Finding, listed};
use crate::libvirt::{Connection, Failed};
use crate::libvirt::{Found, Host};
use fence_virt::fence::PowerState;

/// A VM at a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vm {
    pub(super) name: String,
    /// In lower case.
    pub(super) uuid: String,
    pub(super) runs: bool,
}

/// The VMs at a URI. May take for ever.
pub(super) fn list(uri: &str) -> Result<Vec<Vm>, String> {
    let list = || Connection::open(uri)?.list();
    let found = list().map_err(|Failed(reason)| reason)?;
    let vm = |found: Found| Vm {
        name: found.name,
        uuid: found.uuid,
        runs: found.condition.power == PowerState::Running,
    };
    Ok(found.into_iter().map(vm).collect())
}

/// What is to be said of a libvirt that gave no answer.
pub(super) fn unanswered(about: impl fmt::Display, uri: &str, why: &Unanswered) -> Finding {
    match why {
        Unanswered::Refused(reason) => {
            let what = format!("cannot connect to {uri}: {reason}");
            let remedy = format!(
                "correct the URI, or start its libvirt (`systemctl start libvirtd`, or virtqemud.socket); `virsh -c '{uri}' list --all` must work"
            );
            Finding::error(about, what, remedy)
        }
        Unanswered::Silent => {
            let what = format!("{uri} does not answer within {} s", LIMIT.as_secs());
            let remedy = "look what its libvirt hangs in (`journalctl -u libvirtd`), or restart it: `systemctl restart libvirtd` (or virtqemud); VMs run on meanwhile";
            Finding::error(about, what, remedy)
        }
    }
}

pub(super) fn judge(kind: &str, uris: &[(String, Reply<Vec<Vm>>)]) -> Vec<Finding> {
    let about = format!("backend {kind}");
    let mut findings: Vec<Finding> = uris.iter().map(|(uri, reply)| judge_uri(&about, uri, reply)).collect();
    findings.extend(twins(&about, uris));
    findings
}

fn judge_uri(about: &str, uri: &str, reply: &Reply<Vec<Vm>>) -> Finding {
    match reply {
        Err(why) => unanswered(about, uri, why),
        Ok(vms) if vms.is_empty() => {
            let what = format!("{uri} answers, and has no VM");
            Finding::note(
                about,
                what,
                "if it should have some, it is the wrong URI: `virsh uri` shows others",
            )
        }
        Ok(vms) => {
            let runs = vms.iter().filter(|vm| vm.runs).count();
            Finding::ok(about, format!("{uri} answers; VMs: {}, running: {runs}", vms.len()))
        }
    }
}

/// The URIs that have a VM, and whether it runs there.
type Copies<'a> = Vec<(&'a str, bool)>;

/// Names that mean two VMs, and VMs that run at two URIs.
fn twins(about: &str, uris: &[(String, Reply<Vec<Vm>>)]) -> Vec<Finding> {
    let mut by_name: BTreeMap<&str, BTreeMap<&str, Copies>> = BTreeMap::new();
    for (uri, reply) in uris {
        for vm in reply.iter().flatten() {
            let copies = by_name.entry(&vm.name).or_default().entry(&vm.uuid).or_default();
            copies.push((uri, vm.runs));
        }
    }
    let ambiguous: Vec<String> = by_name
        .iter()
        .filter(|(_, uuids)| uuids.len() > 1)
        .map(|(name, uuids)| {
            let uris: Vec<&str> = uuids.values().flatten().map(|(uri, _)| *uri).collect();
            format!("{name} ({})", uris.join(", "))
        })
        .collect();
    let doubled: Vec<String> = by_name
        .iter()
        .flat_map(|(name, uuids)| uuids.values().map(move |copies| (name, copies)))
        .filter(|(_, copies)| copies.iter().filter(|(_, runs)| *runs).count() > 1)
        .map(|(name, _)| name.to_string())
        .collect();
    let mut findings = Vec::new();
    if !ambiguous.is_empty() {
        let what =
            format!("these names mean two VMs each, so that requests for them fail: {}", listed(&ambiguous));
        let remedy = "rename one of each (`virsh -c URI domrename OLD NEW`), or ask for them by UUID";
        findings.push(Finding::warning(about, what, remedy));
    }
    if !doubled.is_empty() {
        let what = format!("these VMs run at two URIs at once: {}", listed(&doubled));
        let remedy = "if two URIs are the same libvirt, take one away; else stop one of the copies before both write the same disk";
        findings.push(Finding::warning(about, what, remedy));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::doctor::finding::Level;

    fn vm(name: &str, uuid: &str, runs: bool) -> Vm {
        Vm { name: name.into(), uuid: uuid.into(), runs }
    }

    fn judged(replies: Vec<Reply<Vec<Vm>>>) -> Vec<(Level, String)> {
        let uris: Vec<_> =
            replies.into_iter().enumerate().map(|(at, reply)| (format!("uri{at}"), reply)).collect();
        let shown =
            |finding: Finding| (finding.level, finding.text + " / " + &finding.remedy.unwrap_or_default());
        judge("libvirt", &uris).into_iter().map(shown).collect()
    }

    #[test]
    fn a_uri_answers_or_not() {
        let found = judged(vec![Ok(vec![vm("a", "1", true), vm("b", "2", false)])]);
        assert_eq!(found, [(Level::Ok, "uri0 answers; VMs: 2, running: 1 / ".to_owned())]);
        assert_eq!(judged(vec![Ok(vec![])])[0].0, Level::Note);
        let found = judged(vec![Err(Unanswered::Refused("no".into())), Err(Unanswered::Silent)]);
        assert!(found[0].0 == Level::Error && found[0].1.contains("virsh -c 'uri0' list"), "{found:?}");
        assert!(found[1].0 == Level::Error && found[1].1.contains("within 5 s"), "{found:?}");
    }

    #[test]
    fn twins_are_named() {
        let found = judged(vec![Ok(vec![vm("a", "1", true)]), Ok(vec![vm("a", "2", true)])]);
        assert!(found[2].0 == Level::Warning && found[2].1.contains("a (uri0, uri1)"), "{found:?}");
        let found = judged(vec![Ok(vec![vm("a", "1", true)]), Ok(vec![vm("a", "1", true)])]);
        assert!(found.len() == 3 && found[2].1.contains("run at two URIs at once: a"), "{found:?}");
        // It moved from one to the other.
        let found = judged(vec![Ok(vec![vm("a", "1", false)]), Ok(vec![vm("a", "1", true)])]);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
