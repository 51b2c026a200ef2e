//! Turn of a daemon: it receives, carries out, sends.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash};

use fence_virt::fence::{Operation, UriIndex, Verdict};
use fence_virt::routing::{ClientId, Evidence, JobId, JobOutcome, OnBehalf, Peer, Router, RouterAction};
use fence_virt::wire::cluster::{ClusterMessage, NodeId};

use super::vm::Starter;
use super::world::{Daemon, Job, Kind, Time, Word, World};

/// Time in milliseconds after which votes are late: other nodes have heard later events before.
const LATE_VOTES: Time = 1000;

impl World {
    /// Lets a daemon read up to this number of words, and do what is due.
    pub fn turn(&mut self, at: usize, words: usize) {
        if !self.is_awake(at) {
            return;
        }
        let is_ours = self.nodes[at].kind == Kind::Ours;
        // After a call, the worker may handle libvirt's events first.
        if is_ours && self.quirks.blocks && self.random.one_in(2) {
            self.take_events(at);
        }
        self.report_undelivered(at);
        self.take_requests(at);
        let has_many = self.daemon(at).is_some_and(|daemon| daemon.catches_up);
        for _ in 0..if has_many { 1000 } else { words } {
            let Some(word) = self.daemon(at).and_then(|daemon| daemon.words.pop_front()) else { break };
            self.hear(at, word);
        }
        let Some(daemon) = self.daemon(at) else { return };
        daemon.is_old &= !daemon.words.is_empty();
        daemon.catches_up &= !daemon.words.is_empty();
        self.report_undelivered(at);
        if is_ours {
            self.take_votes(at);
            self.take_events(at);
            self.run_jobs(at);
            let now = self.instant(self.now);
            if let Some(router) = self.router(at) {
                router.turn(now);
            }
            self.settle(at);
        }
    }

    /// Returns false while a daemon is frozen, or in a long call; notes what that means for its clients.
    fn is_awake(&mut self, at: usize) -> bool {
        let now = self.now;
        let Some(daemon) = self.daemon(at) else { return false };
        let is_blocked = daemon.blocked_until > now;
        if daemon.is_frozen || is_blocked {
            daemon.clients.values_mut().for_each(|client| client.was_frozen = true);
        }
        if daemon.is_frozen {
            return false;
        }
        if now - daemon.read_at > 1000 {
            daemon.is_old = true;
            daemon.thawed_at = now;
        }
        daemon.read_at = now;
        daemon.catches_up |= is_blocked;
        !is_blocked
    }

    fn report_undelivered(&mut self, at: usize) {
        let now = self.instant(self.now);
        let Some(daemon) = self.daemon(at) else { return };
        let has_undelivered = daemon.is_old || daemon.catches_up;
        if let Some(router) = &mut daemon.router {
            router.set_undelivered(has_undelivered, now);
        }
    }

    fn take_votes(&mut self, at: usize) {
        let (now, instant) = (self.now, self.instant(self.now));
        let Some(daemon) = self.daemon(at) else { return };
        while daemon.votes.front().is_some_and(|(due, ..)| *due <= now) {
            let Some((due, is_quorate, nodes)) = daemon.votes.pop_front() else { break };
            daemon.has_votes = true;
            if let Some(router) = &mut daemon.router {
                router.votes(is_quorate, &nodes, instant);
            }
            // One that stood still hears old votes after events of the group that were later: nobody knows the same.
            if let Some(history) = daemon.history.as_mut().filter(|_| now > due + LATE_VOTES) {
                (at, now).hash(history);
            }
            // Votes for a node that has left may tell that it is back, or come from before.
            let has_left = |node: &&NodeId| !daemon.view.iter().any(|peer| peer.node == **node);
            let absent: Vec<NodeId> = nodes.iter().filter(has_left).copied().collect();
            if !absent.is_empty() && daemon.absent_voters.last() != Some(&absent) {
                daemon.absent_voters.push(absent);
            }
        }
    }

    fn hear(&mut self, at: usize, word: Word) {
        self.trace(|| match &word {
            Word::Message(from, bytes, _) => {
                let message = ClusterMessage::decode(bytes);
                format!("    node {} hears from {} {message:?}", self.nodes[at].id, from.node)
            }
            Word::Changed(change) => format!("    node {} hears {change:?}", self.nodes[at].id),
        });
        self.record(at, &word);
        match self.nodes[at].kind {
            Kind::Ours => {
                let now = self.instant(self.now);
                let Some(daemon) = self.daemon(at) else { return };
                let (thawed_at, is_old) = (daemon.thawed_at, daemon.is_old);
                match word {
                    Word::Message(from, bytes, came) => {
                        let read = self.instant(came.max(thawed_at));
                        if let Some(router) = self.router(at) {
                            router.heard(from, &bytes, read, is_old, now);
                        }
                    }
                    Word::Changed(change) => {
                        if let Some(router) = self.router(at) {
                            router.changed(&change, now);
                        }
                    }
                }
            }
            Kind::C => self.c_hears(at, word),
            Kind::Hostile => self.hostile_hears(at, word),
        }
    }

