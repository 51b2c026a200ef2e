//! Turn of a daemon: it receives, carries out, sends.

use fence_virt::fence::{Operation, UriIndex, Verdict};
use fence_virt::routing::{Evidence, JobOutcome, OnBehalf, Router, RouterAction};
use fence_virt::wire::cluster::ClusterMessage;

use super::world::{Daemon, Job, Kind, Word, World};

impl World {
    /// Lets a daemon read up to this number of words, and do what is due.
    pub fn turn(&mut self, at: usize, words: usize) {
        let now = self.instant(self.now);
        let Some(daemon) = self.nodes[at].daemon.as_mut() else { return };
        if daemon.is_frozen {
            daemon.clients.values_mut().for_each(|client| client.was_frozen = true);
            return;
        }
        daemon.is_old |= self.now - daemon.read_at > 1000;
        daemon.read_at = self.now;
        if let Some(router) = &mut daemon.router {
            router.set_undelivered(daemon.is_old, now);
        }
        self.take_requests(at);
        for _ in 0..words {
            let Some(word) = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.words.pop_front())
            else {
                break;
            };
            self.hear(at, word);
        }
        let Some(daemon) = self.nodes[at].daemon.as_mut() else { return };
        daemon.is_old &= !daemon.words.is_empty();
        if let Some(router) = &mut daemon.router {
            router.set_undelivered(daemon.is_old, now);
        }
        while daemon.votes.front().is_some_and(|(due, ..)| *due <= self.now) {
            let Some((_, is_quorate, nodes)) = daemon.votes.pop_front() else { break };
            if let Some(router) = &mut daemon.router {
                router.votes(is_quorate, &nodes, now);
            }
        }
        if daemon.router.is_some() {
            self.take_events(at);
            self.run_jobs(at);
            if let Some(router) = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.router.as_mut()) {
                router.turn(now);
            }
            self.settle(at);
        }
    }

    fn hear(&mut self, at: usize, word: Word) {
        self.trace(|| match &word {
            Word::Message(from, bytes) => format!(
                "    node {} hears from {} {:?}",
                self.nodes[at].id,
                from.node,
                ClusterMessage::decode(bytes)
            ),
            Word::Changed(change) => format!("    node {} hears {change:?}", self.nodes[at].id),
        });
        let (now, is_old) =
            (self.instant(self.now), self.nodes[at].daemon.as_ref().is_some_and(|d| d.is_old));
        if let Word::Message(from, bytes) = &word {
            if let (Ok(ClusterMessage::Store(told)), Some(daemon)) =
                (ClusterMessage::decode(bytes), self.nodes[at].daemon.as_mut())
            {
                daemon.told.insert((from.node, told.domain.uuid));
            }
        }
        match self.nodes[at].kind {
            Kind::Ours => {
                let router = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.router.as_mut());
                match (router, word) {
                    (Some(router), Word::Message(from, bytes)) => {
                        router.heard(from, &bytes, now, is_old, now)
                    }
                    (Some(router), Word::Changed(change)) => router.changed(&change, now),
                    (None, _) => {}
                }
            }
            Kind::C => self.c_hears(at, word),
            Kind::Hostile => self.hostile_hears(at, word),
        }
    }

    fn take_events(&mut self, at: usize) {
        let now = self.instant(self.now);
        let due = |daemon: &Daemon, time| daemon.events.front().is_some_and(|(due, _)| *due <= time);
        while self.nodes[at].daemon.as_ref().is_some_and(|daemon| due(daemon, self.now)) {
            let event = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.events.pop_front());
            let Some((_, uuid)) = event else { return };
            let found = self.vms.iter().find(|vm| vm.uuid == uuid).and_then(|vm| self.local_vm(at, vm));
            let Some(router) = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.router.as_mut())
            else {
                return;
            };
            match found {
                Some(vm) => router.seen(UriIndex(0), vm, now),
                None => router.vanished(UriIndex(0), uuid, now),
            }
        }
    }

    fn run_jobs(&mut self, at: usize) {
        let now = self.instant(self.now);
        loop {
            let Some(daemon) = self.nodes[at].daemon.as_mut() else { return };
            let Some(place) = daemon.jobs.iter().position(|job| job.due <= self.now) else { return };
            let job = daemon.jobs.swap_remove(place);
            let verdict = if now >= job.expires { Verdict::Failure } else { self.carry_out(at, &job) };
            let router = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.router.as_mut());
            if let Some(router) = router {
                let outcome = JobOutcome { verdict, evidence: Evidence::None, reason: "so it is".to_owned() };
                router.done(job.number, outcome, now);
            }
        }
    }

    fn carry_out(&mut self, at: usize, job: &Job) -> Verdict {
        let Some(vm) = self.vm_of(at, &job.name) else { return Verdict::Failure };
        let runs = self.vms[vm].copies.get(&at).copied().flatten().is_some();
        let comes_in = self.vms[vm].migration.is_some_and(|(_, to, _)| to == at);
        let now = self.instant(self.now);
        let router = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.router.as_mut());
        let is_alone = router.is_some_and(|router| router.is_sole_known_owner(&job.name, now));
        let moves = is_alone && (comes_in || self.vms[vm].moved.contains(&at));
        match job.operation {
            _ if self.random.one_in(50) => Verdict::Failure,
            Operation::Status if runs => Verdict::Success,
            _ if moves => Verdict::Failure,
            Operation::Status => Verdict::Off,
            Operation::On => {
                if !runs {
                    self.boot(at, vm);
                }
                Verdict::Success
            }
            Operation::Off => {
                self.destroy(at, vm);
                Verdict::Success
            }
            Operation::Reboot => {
                if runs {
                    self.destroy(at, vm);
                    self.boot_again(at, vm);
                }
                Verdict::Success
            }
            other => self.fail(&format!("{other} is no job")),
        }
    }

    /// Takes the router's actions and messages.
    fn settle(&mut self, at: usize) {
        let now = self.instant(self.now);
        loop {
            let router = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.router.as_mut());
            let Some(action) = router.and_then(Router::next_action) else { break };
            let pause = match self.random.below(20) {
                0 => self.random.below(20_000),
                _ => self.random.below(30),
            };
            match action {
                RouterAction::Begin { job: number, operation, name, on_behalf, expires, .. } => {
                    let job = Job { due: self.now + pause, number, operation, name, on_behalf, expires };
                    if let Some(daemon) = self.nodes[at].daemon.as_mut() {
                        daemon.jobs.push(job);
                    }
                }
                RouterAction::Find { job, name } => {
                    let found = self.vm_of(at, &name).and_then(|vm| self.local_vm(at, &self.vms[vm]));
                    let found = found.map(|vm| (UriIndex(0), vm)).into_iter().collect();
                    if let Some(router) = self.nodes[at].daemon.as_mut().and_then(|d| d.router.as_mut()) {
                        router.found(job, Ok(found), now);
                    }
                }
                RouterAction::HangUp { job } => {
                    let now = self.now;
                    if let Some(daemon) = self.nodes[at].daemon.as_mut() {
                        for job in daemon.jobs.iter_mut().filter(|known| known.number == job) {
                            (job.expires, job.due) = (self.start, now);
                        }
                    }
                }
                RouterAction::Answer { client, verdict, reason, .. } => {
                    self.answered(at, client, verdict, &reason)
                }
                RouterAction::Note(_) | RouterAction::Replied { .. } => {}
            }
        }
        let is_refused = |daemon: &Daemon, now| daemon.refused_until > now;
        let mut room = if self.random.one_in(4) { self.random.below(4) } else { 64 };
        while room > 0 && self.nodes[at].daemon.as_ref().is_some_and(|daemon| !is_refused(daemon, self.now)) {
            room -= 1;
            let router = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.router.as_mut());
            let Some(message) = router.and_then(|router| router.next_message(now)) else { break };
            self.cast(at, &message.bytes);
        }
    }

    /// Stops a daemon, which sends its last messages if it can.
    pub fn stop_daemon(&mut self, at: usize) {
        let Some(daemon) = self.nodes[at].daemon.as_mut().filter(|daemon| !daemon.is_frozen) else { return };
        if let Some(router) = &mut daemon.router {
            router.stop();
            self.settle(at);
        }
    }

    /// Returns true if it has not handled all events of its libvirt.
    pub fn has_news(&self, at: usize) -> bool {
        self.nodes[at].daemon.as_ref().is_some_and(|daemon| !daemon.events.is_empty())
    }

    /// Returns true if no client here waits for a job.
    pub fn owes_nothing(&self, at: usize) -> bool {
        let Some(daemon) = &self.nodes[at].daemon else { return true };
        let is_owed = |job: &Job| matches!(job.on_behalf, OnBehalf::Client(client) if daemon.clients.contains_key(&client));
        !daemon.jobs.iter().any(is_owed)
    }
}
