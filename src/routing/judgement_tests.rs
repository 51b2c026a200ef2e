//! The rules of docs/CLUSTER-RULES.md, one by one.

use super::*;

const AT: Sequence = Sequence::START;

fn seq(number: u32) -> Sequence {
    (0..number).fold(Sequence::START, |seq, _| seq.next())
}

fn copy(node: u32, state: CopyKnowledge) -> CopyEvidence {
    CopyEvidence { node: NodeId(node), seq: seq(5), active_since: AT, off_since: None, state }
}

fn told(is_seen_running: bool) -> CopyKnowledge {
    CopyKnowledge::Told { is_seen_running, is_active: is_seen_running }
}

const OFF: CopyKnowledge = CopyKnowledge::Off { unexplained_since: None };

fn may_run(passes: Passes) -> HostFate {
    HostFate::MayRun("node 9".to_owned(), passes)
}

fn absent(fate: HostFate, has_told: bool) -> AbsentHost {
    AbsentHost { node: NodeId(9), has_told, is_in_cluster: false, fate, off_since: None }
}

/// All hosts are members, and have told their VMs.
fn evidence(copies: Vec<CopyEvidence>) -> VmEvidence {
    VmEvidence {
        copies,
        absent: Vec::new(),
        silent: Vec::new(),
        telling_until: None,
        has_all_hosts: true,
        lacks_quorum: false,
        search: Search::default(),
        unknown: Unknown::Fail,
    }
}

impl VmEvidence {
    fn searched(self) -> VmEvidence {
        VmEvidence { search: Search { complete_since: Some(seq(9)), has_failed: false }, ..self }
    }

    fn beside(self, absent: AbsentHost) -> VmEvidence {
        VmEvidence { absent: vec![absent], ..self }
    }

    #[track_caller]
    fn is_off(&self) {
        assert!(matches!(self.find(), VmFinding::Off(_)), "{:?}", self.find());
    }

    #[track_caller]
    fn is_doubtful(&self) {
        assert!(matches!(self.find(), VmFinding::Doubt(_, Passes::Never)), "{:?}", self.find());
        VmEvidence { unknown: Unknown::Off, ..self.clone() }.is_no_unknown(false);
    }

    #[track_caller]
    fn is_unknown(&self) {
        assert!(matches!(self.find(), VmFinding::Doubt(_, Passes::Never)), "{:?}", self.find());
        VmEvidence { unknown: Unknown::Off, ..self.clone() }.is_no_unknown(true);
    }

    #[track_caller]
    fn is_no_unknown(&self, is_off: bool) {
        assert_eq!(matches!(self.find(), VmFinding::Off(_)), is_off, "{:?}", self.find());
    }

    #[track_caller]
    fn needs_search(&self, since: u32) {
        assert_eq!(self.find(), VmFinding::NeedSearchSince(seq(since)));
    }
}

#[test]
fn a_copy_that_ended_explains_the_others() {
    let ended = CopyKnowledge::Ended { asked_at: seq(7), migrating_at: None };
    let gone = CopyKnowledge::Gone { has_ended: false };
    let stopped = CopyKnowledge::Off { unexplained_since: Some(seq(6)) };
    let moved = CopyKnowledge::Moved { answered_at: seq(8) };
    let unexplained = CopyKnowledge::Unexplained { answered_at: seq(8) };
    let others = [gone, stopped, moved, unexplained.clone()];
    let others = (2..).zip(others).map(|(node, state)| copy(node, state));
    evidence([copy(1, ended.clone())].into_iter().chain(others).collect()).is_off();
    evidence(vec![copy(2, unexplained.clone())]).needs_search(8);
    evidence(vec![copy(2, unexplained)]).searched().is_off();
    let later = CopyKnowledge::Off { unexplained_since: Some(seq(8)) };
    evidence(vec![copy(1, ended), copy(3, later)]).needs_search(8);
}

#[test]
fn what_was_off_on_an_absent_host_is_no_doubt_if_the_vm_is_seen_to_run() {
    let away =
        |ran| CopyKnowledge::Away { ran, is_active: ran, stopped_at: None, fate: may_run(Passes::Never) };
    assert_eq!(evidence(vec![copy(1, told(true)), copy(9, away(false))]).find(), VmFinding::Runs);
    evidence(vec![copy(1, told(true)), copy(9, away(true))]).is_doubtful();
    evidence(vec![copy(1, OFF), copy(9, away(false))]).is_doubtful();
    let off = CopyKnowledge::Away {
        ran: true,
        is_active: true,
        stopped_at: None,
        fate: HostFate::Off(String::new()),
    };
    evidence(vec![copy(9, off)]).is_off();
    let lost = CopyKnowledge::Away {
        ran: true,
        is_active: true,
        stopped_at: None,
        fate: HostFate::NoQuorum(String::new()),
    };
    evidence(vec![copy(9, lost)]).is_unknown();
}