    /// Records what a daemon knows by the group's events.
    fn record(&mut self, at: usize, word: &Word) {
        let nodes = self.nodes.len();
        let ours: BTreeSet<NodeId> =
            self.nodes.iter().filter(|node| node.kind == Kind::Ours).map(|node| node.id).collect();
        let Some(daemon) = self.daemon(at) else { return };
        match word {
            Word::Message(from, bytes, _) => {
                match ClusterMessage::decode(bytes) {
                    Ok(ClusterMessage::Store(told)) => {
                        daemon.told.insert((from.node, told.domain.uuid));
                    }
                    Ok(ClusterMessage::Hello { is_complete: true } | ClusterMessage::Table(_))
                        if daemon.untold.remove(&from.node) && daemon.untold.is_empty() =>
                    {
                        daemon.history = Some(DefaultHasher::default());
                    }
                    _ => {}
                }
                if let Some(history) = &mut daemon.history {
                    (from, bytes).hash(history);
                }
            }
            Word::Changed(change) => {
                let members: BTreeSet<NodeId> = change.members.iter().map(|peer| peer.node).collect();
                // A loss before the first votes is known only by order of their coming.
                daemon.history.take_if(|_| !daemon.has_votes);
                // Who has just started knows less.
                daemon.untold =
                    if members.len() == nodes && daemon.history.is_none() { ours } else { BTreeSet::new() };
                if let Some(history) = &mut daemon.history {
                    let left: Vec<Peer> = change.left.iter().map(|(peer, _)| *peer).collect();
                    (&change.members, left).hash(history);
                }
            }
        }
    }

    fn take_events(&mut self, at: usize) {
        let (now, instant) = (self.now, self.instant(self.now));
        let vms = self.local_vms(at);
        let Some(daemon) = self.daemon(at) else { return };
        if let (Some(until), Some(router)) = (daemon.away_until, &mut daemon.router) {
            daemon.events.clear();
            if until > now {
                return router.unlisted(UriIndex(0));
            }
            daemon.away_until = None;
            router.listed(UriIndex(0), vms, instant);
        }
        let is_due = |daemon: &mut Daemon| daemon.events.front().is_some_and(|(due, _)| *due <= now);
        while self.daemon(at).is_some_and(is_due) {
            let Some((_, uuid)) = self.daemon(at).and_then(|daemon| daemon.events.pop_front()) else {
                return;
            };
            let found = self.vms.iter().find(|vm| vm.uuid == uuid).and_then(|vm| self.local_vm(at, vm));
            let Some(router) = self.router(at) else { return };
            match found {
                Some(vm) => router.seen(UriIndex(0), vm, instant),
                None => router.vanished(UriIndex(0), uuid, instant),
            }
        }
    }

    fn run_jobs(&mut self, at: usize) {
        let (now, instant) = (self.now, self.instant(self.now));
        loop {
            let Some(daemon) = self.daemon(at) else { return };
            let Some(place) = daemon.jobs.iter().position(|job| job.due <= now) else { return };
            let job = daemon.jobs.swap_remove(place);
            let is_possible = instant < job.expires && !daemon.is_away(now);
            let (verdict, evidence) =
                if is_possible { self.carry_out(at, &job) } else { (Verdict::Failure, Evidence::None) };
            if let Some(router) = self.router(at) {
                let reason = "so it is".to_owned();
                router.done(job.number, JobOutcome { verdict, evidence, reason }, instant);
            }
        }
    }

    /// Returns true if a daemon still takes a VM to run on its host.
    fn is_seen_running(&mut self, at: usize, name: &str) -> bool {
        self.router(at).is_some_and(|router| router.is_seen_running_here(name))
    }

    fn carry_out(&mut self, at: usize, job: &Job) -> (Verdict, Evidence) {
        let Some(vm) = self.vm_of(at, &job.name) else { return (Verdict::Failure, Evidence::None) };
        let runs = self.vms[vm].runs_at(at);
        let is_alone = self.router(at).is_some_and(|router| router.is_sole_known_owner(&job.name));
        let has_moved = !runs && self.vms[vm].moved.contains(&at);
        let is_migrating = self.vms[vm].migration.is_some_and(|moving| moving.from == at || moving.to == at);
        let evidence = match (runs, is_migrating) {
            (true, false) => Evidence::Ended,
            (true, true) => Evidence::EndedWhileMigrating,
            (false, _) if has_moved => Evidence::Moved,
            (false, _) => Evidence::None,
        };
        let now = self.instant(self.now);
        match job.operation {
            _ if !self.is_calm && self.random.one_in(50) => (Verdict::Failure, Evidence::None),
            Operation::Status if runs => (Verdict::Success, Evidence::None),
            _ if is_alone && has_moved => (Verdict::Failure, Evidence::Moved),
            _ if is_alone && self.vms[vm].is_paused(at) => (Verdict::Failure, Evidence::None),
            Operation::Status => (Verdict::Off, evidence),
            Operation::On if !self.router(at).is_some_and(|router| router.may_start(&job.name, now)) => {
                (Verdict::Failure, Evidence::None)
            }
            Operation::On if !runs && self.is_seen_running(at, &job.name) => {
                (Verdict::Failure, if has_moved { Evidence::Moved } else { Evidence::None })
            }
            Operation::On => {
                if !runs {
                    self.check_start(at, vm, job);
                    match self.is_of_reboot(at, vm, job) {
                        true => self.boot_again(at, vm),
                        false => self.boot(at, vm, Starter::Ours),
                    }
                }
                (Verdict::Success, Evidence::None)
            }
            Operation::Off => {
                self.destroy(at, vm);
                (Verdict::Success, evidence)
            }
            Operation::Reboot => {
                if runs {
                    self.destroy(at, vm);
                    // It may run at the target of the migration.
                    if !is_migrating {
                        self.check_start(at, vm, job);
                        self.boot_again(at, vm);
                    }
                }
                (Verdict::Success, evidence)
            }
            other => panic!("{other} is no job"),
        }
    }

