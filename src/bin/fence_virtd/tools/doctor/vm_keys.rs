//! Checks of the keys that VMs have of their own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::groups;
use super::libvirt::{ListedVm, UriReply};
use super::process::RunningDaemon;
use crate::access::vm_keys::{self, VmKeys};
use crate::access::{KeyReader, key_file, policies};
use crate::problem::Problem;
use crate::tools::finding::{Finding, Level, listed};
use fence_virt::config::{BackendConfig, Config};
use fence_virt::fence::{KeyHolder, KeyedSource, Source, Uuid, counted};

const ABOUT: &str = "keys";

/// Maximum number of findings of each severity about files; the others are counted.
const SHOWN_MAX: usize = 10;

/// Reads the keys as the running daemon would.
pub(super) fn read(config: &Config, running: Option<RunningDaemon>) -> VmKeys {
    let uid = running.and_then(|running| running.uid);
    vm_keys::read(&config.keys, &uid.map_or_else(KeyReader::this_process, KeyReader::of_user))
}

/// Judges the files.
pub(super) fn judge_files(config: &Config, keys: &VmKeys, running: Option<RunningDaemon>) -> Vec<Finding> {
    let mut findings = shown(Level::Error, &keys.errors);
    findings.extend(shared_with_listeners(config, keys, running));
    findings.extend(shown(Level::Warning, &keys.warnings));
    if !keys.ring.is_empty() && findings.is_empty() {
        let count = counted(keys.ring.len(), "key");
        findings.push(Finding::ok(ABOUT, format!("{count} of VMs read, none accessible by others")));
    }
    if !keys.with_old.is_empty() {
        let what = format!("the old keys of these VMs are still accepted: {}", listed(&keys.with_old));
        findings.push(Finding::note(ABOUT, what, "remove them once the VMs have their new ones"));
    }
    findings
}

fn shown(level: Level, problems: &[Problem]) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        problems.iter().take(SHOWN_MAX).map(|problem| Finding::of(level, ABOUT, problem.clone())).collect();
    if let Some(more @ 1..) = problems.len().checked_sub(SHOWN_MAX) {
        let problem = Problem::new(format!("and {more} more such keys"), "fix those above first");
        findings.push(Finding::of(level, ABOUT, problem));
    }
    findings
}

/// Errors about shared keys that are also those of VMs.
fn shared_with_listeners(config: &Config, keys: &VmKeys, running: Option<RunningDaemon>) -> Vec<Finding> {
    let auths =
        config.listeners.iter().filter_map(|listener| Some((&listener.name, listener.config.auth()?)));
    let files = auths.flat_map(|(name, auth)| policies::key_files(auth).map(move |path| (name, path)));
    let conflicts = files.filter_map(|(name, path)| {
        let loaded = key_file::examine(path, running.and_then(|running| running.uid)).ok()?;
        let problem = vm_keys::conflict(&keys.ring, &loaded.key, path)?;
        Some(Finding::of(Level::Error, name, problem))
    });
    conflicts.collect()
}

/// Judges whether the VMs exist, and whether groups list them.
pub(super) fn judge_holders(
    config: &Config,
    keys: &VmKeys,
    places: &[UriReply],
    unlisted: &[String],
) -> Vec<Finding> {
    // A VM with a previous key has two.
    let holders: BTreeMap<&str, &Arc<KeyHolder>> =
        keys.ring.iter().map(|key| (key.holder.name.as_str(), &key.holder)).collect();
    if holders.is_empty() {
        return Vec::new();
    }
    let mut findings = judge_groups(config, &holders);
    let silent = listed(places.iter().filter(|(_, reply)| reply.is_err()).map(|(uri, _)| uri));
    if !silent.is_empty() {
        let what = format!("cannot check the VMs that have keys without {silent}");
        findings.push(Finding::note(ABOUT, what, "fix the errors above and run this again"));
        return findings;
    }
    let vms: Vec<&ListedVm> = places.iter().flat_map(|(_, reply)| reply.iter().flatten()).collect();
    findings.extend(judge_vms(&config.backend, &holders, &vms, unlisted));
    findings
}

