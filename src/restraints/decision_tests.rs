use std::time::Duration;

use super::super::table::tests::{hold, table};
use super::*;

const UUID: &str = "44179d3f-6c63-474f-a212-20c8b4b25b16";
const OTHER: &str = "1c4f6e2a-0a4f-4a6e-9f57-7a3f6f0f1d22";

fn vm<'a>(name: &'a str, uuid: &'a str) -> NamedVm<'a> {
    NamedVm { name, uuid }
}

fn group(name: Option<&str>, vms: &[&str], cap: Option<&str>) -> RestrainedGroup {
    let cap = cap.map(|text| PowerOffCap::parse(text).unwrap());
    RestrainedGroup::new(name, format!("{name:?}"), vms.iter().copied(), cap)
}

fn at(seconds: u64) -> Instant {
    Instant::from_boot(Duration::from_secs(1000 + seconds))
}

/// Subject of the hold on a VM with these copies, in the third second of 1970.
fn held(restraints: &Restraints, copies: &[NamedVm<'_>]) -> Option<String> {
    let now = WallTime::from_millis(3000);
    restraints.holding(copies, now).map(|hold| hold.subject.as_str().to_owned())
}

#[test]
fn a_vm_is_held_by_its_name_or_uuid() {
    for (subject, name, uuid, is_held) in [
        ("node1", "node1", UUID, true),
        ("NODE1", "Node1", UUID, true),
        (UUID, "node1", UUID, true),
        ("44179D3F6C63474FA21220C8B4B25B16", "node1", UUID, true),
        ("node1", "node10", UUID, false),
        (UUID, "node1", OTHER, false),
        // Rather one VM too many.
        (UUID, UUID, OTHER, true),
    ] {
        let restraints = Restraints { holds: table(&[hold(subject, 5)]), ..Restraints::default() };
        assert_eq!(held(&restraints, &[vm(name, uuid)]).is_some(), is_held, "{subject} {name} {uuid}");
    }
    let restraints = Restraints { holds: table(&[hold("b", 5)]), ..Restraints::default() };
    assert!(held(&restraints, &[vm("a", UUID), vm("b", UUID)]).is_some(), "one copy is enough");
    assert_eq!(held(&Restraints::default(), &[vm("a", UUID)]), None);
}

#[test]
fn a_group_holds_the_vms_that_it_lists_now() {
    let mut restraints = Restraints { holds: table(&[hold("Web", 5)]), ..Restraints::default() };
    assert_eq!(held(&restraints, &[vm("a", UUID)]), None);
    restraints.set_groups(vec![group(Some("wEB"), &["A"], None), group(None, &["c"], None)]);
    assert_eq!(held(&restraints, &[vm("a", UUID)]).as_deref(), Some("Web"));
    assert_eq!(held(&restraints, &[vm("b", UUID)]), None);
    assert_eq!(held(&restraints, &[vm("c", UUID)]), None);
    assert!(held(&restraints, &[vm("web", UUID)]).is_some(), "a VM with the name of the group");
    restraints.set_groups(vec![group(Some("web"), &[UUID], None)]);
    assert!(held(&restraints, &[vm("b", UUID)]).is_some());
    // In a group, a UUID stands for the VM that has it.
    assert_eq!(held(&restraints, &[vm(UUID, OTHER)]), None);
}

#[test]
fn an_ended_hold_holds_nothing_and_the_longest_one_is_named() {
    let mut restraints = Restraints { holds: table(&[hold("a", 3)]), ..Restraints::default() };
    assert_eq!(held(&restraints, &[vm("a", UUID)]), None);
    restraints.holds = table(&[hold("a", 4), hold("web", 6), hold(UUID, 5)]);
    restraints.set_groups(vec![group(Some("web"), &["a"], None)]);
    assert_eq!(held(&restraints, &[vm("a", UUID)]).as_deref(), Some("web"));
}

#[test]
fn no_more_power_offs_begin_than_the_cap_says() {
    let mut restraints = Restraints::default();
    restraints.set_groups(vec![group(Some("web"), &["a", "b", "c"], Some("2/60s"))]);
    let mut begin = |name: &str, seconds| restraints.begin_power_off(&[vm(name, UUID)], at(seconds));
    assert_eq!((begin("a", 0), begin("b", 30)), (Ok(()), Ok(())));
    let refusal = begin("c", 59).unwrap_err().to_string();
    assert_eq!(refusal, "max_power_off 2/60s of group Some(\"web\") is reached");
    assert!(begin("other", 59).is_ok(), "it is in no group");
    // The refused one is not counted, and the first one no longer.
    assert_eq!(begin("c", 60), Ok(()));
    assert!(begin("a", 89).is_err());
    assert_eq!(begin("a", 90), Ok(()));
}

#[test]
fn each_group_of_a_vm_must_have_room() {
    let mut restraints = Restraints::default();
    let groups = vec![group(None, &["a", "b"], Some("2/60s")), group(None, &["b", "c"], Some("1/10s"))];
    restraints.set_groups(groups);
    let mut begin = |name: &str, seconds| restraints.begin_power_off(&[vm(name, UUID)], at(seconds)).is_ok();
    // The last one: what one group refuses is counted in no other.
    let begun = [begin("b", 0), begin("c", 5), begin("b", 5), begin("a", 6), begin("b", 11), begin("c", 11)];
    assert_eq!(begun, [true, false, false, true, false, true]);
}

#[test]
fn what_was_counted_stays_so_when_the_groups_change() {
    let mut restraints = Restraints::default();
    let capped = |vms: &[&str], cap| vec![group(None, vms, Some(cap))];
    restraints.set_groups(capped(&["a", "b"], "2/60s"));
    assert!(restraints.begin_power_off(&[vm("a", UUID)], at(0)).is_ok());
    restraints.set_groups(capped(&[UUID, "b"], "1/60s"));
    assert!(restraints.begin_power_off(&[vm("b", OTHER)], at(10)).is_err(), "a, by its UUID");
    restraints.set_groups(capped(&["b"], "1/60s"));
    assert!(restraints.begin_power_off(&[vm("b", OTHER)], at(10)).is_ok(), "a is not in the group any more");
    restraints.set_groups(Vec::new());
    assert!(restraints.begin_power_off(&[vm("b", OTHER)], at(11)).is_ok());
    assert!(restraints.begun.is_empty(), "nothing is kept that no cap needs");
}

#[test]
fn a_held_group_that_loses_its_name_is_told() {
    let mut restraints =
        Restraints { holds: table(&[hold("web", 5), hold("node1", 5)]), ..Restraints::default() };
    assert!(restraints.set_groups(vec![group(Some(" Web "), &["a"], None)]).is_empty());
    assert_eq!(
        held(&restraints, &[vm("a", UUID)]),
        Some("web".to_owned()),
        "blanks around a name mean nothing"
    );
    assert!(restraints.set_groups(vec![group(Some("WEB"), &["b"], None)]).is_empty());
    assert_eq!(restraints.set_groups(vec![group(Some("www"), &["b"], None)]), ["web"]);
    assert!(restraints.set_groups(Vec::new()).is_empty(), "it is told once");
}