    /// Returns true if a job is for a client that wants a VM rebooted, as far as the model can tell.
    fn is_of_reboot(&self, at: usize, vm: usize, job: &Job) -> bool {
        let node = match job.on_behalf {
            OnBehalf::Client(_) => Some(&self.nodes[at]),
            OnBehalf::Node(id) => self.nodes.iter().find(|node| node.id == id),
        };
        let daemon = node.and_then(|node| node.daemon.as_ref());
        let clients = daemon.into_iter().flat_map(|daemon| &daemon.clients);
        let is_meant = |client: &ClientId| match job.on_behalf {
            OnBehalf::Client(number) => *client == number,
            OnBehalf::Node(_) => true,
        };
        let meant = clients.filter(|(client, known)| is_meant(client) && known.vm == Some(vm));
        let operations: Vec<Operation> = meant.map(|(_, client)| client.operation).collect();
        !operations.is_empty() && operations.iter().all(|operation| *operation == Operation::Reboot)
    }

    /// Takes the router's actions and messages.
    fn settle(&mut self, at: usize) {
        let now = self.instant(self.now);
        while let Some(action) = self.router(at).and_then(Router::next_action) {
            self.trace(|| format!("    node {}: {action:?}", self.nodes[at].id));
            match action {
                RouterAction::Begin { job: number, operation, name, on_behalf, expires, .. } => {
                    let due = self.now + self.pause();
                    let job = Job { due, number, operation, name, on_behalf, expires };
                    if let Some(daemon) = self.daemon(at) {
                        daemon.jobs.push(job);
                    }
                }
                RouterAction::Find { job, name } => self.find(at, job, &name),
                RouterAction::HangUp { job } => {
                    let (now, start) = (self.now, self.start);
                    if let Some(daemon) = self.daemon(at) {
                        for job in daemon.jobs.iter_mut().filter(|known| known.number == job) {
                            (job.expires, job.due) = (start, now);
                        }
                    }
                }
                RouterAction::Answer { client, verdict, reason, .. } => {
                    self.answered(at, client, verdict, &reason)
                }
                RouterAction::ProveCaller { client, question, .. } => {
                    let lives = self.shows_life(client);
                    if let Some(router) = self.router(at) {
                        router.caller_proved(question, lives);
                    }
                }
                RouterAction::Note(_) | RouterAction::Replied { .. } => {}
            }
        }
        let mut room = if !self.is_calm && self.random.one_in(4) { self.random.below(4) } else { 64 };
        while room > 0
            && self.nodes[at].daemon.as_ref().is_some_and(|daemon| daemon.refused_until <= self.now)
        {
            room -= 1;
            let Some(message) = self.router(at).and_then(|router| router.next_message(now)) else { break };
            self.cast(at, &message.bytes);
        }
    }

    /// Returns the time that a libvirt call takes.
    fn pause(&mut self) -> Time {
        match self.random.below(20) {
            0 if !self.is_calm => self.random.below(20_000),
            _ => self.random.below(30),
        }
    }

    fn find(&mut self, at: usize, job: JobId, name: &str) {
        let now = self.instant(self.now);
        let is_away = self.nodes[at].daemon.as_ref().is_some_and(|daemon| daemon.is_away(self.now));
        let found = self.vm_of(at, name).and_then(|vm| self.local_vm(at, &self.vms[vm]));
        let found = found.map(|vm| (UriIndex(0), vm)).into_iter().collect();
        let found = if is_away { Err("libvirt is away".to_owned()) } else { Ok(found) };
        if let Some(router) = self.router(at) {
            router.found(job, found, now);
        }
    }

    /// Stops a daemon, which sends its last messages if it can.
    pub fn stop_daemon(&mut self, at: usize) {
        let now = self.now;
        let is_able = |daemon: &&mut Daemon| !daemon.is_frozen && daemon.blocked_until <= now;
        if let Some(router) = self.daemon(at).filter(is_able).and_then(|daemon| daemon.router.as_mut()) {
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
