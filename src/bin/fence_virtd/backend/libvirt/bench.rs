//! A backend over fakes, for tests.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use super::backend::LibvirtBackend;
use super::fake::{Fake, FakeLink, Fault};
use super::power_operations::RETRY;
use crate::access::Permissions;
use crate::backend::Backend;
use crate::inbox::Message;
use crate::job::tests::{Answers, answers, job};
use crate::job::{AGE_LIMIT, CancelToken};
use crate::libvirt::HeldVms;
use crate::restraints::SharedRestraints;
use crate::status::LaneReport;
use fence_virt::fence::{Answer, HostEntry, Operation, Verdict};
use fence_virt::groups::Groups;
use fence_virt::time::Instant;

pub(super) const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
/// Maximum of lanes.
pub(super) const LANES: usize = 4;

pub(super) const B: &str = "bbbbbbbb-0000-4000-8000-000000000000";

/// A backend over fakes, with its own clock.
pub(super) struct Bench {
    pub(super) backend: LibvirtBackend<FakeLink>,
    pub(super) hosts: Vec<Arc<Fake>>,
    pub(super) now: Instant,
    inbox: Receiver<Message>,
    /// VMs that the watchers do not wait for.
    pub(super) held: HeldVms,
}

impl Bench {
    pub(super) fn new(hosts: &[Arc<Fake>], groups: Groups) -> Bench {
        Bench::with_links(hosts, groups, |_| ())
    }

    /// Makes a backend of links that are changed before.
    pub(super) fn with_links(hosts: &[Arc<Fake>], groups: Groups, change: impl Fn(&mut [FakeLink])) -> Bench {
        let (worker, inbox) = unbounded();
        let link = |(at, fake): (usize, &Arc<Fake>)| FakeLink::new(at, fake, &worker);
        let mut links: Vec<FakeLink> = hosts.iter().enumerate().map(link).collect();
        change(&mut links);
        let permissions = Permissions::new(groups, None);
        let held = HeldVms::default();
        let backend = LibvirtBackend::new(links, LANES, permissions, worker.clone(), held.clone());
        Bench { backend, hosts: hosts.to_vec(), now: Instant::now(), inbox, held }
    }

    /// Lets holds and caps restrain the backend.
    pub(super) fn restrained(self) -> (Bench, SharedRestraints) {
        let restraints = SharedRestraints::default();
        let backend = self.backend.restrained_by(restraints.clone());
        (Bench { backend, ..self }, restraints)
    }

    pub(super) fn single(domains: &[(&str, &str, bool)]) -> Bench {
        Bench::new(&[Fake::with(domains)], Groups::default())
    }

    /// Makes a backend of the VM a, which runs, with faults of the next destroys.
    pub(super) fn faulty(faults: Vec<Fault>) -> Bench {
        let bench = Bench::single(&[("a", A, true)]);
        *bench.hosts[0].faults.borrow_mut() = faults;
        bench
    }

    pub(super) fn break_host(&self, at: usize) {
        *self.hosts[at].broken.borrow_mut() = Some("broken".into());
    }

    pub(super) fn begin(&mut self, operation: Operation, name: &str) -> (Answers, CancelToken) {
        let (job, mail, caller) = job(operation, name, self.now);
        self.backend.begin(job, self.now);
        self.settle();
        (mail, caller)
    }

    /// Ends the calls that are held, after a second.
    pub(super) fn release(&mut self) {
        self.now += Duration::from_secs(1);
        self.hosts[0].release();
        self.settle();
    }

    /// Closes the connection of the first URI, or opens it again.
    pub(super) fn close(&self, is_closed: bool) {
        self.backend.uris[0].link.closed.set(is_closed);
    }

    /// Use of the lanes of the first URI.
    pub(super) fn lanes(&self) -> LaneReport {
        self.backend.uris[0].link.lanes.borrow().clone()
    }

    /// Delivers the events that are due.
    pub(super) fn settle(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            let Message::Event(event) = message else { panic!("not an event: {message:?}") };
            self.backend.event(event, self.now);
        }
    }

    /// Lets time pass in steps and returns the answers that came.
    pub(super) fn wait(&mut self, mail: &Answers, time: Duration) -> Vec<Answer> {
        let end = self.now + time;
        let mut all = answers(mail);
        while self.now < end {
            self.now += RETRY;
            self.backend.turn(self.now);
            self.settle();
            all.extend(answers(mail));
        }
        all
    }

    pub(super) fn ask(&mut self, operation: Operation, name: &str) -> Verdict {
        let (mail, _) = self.begin(operation, name);
        let end = self.now + AGE_LIMIT * 2;
        let mut all = answers(&mail);
        while all.is_empty() && self.now < end {
            all = self.wait(&mail, RETRY);
        }
        match all.as_slice() {
            [Answer::Verdict(verdict)] => *verdict,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn list(&mut self) -> Option<Vec<HostEntry>> {
        let (mail, _) = self.begin(Operation::HostList, "");
        match answers(&mail).remove(0) {
            Answer::HostList(entries) => Some(entries),
            Answer::Verdict(_) => None,
        }
    }
}
