//! Checks that the members of the groups exist.

use std::collections::HashSet;

use super::libvirt::UriReply;
use crate::tools::finding::{Finding, listed};
use fence_virt::config::{BackendConfig, GroupConfig};
use fence_virt::groups::{Requesters, listed_names, listed_text};

/// Looks up each member among the VMs of all places, by name and UUID, case-insensitively as the daemon does.
/// `unlisted` are those that do not name theirs.
pub(super) fn judge(
    backend: &BackendConfig,
    groups: &[GroupConfig],
    places: &[UriReply],
    unlisted: &[String],
) -> Vec<Finding> {
    if groups.is_empty() {
        return Vec::new();
    }
    let silent = listed(places.iter().filter(|(_, reply)| reply.is_err()).map(|(uri, _)| uri));
    if !silent.is_empty() {
        let what = format!("cannot check the members without {silent}");
        return vec![Finding::note("groups", what, "fix the errors above and run this again")];
    }
    let vms = places.iter().flat_map(|(_, reply)| reply.iter().flatten());
    let names = vms.flat_map(|vm| listed_names(&vm.name, &vm.uuid));
    let known: HashSet<String> = names.map(listed_text).collect();
    let elsewhere = elsewhere(backend, unlisted);
    groups
        .iter()
        .enumerate()
        .map(|(at, group)| judge_group(at, group, &known, (lister(backend), elsewhere.as_deref())))
        .collect()
}

/// Condition of a remedy, if VMs that no place names may be elsewhere.
pub(super) fn elsewhere(backend: &BackendConfig, unlisted: &[String]) -> Option<String> {
    match (backend, unlisted) {
        (BackendConfig::Cpg(_), _) => {
            Some("if no other host has them either (an agent's `-o list` shows all VMs)".to_owned())
        }
        (_, []) => None,
        _ => Some(format!("if {}, which has no list, does not have them either", listed(unlisted))),
    }
}

/// Program that lists the VMs, for a remedy.
pub(super) fn lister(backend: &BackendConfig) -> &'static str {
    match backend {
        BackendConfig::Agent { .. } => "`fence_virt -o list` in a VM that may see all",
        _ => "`virsh list --all --name --uuid`",
    }
}

fn judge_group(
    at: usize,
    group: &GroupConfig,
    known: &HashSet<String>,
    (lister, elsewhere): (&str, Option<&str>),
) -> Finding {
    let about = match &group.name {
        Some(name) => format!("group {name}"),
        None => format!("group #{}", at + 1),
    };
    let is_vm = |source: &&String| Requesters::parse_source(source) == Ok(None);
    let vms = group.uuids.iter().chain(group.sources.iter().filter(is_vm)).chain(&group.targets);
    let missing = listed(vms.filter(|member| !known.contains(&listed_text(member))));
    if missing.is_empty() {
        Finding::ok(about, "all members are VMs of this host")
    } else if let Some(elsewhere) = elsewhere {
        let remedy = format!("{elsewhere}, correct the lines of this group");
        Finding::note(about, format!("this host has no such VMs: {missing}"), remedy)
    } else {
        let remedy = format!("{lister} lists the VMs: correct or remove the lines of this group");
        Finding::warning(about, format!("no VM has these names or UUIDs: {missing}"), remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::doctor::libvirt::ListedVm;
    use crate::tools::finding::{Level, shown};
    use crate::tools::service_reply::{NoReply, ServiceReply};
    use fence_virt::config::{CpgConfig, HostFencing, UnknownVm};

    fn judged(
        backend: &BackendConfig,
        members: &[&str],
        reply: ServiceReply<Vec<ListedVm>>,
    ) -> Vec<(Level, String)> {
        let uuids = members.iter().map(|member| member.to_string()).collect();
        let group = GroupConfig { name: Some("g".into()), uuids, ..GroupConfig::default() };
        shown(judge(backend, &[group], &[("u".to_owned(), reply)], &[]))
    }

    #[test]
    fn members_are_looked_for_by_name_and_uuid() {
        let libvirt = BackendConfig::Libvirt { uris: vec!["u".into()] };
        let cpg = BackendConfig::Cpg(CpgConfig {
            uris: vec!["u".into()],
            name_mode: None,
            host_fence_delay: None,
            host_fencing: HostFencing::Auto,
            unknown_vm: UnknownVm::Fail,
        });
        let vms = || Ok(vec![ListedVm { name: "Node1".into(), uuid: "aa-bb".into(), runs: false }]);
        assert_eq!(judged(&libvirt, &["node1", "AA-BB"], vms())[0].0, Level::Ok);
        let found = judged(&libvirt, &["node1", "node2"], vms());
        assert!(found[0].0 == Level::Warning && found[0].1.contains(": node2 / "), "{found:?}");
        assert_eq!(judged(&cpg, &["node2"], vms())[0].0, Level::Note);
        assert_eq!(judged(&libvirt, &["node2"], Err(NoReply::TimedOut))[0].0, Level::Note);
        assert!(judge(&libvirt, &[], &[], &[]).is_empty());
        let one = [GroupConfig { uuids: vec!["node2".to_owned()], ..GroupConfig::default() }];
        let unlisted = ["agent:a".to_owned()];
        let found = shown(judge(&libvirt, &one, &[("u".to_owned(), vms())], &unlisted));
        assert!(
            found[0].0 == Level::Note && found[0].1.contains("if agent:a, which has no list"),
            "{found:?}"
        );
        let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect();
        let sources = texts(&["192.0.2.7", "5", "node1", "ctl"]);
        let group = GroupConfig { sources, targets: texts(&["node3"]), ..GroupConfig::default() };
        let found = shown(judge(&libvirt, &[group], &[("u".to_owned(), vms())], &[]));
        assert!(found[0].0 == Level::Warning && found[0].1.contains(": ctl, node3 / "), "{found:?}");
    }
}