fn judge_groups(config: &Config, holders: &BTreeMap<&str, &Arc<KeyHolder>>) -> Vec<Finding> {
    let groups = policies::groups(config);
    let is_listed = |holder: &Arc<KeyHolder>| {
        let via = Source::Ip([0; 4].into());
        let source = Source::Key(Arc::new(KeyedSource { holder: holder.clone(), via }));
        groups.iter().any(|group| group.has_requester(std::slice::from_ref(&source), None))
    };
    let without: Vec<&str> =
        holders.iter().filter(|(_, holder)| !is_listed(holder)).map(|(name, _)| *name).collect();
    if groups.is_empty() && !holders.is_empty() {
        let what = "the configuration has no groups, so each of these keys may fence every VM".to_owned();
        return vec![Finding::warning(
            ABOUT,
            what,
            "add groups that say which VM may fence which (fence_virt.conf(5))",
        )];
    }
    if without.is_empty() {
        return Vec::new();
    }
    let what = format!("no group lists these VMs, so their keys permit nothing: {}", listed(without));
    vec![Finding::note(
        ABOUT,
        what,
        "list each by its UUID, or exactly by the name of its key (`uuid` or `source`)",
    )]
}

fn judge_vms(
    backend: &BackendConfig,
    holders: &BTreeMap<&str, &Arc<KeyHolder>>,
    vms: &[&ListedVm],
    unlisted: &[String],
) -> Vec<Finding> {
    let by_name: HashMap<&str, &str> = vms.iter().map(|vm| (vm.name.as_str(), vm.uuid.as_str())).collect();
    let by_uuid: HashMap<&str, &str> = vms.iter().map(|vm| (vm.uuid.as_str(), vm.name.as_str())).collect();
    let (mut missing, mut other) = (Vec::new(), Vec::new());
    for (name, holder) in holders {
        match (holder.uuid.map(|uuid| uuid.to_string()), by_name.get(name)) {
            (None, None) => missing.push((*name).to_owned()),
            (None, Some(_)) => {}
            (Some(uuid), Some(found)) if uuid != **found => {
                other.push(format!("{name} has {found}, its key states {uuid}"));
            }
            (Some(uuid), _) if !by_uuid.contains_key(uuid.as_str()) => {
                missing.push(format!("{name} ({uuid})"))
            }
            (Some(uuid), None) if Uuid::parse(name).is_none() => {
                let owner = by_uuid.get(uuid.as_str()).unwrap_or(&"another VM");
                other.push(format!("{uuid}, which the key of {name} states, is that of {owner}"));
            }
            (Some(_), _) => {}
        }
    }
    let mut findings = Vec::new();
    if !other.is_empty() {
        let what = format!("these VMs have other UUIDs than their keys state: {}", listed(other));
        let remedy =
            "correct `uuid` in the section keys (`virsh domuuid NAME`), or give the new VM a key of its own";
        findings.push(Finding::warning(ABOUT, what, remedy));
    }
    let elsewhere = groups::elsewhere(backend, unlisted).filter(|_| !missing.is_empty());
    if let Some(elsewhere) = elsewhere {
        let remedy = format!("{elsewhere}, remove their keys");
        findings.push(Finding::note(
            ABOUT,
            format!("this host has no such VMs: {}", listed(missing)),
            remedy,
        ));
    } else if !missing.is_empty() {
        let what = format!("no VM has these names or UUIDs, but keys are for them: {}", listed(missing));
        let remedy = format!("{} lists the VMs: correct or remove the keys", groups::lister(backend));
        findings.push(Finding::warning(ABOUT, what, remedy));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(ABOUT, "all VMs that have keys are VMs of this host"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::finding::levels;
    use crate::tools::service_reply::NoReply;
    use fence_virt::auth::{MacKeys, VmKey};
    use fence_virt::config;

    const A: &str = "11111111-aaaa-4111-8111-111111111111";
    const B: &str = "22222222-bbbb-4222-8222-222222222222";

    fn configured(backend: &str, groups: &str) -> Config {
        let text =
            format!("fence_virtd {{ listener = \"tcp\"; backend = \"{backend}\"; }} groups {{ {groups} }}");
        config::parse(std::path::Path::new("f"), text.as_bytes()).config.unwrap()
    }

    fn keys(holders: &[(&str, Option<&str>)]) -> VmKeys {
        let mut keys = VmKeys::default();
        for (at, (name, uuid)) in holders.iter().enumerate() {
            let mac_keys = Arc::new(MacKeys::derive(&[at as u8]));
            let uuid = uuid.and_then(Uuid::parse);
            let holder = Arc::new(KeyHolder { name: (*name).to_owned(), uuid, key: mac_keys.id() });
            keys.ring.insert(VmKey { holder, mac_keys });
        }
        keys
    }

    fn judged(config: &Config, holders: &[(&str, Option<&str>)]) -> Vec<Finding> {
        let vm = |name: &str, uuid: &str| ListedVm { name: name.into(), uuid: uuid.into(), runs: true };
        let reply = Ok(vec![vm("a", A), vm("b", B)]);
        judge_holders(config, &keys(holders), &[("u".to_owned(), reply)], &[])
    }

    #[test]
    fn vms_are_looked_for_by_uuid_or_exactly_by_name() {
        let all = ["a", "b", "A", "x", "renamed", A, B, "33333333-bbbb-4222-8222-222222222222"];
        let all: String = all.iter().map(|vm| format!("uuid = \"{vm}\"; ")).collect();
        let groups = format!("group {{ ip = \"::1\"; {all} }}");
        let config = configured("libvirt", &groups);
        assert_eq!(judged(&config, &[]), []);
        assert_eq!(levels(&judged(&config, &[("a", Some(A)), ("b", None), (B, Some(B))])), [Level::Ok]);
        let open = judged(&configured("libvirt", ""), &[("a", Some(A))]);
        assert!(
            levels(&open) == [Level::Warning, Level::Ok] && open[0].text.contains("every VM"),
            "{open:?}"
        );
        for (holder, words) in [
            (("A", None), "keys are for them: A"),
            (("x", None), "keys are for them: x"),
            (("x", Some("33333333-bbbb-4222-8222-222222222222")), "keys are for them: x (33333333"),
            (("renamed", Some(B)), "which the key of renamed states, is that of b"),
            (("a", Some(B)), "a has 11111111-aaaa-4111-8111-111111111111, its key states 22222222"),
        ] {
            let found = judged(&config, &[holder]);
            assert!(levels(&found) == [Level::Warning] && found[0].text.contains(words), "{found:?}");
        }
        assert_eq!(
            levels(&judged(&configured("cpg", &groups), &[("x", None)])),
            [Level::Note],
            "another host may have it"
        );
        let silent =
            judge_holders(&config, &keys(&[("a", None)]), &[("u".to_owned(), Err(NoReply::TimedOut))], &[]);
        assert!(levels(&silent) == [Level::Note] && silent[0].text.contains("without u"), "{silent:?}");
    }

    #[test]
    fn keys_that_no_group_lists_are_named() {
        let config =
            configured("libvirt", &format!("group {{ uuid = \"{A}\"; uuid = \"B\"; ip = \"::1\"; }}"));
        let found = judged(&config, &[("a", Some(A)), ("b", None)]);
        assert_eq!(levels(&found), [Level::Note, Level::Ok], "{found:?}");
        assert!(found[0].text.ends_with("permit nothing: b"), "the name is compared exactly: {found:?}");
    }

    #[test]
    fn problems_of_files_are_bounded_and_old_keys_are_noted() {
        let config = configured("libvirt", "");
        let mut keys = keys(&[("a", None)]);
        assert_eq!(levels(&judge_files(&config, &keys, None)), [Level::Ok]);
        keys.with_old.push("a".to_owned());
        assert_eq!(levels(&judge_files(&config, &keys, None)), [Level::Ok, Level::Note]);
        keys.errors = vec![Problem::new("x", "y"); 12];
        let found = judge_files(&config, &keys, None);
        assert!(found.len() == SHOWN_MAX + 2 && found[SHOWN_MAX].text.contains("and 2 more"), "{found:?}");
    }
}
