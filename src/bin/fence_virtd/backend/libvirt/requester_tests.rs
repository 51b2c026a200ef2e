//! Requesters on vsock and serial lines: a CID, the VM that has it, and its name.

use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};

use super::backend::LibvirtBackend;
use super::bench::{A, B};
use super::fake::{Fake, FakeLink};
use crate::access::{CidTable, Permissions};
use crate::backend::Backend;
use crate::inbox::Message;
use crate::job::Requester;
use crate::job::tests::{answers, job};
use crate::libvirt::{DomainRun, HeldVms};
use fence_virt::fence::{
    Answer, Domain, KeyHolder, KeyId, KeyedSource, ListenerName, Operation, Source, UriIndex, Uuid, Verdict,
    WireVersion,
};
use fence_virt::groups::{Group, Groups};
use fence_virt::time::Instant;

/// A host with the VMs a and b, of which a has CID 3 by the table, as the run with this ID.
struct Bench {
    backend: LibvirtBackend<FakeLink>,
    host: Arc<Fake>,
    inbox: Receiver<Message>,
}

impl Bench {
    fn new(ips: &[&str], uuids: &[&str], run: u32) -> Bench {
        Bench::beside(&[], ips, uuids, run)
    }

    /// Makes a host that has further URIs.
    fn beside(others: &[Arc<Fake>], ips: &[&str], uuids: &[&str], run: u32) -> Bench {
        let host = Fake::with(&[("a", A, true), ("b", B, true)]);
        let (worker, inbox) = unbounded();
        let hosts = [&host].into_iter().chain(others).enumerate();
        let links: Vec<FakeLink> = hosts.map(|(at, host)| FakeLink::new(at, host, &worker)).collect();
        let owned = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let groups = Groups::new(vec![Group::new(&owned(ips), &owned(uuids))]);
        let domain = Domain { name: "a".to_owned(), uuid: Uuid::parse(A).unwrap() };
        let cids = CidTable::new(links.len());
        cids.insert(UriIndex(0), DomainRun { domain: Arc::new(domain), id: run }, vec![3]);
        (0..links.len()).for_each(|at| cids.set_complete(UriIndex(at), true));
        let permissions = Permissions::new(groups, Some(cids));
        Bench { backend: LibvirtBackend::new(links, 1, permissions, worker, HeldVms::default()), host, inbox }
    }

    fn ask(&mut self, cid: u32, operation: Operation, name: &str) -> Answer {
        self.ask_as(Source::Cid(cid), operation, name)
    }

    fn ask_as(&mut self, source: Source, operation: Operation, name: &str) -> Answer {
        let now = Instant::now();
        let (mut job, mail, _caller) = job(operation, name, now);
        job.requester = Requester::Client {
            listener: ListenerName::new("vsock", None),
            source,
            version: WireVersion::One,
        };
        self.backend.begin(job, now);
        while let Ok(Message::Event(event)) = self.inbox.try_recv() {
            self.backend.event(event, now);
        }
        answers(&mail).remove(0)
    }

    fn names(&mut self, cid: u32) -> Vec<String> {
        match self.ask(cid, Operation::HostList, "") {
            Answer::HostList(entries) => entries.into_iter().map(|entry| entry.name).collect(),
            other => panic!("{other:?}"),
        }
    }
}

/// The run that a has in the fake.
const RUN: u32 = 1;

#[test]
fn a_group_may_list_the_cid_or_the_vm_that_has_it() {
    for (ips, uuids) in [(&["3"][..], &["b"][..]), (&[], &[A, "b"]), (&[], &["a", B]), (&["3", "4"], &[A, B])]
    {
        let mut bench = Bench::new(ips, uuids, RUN);
        assert_eq!(bench.ask(3, Operation::Off, "b"), Verdict::Success.into(), "{ips:?} {uuids:?}");
        assert_eq!(bench.host.runs(B), Some(false));
        assert!(bench.names(3).contains(&"b".to_owned()));
    }
}

#[test]
fn a_vm_with_another_cid_or_in_no_group_is_denied() {
    let mut bench = Bench::new(&[], &[A, "b"], RUN);
    assert_eq!(bench.ask(4, Operation::Off, "b"), Verdict::Denied.into());
    assert_eq!(bench.names(4), [""; 0]);
    let mut bench = Bench::new(&["7"], &["b"], RUN);
    assert_eq!(bench.ask(3, Operation::Off, "b"), Verdict::Denied.into());
    assert_eq!(bench.names(3), [""; 0]);
    assert_eq!(bench.host.runs(B), Some(true));
}