#[test]
fn a_moved_copy_is_off_if_the_vm_was_active_elsewhere_since() {
    let moved = |since: u32| CopyEvidence {
        active_since: seq(since),
        ..copy(1, CopyKnowledge::Moved { answered_at: seq(8) })
    };
    let other = CopyEvidence { active_since: seq(4), ..copy(2, OFF) };
    evidence(vec![moved(3), other.clone()]).needs_search(8);
    evidence(vec![moved(3), other.clone()]).searched().is_off();
    evidence(vec![moved(4), other.clone()]).needs_search(8);
    evidence(vec![moved(4), other]).searched().is_off();
    evidence(vec![moved(4)]).needs_search(8);
    evidence(vec![moved(4)]).searched().is_unknown();
    let failed = Search { complete_since: None, has_failed: true };
    VmEvidence { search: failed, ..evidence(vec![moved(4)]) }.is_doubtful();
}

#[test]
fn a_copy_that_ended_while_it_was_migrating_needs_a_search() {
    let ended = CopyKnowledge::Ended { asked_at: seq(7), migrating_at: Some(seq(8)) };
    let found = evidence(vec![copy(1, ended)]);
    found.needs_search(8);
    found.clone().searched().is_off();
    let failed = Search { complete_since: None, has_failed: true };
    VmEvidence { search: failed, ..found.clone() }.is_doubtful();
    found.searched().beside(absent(may_run(Passes::Never), true)).is_doubtful();
}

#[test]
fn a_copy_that_is_gone_needs_a_search_and_an_explanation() {
    let gone = |has_ended| evidence(vec![copy(1, CopyKnowledge::Gone { has_ended })]);
    gone(true).needs_search(5);
    gone(true).searched().is_off();
    gone(false).searched().is_unknown();
    gone(true).searched().beside(absent(may_run(Passes::Never), true)).is_unknown();
    let failed = Search { complete_since: None, has_failed: true };
    VmEvidence { search: failed, ..gone(true) }.is_unknown();
    // It may have gone to a host that was lost since, which is off now.
    let now = Instant::now();
    for (lost, is_off) in [(now, true), (now - Duration::from_secs(60), false)] {
        let mut found = gone(false).searched();
        found.copies[0].off_since = Some(now);
        let host = AbsentHost { off_since: Some(lost), ..absent(HostFate::Off(String::new()), true) };
        VmEvidence { absent: vec![host], ..found }.is_no_unknown(is_off);
    }
    // It ran elsewhere since.
    let other = CopyEvidence { active_since: seq(4), ..copy(2, OFF) };
    evidence(vec![copy(1, CopyKnowledge::Gone { has_ended: false }), other]).searched().is_off();
}

#[test]
fn a_vm_that_nobody_is_seen_to_run_needs_every_host() {
    let off = || evidence(vec![copy(1, OFF)]);
    off().is_off();
    VmEvidence { silent: vec![NodeId(2)], ..off() }.is_unknown();
    VmEvidence { has_all_hosts: false, ..off() }.is_unknown();
    VmEvidence { lacks_quorum: true, ..off() }.is_unknown();
    off().beside(absent(may_run(Passes::Never), false)).is_unknown();
    off().beside(absent(may_run(Passes::Never), true)).is_off();
    off().beside(absent(HostFate::Off(String::new()), false)).is_off();
    let runs = VmEvidence {
        silent: vec![NodeId(2)],
        has_all_hosts: false,
        lacks_quorum: true,
        ..evidence(vec![copy(1, told(true))])
    };
    assert_eq!(runs.find(), VmFinding::Runs);
}

#[test]
fn a_vm_that_no_host_has_told_is_searched_for_and_unknown() {
    evidence(Vec::new()).needs_search(0);
    evidence(Vec::new()).searched().is_unknown();
}

#[test]
fn doubts_that_pass_are_waited_for() {
    let until = Instant::now();
    let passes = |evidence: &VmEvidence| match evidence.find() {
        VmFinding::Doubt(_, passes) => passes,
        other => panic!("{other:?}"),
    };
    let telling = VmEvidence { telling_until: Some(until), ..evidence(vec![copy(1, OFF)]) };
    assert_eq!(passes(&telling), Passes::At(until));
    let away =
        |passes| CopyKnowledge::Away { ran: true, is_active: true, stopped_at: None, fate: may_run(passes) };
    let both = evidence(vec![copy(1, away(Passes::Soon)), copy(2, away(Passes::At(until)))]);
    assert_eq!(passes(&both), Passes::Soon);
    let never = evidence(vec![copy(1, away(Passes::Soon)), copy(2, away(Passes::Never))]);
    assert_eq!(passes(&never), Passes::Never);
    // What members still tell may remove any doubt.
    assert_eq!(passes(&VmEvidence { telling_until: Some(until), ..never }), Passes::At(until));
}
