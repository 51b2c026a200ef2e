//! The request of a client, and what routers have to be done for it.

use fence_virt::fence::{Operation, Request, Target, UriIndex, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{ClientId, ClientRequest, Evidence, JobId, JobOutcome, Router, RouterAction};

use crate::cluster::{Asked, Cluster, Job};
use crate::vm::{Copy, NAME, Origin};

impl Cluster {
    pub fn ask(&mut self, at: usize, operation: Operation) {
        let (now, was_off) = (self.now, self.runner().is_none());
        self.asked = Some(Asked { at, operation, time: now, was_off, answer: None });
        let (vm, is_away) = (self.local(at), self.nodes[at].is_away);
        let Some(router) = self.nodes[at].router.as_mut() else { return };
        // As the backend does for a VM that was not announced.
        if router.not_joined().is_none() && !router.knows(NAME) {
            match vm {
                _ if is_away => return self.answered(Verdict::Failure, "libvirt is away"),
                Some(vm) => router.find(UriIndex(0), vm, now),
                None => {}
            }
        }
        let target = Target::new(NAME.as_bytes()).expect("it is a name");
        let request = Request { operation, target, seqno: 1 };
        let (client, permitted) = (ClientId(1), PermittedNames::All);
        router.ask(ClientRequest { client, request, permitted, received: now }, now);
    }

    /// A client gets no answer from a daemon that ends.
    pub fn fail_request_of(&mut self, at: usize) {
        if let Some(asked) = self.asked.as_mut().filter(|asked| asked.at == at) {
            asked.answer.get_or_insert(Verdict::Failure);
        }
    }

    /// Takes what a router has to be done, and does what libvirt does now; false if there is nothing.
    pub fn act(&mut self, at: usize) -> bool {
        let mut has_acted = false;
        while let Some(action) = self.nodes[at].router.as_mut().and_then(Router::next_action) {
            has_acted = true;
            match action {
                RouterAction::Begin { job: number, operation, expires, .. } => {
                    let Some(router) = &self.nodes[at].router else { continue };
                    let is_sole_known_owner = router.is_sole_known_owner(NAME);
                    let may_start = router.may_start(NAME, self.now);
                    let must_run = router.is_seen_running_here(NAME);
                    let job = Job { number, operation, expires, is_sole_known_owner, may_start, must_run };
                    self.nodes[at].jobs.push(job);
                }
                RouterAction::Find { job, .. } => self.find(at, job),
                RouterAction::HangUp { job } => self.nodes[at].jobs.retain(|begun| begun.number != job),
                RouterAction::Answer { verdict, reason, .. } => self.answered(verdict, &reason),
                RouterAction::ProveCaller { question, .. } => {
                    if let Some(router) = &mut self.nodes[at].router {
                        router.caller_proved(question, true);
                    }
                }
                RouterAction::Replied { .. } | RouterAction::Note(_) => {}
            }
        }
        if !self.nodes[at].hangs {
            for job in std::mem::take(&mut self.nodes[at].jobs) {
                has_acted = true;
                self.finish_job(at, job);
            }
        }
        has_acted
    }

    fn find(&mut self, at: usize, job: JobId) {
        let (now, is_away) = (self.now, self.nodes[at].is_away);
        let vms = self.local(at).map(|vm| (UriIndex(0), vm)).into_iter().collect();
        let found = if is_away { Err("libvirt is away".to_owned()) } else { Ok(vms) };
        if let Some(router) = self.nodes[at].router.as_mut() {
            router.found(job, found, now);
        }
    }

    fn finish_job(&mut self, at: usize, job: Job) {
        let is_possible = self.now < job.expires && !self.nodes[at].is_away;
        let (verdict, evidence) = match is_possible {
            true => self.carry_out(at, &job),
            false => (Verdict::Failure, Evidence::None),
        };
        let (now, reason) = (self.now, format!("node {}: {verdict}", at + 1));
        if let Some(router) = self.nodes[at].router.as_mut() {
            router.done(job.number, JobOutcome { verdict, evidence, reason }, now);
        }
    }

    /// Carries out a job as the libvirt backend does.
    fn carry_out(&mut self, at: usize, job: &Job) -> (Verdict, Evidence) {
        let (copy, is_migrating) = (self.copies[at], self.is_migrating(at));
        let Job { operation, is_sole_known_owner: is_alone, may_start, must_run, .. } = *job;
        let evidence = match copy {
            Copy::Active(_) | Copy::Paused if is_migrating => Evidence::EndedWhileMigrating,
            Copy::Active(_) | Copy::Paused => Evidence::Ended,
            Copy::Off { has_moved: true } => Evidence::Moved,
            Copy::Off { has_moved: false } | Copy::None => Evidence::None,
        };
        match (operation, copy) {
            (_, Copy::None) => (Verdict::Failure, Evidence::None),
            (Operation::Status, Copy::Active(_) | Copy::Paused) => (Verdict::Success, Evidence::None),
            (_, Copy::Off { has_moved: true }) if is_alone => (Verdict::Failure, Evidence::Moved),
            (_, Copy::Paused) if is_alone => (Verdict::Failure, Evidence::None),
            (Operation::Status, Copy::Off { .. }) => (Verdict::Off, evidence),
            (Operation::On, Copy::Off { .. }) if !may_start || must_run => (Verdict::Failure, Evidence::None),
            (Operation::On, Copy::Off { .. }) => {
                self.start(at);
                (Verdict::Success, Evidence::None)
            }
            (Operation::On, Copy::Active(_) | Copy::Paused) => (Verdict::Success, Evidence::None),
            (_, Copy::Off { .. }) => (Verdict::Success, evidence),
            (_, Copy::Active(_) | Copy::Paused) => {
                self.check_destroy(at);
                self.end(at);
                if operation == Operation::Reboot {
                    self.start(at);
                }
                (Verdict::Success, evidence)
            }
        }
    }

    /// Starts the VM for the request.
    fn start(&mut self, at: usize) {
        self.check_start(at);
        self.set(at, Copy::Active(Origin::Request));
    }
}
