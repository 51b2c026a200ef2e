use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::logging::captured;
use fence_virt::restraints::{NamedVm, RestrainedGroup};

/// Directory with the place of a status socket, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("fence-virtd-{}-holds-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("status.sock.holds")
    }

    /// Keeper as after a restart, with the holds that it has put into force.
    fn load(&self) -> Result<(HoldKeeper, SharedRestraints), String> {
        let restraints = SharedRestraints::default();
        let keeper = HoldKeeper::load(&self.0.join("status.sock"), restraints.clone())?;
        Ok((keeper, restraints))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn subject(text: &str) -> HoldSubject {
    HoldSubject::new(text).unwrap()
}

fn place(text: &str, time: &str) -> HoldChange {
    let reason = HoldReason::new("new kernel").unwrap();
    HoldChange::Place { subject: subject(text), reason, time: HoldTime::parse(time).unwrap() }
}

fn is_held(restraints: &SharedRestraints, name: &str) -> bool {
    restraints.refusal_by_hold(&[NamedVm { name, uuid: "" }]).is_some()
}

#[test]
fn holds_survive_a_restart_and_their_file_goes_with_the_last_one() {
    let scratch = Scratch::new("restart");
    let (mut keeper, restraints) = scratch.load().unwrap();
    assert!(!is_held(&restraints, "a") && !scratch.file().exists());
    let text = keeper.change(place("a", "1h")).unwrap();
    assert!(text.starts_with("on \"a\" until 2") && text.ends_with("Z: new kernel"), "{text}");
    keeper.change(place("b", "1h")).unwrap();
    assert_eq!(fs::metadata(scratch.file()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1, "nothing else is left there");
    let (mut keeper, restraints) = scratch.load().unwrap();
    assert!(is_held(&restraints, "A") && is_held(&restraints, "b") && !is_held(&restraints, "c"));
    let kept = kept_holds(&scratch.0.join("status.sock")).unwrap();
    assert_eq!(kept.iter().map(|hold| hold.subject.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let text = keeper.change(HoldChange::Release(subject("A"))).unwrap();
    assert!(text.starts_with("released: on \"a\" until 2"), "{text}");
    let (mut keeper, restraints) = scratch.load().unwrap();
    assert!(!is_held(&restraints, "a") && is_held(&restraints, "b"));
    keeper.change(HoldChange::Release(subject("b"))).unwrap();
    assert!(!scratch.file().exists());
    assert_eq!(keeper.change(HoldChange::Release(subject("b"))).unwrap_err(), "there is no hold on \"b\"");
}

#[test]
fn what_cannot_be_written_is_not_in_force() {
    let scratch = Scratch::new("unwritten");
    let (mut keeper, restraints) = scratch.load().unwrap();
    keeper.change(place("a", "1h")).unwrap();
    let kept = fs::read(scratch.file()).unwrap();
    // The name of the replacement is taken.
    let new = scratch.0.join("status.sock.holds.new");
    fs::create_dir(&new).unwrap();
    fs::write(new.join("in the way"), "").unwrap();
    for change in [place("b", "1h"), place("a", "2h")] {
        let reason = keeper.change(change).unwrap_err();
        assert!(reason.starts_with("cannot write the holds to "), "{reason}");
    }
    assert!(is_held(&restraints, "a") && !is_held(&restraints, "b"));
    assert_eq!(fs::read(scratch.file()).unwrap(), kept);
    // One that cannot be removed from the file stays in force, or it would come back.
    fs::remove_dir_all(&new).unwrap();
    keeper.change(place("b", "1h")).unwrap();
    fs::create_dir(&new).unwrap();
    fs::write(new.join("in the way"), "").unwrap();
    assert!(keeper.change(HoldChange::Release(subject("a"))).is_err() && is_held(&restraints, "a"));
}

#[test]
fn a_hold_that_ends_is_logged_and_leaves_the_file() {
    let scratch = Scratch::new("end");
    let holds = "# fence_virtd holds 1\n0\t1000\ta\tnew kernel\nend\t1\n";
    fs::write(scratch.file(), holds).unwrap();
    let (mut keeper, restraints) = scratch.load().unwrap();
    assert!(!is_held(&restraints, "a"), "it ended while the daemon did not run");
    assert_eq!(kept_holds(&scratch.0.join("status.sock")), Ok(Vec::new()));
    assert!(keeper.deadline().is_some_and(|at| at <= Instant::now()));
    captured();
    keeper.end_due();
    let lines = captured();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("hold ended: on \"a\" until 1970-01-01T00:00:01.000Z: new kernel")),
        "{lines:?}"
    );
    assert!(!scratch.file().exists() && keeper.deadline().is_none());
    keeper.change(place("a", "1h")).unwrap();
    let left = keeper.deadline().unwrap() - Instant::now();
    assert!(left.as_secs().abs_diff(3600) <= 2, "{left:?}");
}

#[test]
fn a_file_that_is_no_file_of_holds_is_refused() {
    let scratch = Scratch::new("malformed");
    let refusal = || {
        let reason = scratch.load().unwrap_err();
        assert_eq!(kept_holds(&scratch.0.join("status.sock")).unwrap_err().to_string(), reason);
        reason
    };
    for (bytes, words) in [
        (&b""[..], "line 1: it is not the first line"),
        (b"# fence_virtd holds 1\n0\t1000\ta\tr\n", "line 3: the end of the file is missing"),
        (b"# fence_virtd holds 1\nx\nend\t1\n", "line 2: it is not a hold"),
    ] {
        fs::write(scratch.file(), bytes).unwrap();
        let reason = refusal();
        let file = scratch.file().display().to_string();
        assert!(reason.contains(words) && reason.contains(&file) && reason.contains("remove it"), "{reason}");
    }
    fs::write(scratch.file(), vec![b'x'; HOLD_BYTES]).unwrap();
    assert!(refusal().contains("it is too long"));
    fs::set_permissions(scratch.file(), fs::Permissions::from_mode(0o622)).unwrap();
    assert!(refusal().contains("others than root"));
    fs::remove_file(scratch.file()).unwrap();
    symlink("/dev/null", scratch.file()).unwrap();
    assert!(refusal().contains("symbolic link"), "{}", refusal());
    fs::remove_file(scratch.file()).unwrap();
    fs::create_dir(scratch.file()).unwrap();
    assert!(refusal().contains("not a regular file"), "{}", refusal());
}

/// More than a file of holds has.
const HOLD_BYTES: usize = (1 << 20) + 1;

#[test]
fn a_vm_that_a_group_holds_is_released_with_the_group() {
    let scratch = Scratch::new("group");
    let (mut keeper, restraints) = scratch.load().unwrap();
    let vms = ["node1", "node2"].into_iter();
    restraints.set_groups(vec![RestrainedGroup::new(Some("Web"), "\"Web\"".to_owned(), vms, None)]);
    let text = keeper.change(place("web", "1h")).unwrap();
    assert!(text.ends_with("\nthe group \"Web\" lists 2 VMs"), "{text}");
    assert!(is_held(&restraints, "node2") && keeper.is_group(&subject("WEB")));
    let reason = keeper.change(HoldChange::Release(subject("node2"))).unwrap_err();
    assert_eq!(reason, "there is no hold on \"node2\"; its groups are held: release \"web\"");
    let text = keeper.change(place("Web", "2h")).unwrap();
    assert!(text.contains("\nit replaces the hold on \"web\" until 2"), "{text}");
}

#[test]
fn an_operation_that_a_hold_stops_counts_once() {
    let scratch = Scratch::new("counted");
    let (mut keeper, restraints) = scratch.load().unwrap();
    let guard = restraints.guard(vec![("a".to_owned(), String::new())]);
    assert_eq!(guard.refusal(), None);
    keeper.change(place("a", "1h")).unwrap();
    assert!(guard.refusal().is_some() && guard.clone().refusal().is_some() && is_held(&restraints, "a"));
    assert_eq!(restraints.report().refused_by_hold, 2);
}