#[test]
fn a_cid_whose_vm_was_restarted_identifies_nobody() {
    // Another run, or another VM, may have it by now.
    let mut bench = Bench::new(&[], &[A, "b"], RUN + 7);
    assert_eq!(bench.ask(3, Operation::Off, "b"), Verdict::Failure.into());
    assert_eq!(bench.ask(3, Operation::HostList, ""), Verdict::Failure.into(), "and no empty list");
    assert_eq!(bench.host.runs(B), Some(true));
    let mut by_cid = Bench::new(&["3"], &["b"], RUN + 7);
    assert_eq!(by_cid.ask(3, Operation::Off, "b"), Verdict::Success.into(), "the CID itself is known");
    assert_eq!(by_cid.names(3), ["b"]);
}

#[test]
fn a_name_counts_only_for_the_vm_that_the_backend_has_under_it() {
    let requester = |name: &str, uuid: &str| {
        Source::Domain(Arc::new(Domain { name: name.to_owned(), uuid: Uuid::parse(uuid).unwrap() }))
    };
    const STRANGER: &str = "cccccccc-0000-4000-8000-000000000000";
    let off = |bench: &mut Bench, source| bench.ask_as(source, Operation::Off, "b");
    let mut bench = Bench::new(&[], &["a", "b"], RUN);
    assert_eq!(off(&mut bench, requester("a", STRANGER)), Verdict::Denied.into(), "a VM of another libvirt");
    assert_eq!(off(&mut bench, requester("A", A)), Verdict::Denied.into(), "names of VMs are case-sensitive");
    assert_eq!(bench.host.runs(B), Some(true));
    assert_eq!(off(&mut bench, requester("a", A)), Verdict::Success.into());
    let mut by_uuid = Bench::new(&[], &[STRANGER, "b"], RUN);
    assert_eq!(off(&mut by_uuid, requester("a", STRANGER)), Verdict::Success.into(), "its UUID is listed");
    let mut broken = Bench::new(&[], &["a", "b"], RUN);
    *broken.host.broken.borrow_mut() = Some("broken".to_owned());
    assert_eq!(off(&mut broken, requester("a", A)), Verdict::Failure.into(), "it cannot be identified");
}

#[test]
fn a_requester_with_another_name_elsewhere_is_not_known_by_its_name() {
    for (listed, is_known) in [("a", false), (A, true)] {
        let other = Fake::with(&[("x", A, false)]);
        let mut bench = Bench::beside(std::slice::from_ref(&other), &[], &[listed, "b"], RUN);
        let expected = if is_known { Verdict::Success } else { Verdict::Denied };
        assert_eq!(bench.ask(3, Operation::Status, "b"), expected.into(), "{listed}");
        assert_eq!(bench.names(3).contains(&"b".to_owned()), is_known, "{listed}");
        *other.broken.borrow_mut() = Some("broken".to_owned());
        assert_eq!(bench.ask(3, Operation::Off, "b"), expected.into(), "{listed}: it was seen there");
        assert_eq!(bench.host.runs(B), Some(!is_known));
    }
    let mut same = Bench::beside(&[Fake::with(&[("a", A, false)])], &[], &["a", "b"], RUN);
    assert_eq!(same.ask(3, Operation::Status, "b"), Verdict::Success.into());
}

#[test]
fn the_vm_of_a_key_is_known_where_it_is_the_vm_that_the_key_states() {
    let bench = Bench::new(&[], &[A, "b"], RUN);
    let vm_of = |name: &str, uuid: Option<&str>, via: Source| {
        let uuid = uuid.and_then(Uuid::parse);
        let holder = Arc::new(KeyHolder { name: name.to_owned(), uuid, key: KeyId::from_bytes([1; 16]) });
        bench.backend.vm_of(&Source::Key(Arc::new(KeyedSource { holder, via })), Instant::now())
    };
    let address = || Source::ip([192, 0, 2, 1].into());
    let gone = "33333333-bbbb-4222-8222-222222222222";
    assert_eq!(vm_of("b", Some(B), address()), Uuid::parse(B));
    // Out of date, or not stated: then any operation may be one on the requester.
    for (name, uuid) in [("b", Some(gone)), ("b", Some(A)), ("other", Some(B)), ("b", None)] {
        assert_eq!(vm_of(name, uuid, address()), None, "{name} {uuid:?}");
    }
    assert_eq!(vm_of("b", Some(B), Source::Cid(3)), Uuid::parse(A), "libvirt knows better who has the CID");
}
