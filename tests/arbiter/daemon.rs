//! Daemon in which the arbiter works: clients' requests, the proofs and the operations.

use fence_virt::arbiter::{Contender, OperationId, Ruling};
use fence_virt::fence::Source;

use super::world::{Endpoint, Event, MS, Operation, Outcome, Request, SECOND, Time, World};

impl World {
    /// Sends a request from an endpoint, if its VM runs; the daemon has sent its challenge.
    pub fn send(&mut self, endpoint: usize, target: usize) {
        let vm = self.endpoints[endpoint].vm;
        let life = vm.and_then(|vm| self.vms[vm].life);
        if vm.is_some() && life.is_none() {
            return;
        }
        let alive_at = self.now;
        let request = Request { target, endpoint: Some(endpoint), life, alive_at, asked_at: 0, proof: None };
        let pause = self.random.between(100, 20 * MS);
        self.after(pause, Event::Answer(request));
    }

    pub fn send_from_another_host(&mut self, target: usize) {
        let alive_at = self.now;
        self.arrive(Request { target, endpoint: None, life: None, alive_at, asked_at: 0, proof: None });
    }

    pub fn answer(&mut self, request: Request) {
        if self.is_alive(&request) {
            let pause = self.random.between(100, self.weather.delay);
            self.after(pause, Event::Arrive(request));
        }
    }

    pub fn arrive(&mut self, mut request: Request) {
        request.asked_at = self.now;
        let id = self.number();
        self.trace(|| format!("{id}: endpoint {:?} asks for vm{}", request.endpoint, request.target));
        let caller = request.endpoint.map(|at| {
            let Endpoint { source, vm, is_known } = &self.endpoints[at];
            let is_cid = matches!(source, Source::Cid(_));
            let vm = vm.filter(|_| *is_known && is_cid).map(|vm| self.vms[vm].uuid);
            Contender { source: source.clone(), vm, alive_at: self.instant(request.alive_at) }
        });
        let target = self.vms[request.target].uuid;
        self.arbiter.ask(OperationId(id), caller, target, self.instant(self.now));
        self.at(request.alive_at + 30 * SECOND, Event::Expire(id));
        if self.random.one_in(10) {
            let pause = self.random.below(20 * SECOND);
            self.after(pause, Event::HangUp(id));
        }
        self.requests.insert(id, request);
    }

    pub fn withdraw(&mut self, id: u64, what: &'static str) {
        let Some(request) = self.requests.remove(&id) else { return };
        self.trace(|| format!("{id}: {what}"));
        self.count(what);
        if request.life.is_some_and(|life| self.lives[life].killed_for.is_some()) {
            self.count("withheld from a caller who was powered off");
        }
        self.arbiter.withdraw(OperationId(id));
    }

    pub fn probe(&mut self, id: u64, sent: Time, due: Time) {
        if self.requests.get(&id).is_some_and(|request| self.is_alive(request)) {
            self.at(due, Event::Proof(id, sent));
        }
    }

    /// The client lived when it received the probe, thus after the daemon sent it.
    pub fn proof(&mut self, id: u64, sent: Time) {
        let Some(request) = self.requests.get_mut(&id).filter(|request| request.proof == Some(sent)) else {
            return;
        };
        (request.proof, request.alive_at) = (None, sent);
        self.count("proof");
        if !self.may_begin(&self.requests[&id]) {
            self.count("proof that was no longer enough");
        }
        self.arbiter.proved(OperationId(id), self.instant(sent));
    }

    pub fn no_proof(&mut self, id: u64, sent: Time) {
        let Some(request) = self.requests.get(&id).filter(|request| request.proof == Some(sent)) else {
            return;
        };
        if self.is_alive(request) {
            self.fail(&format!("{id} is withdrawn, whose caller lives"));
        }
        self.withdraw(id, "no proof");
    }

    /// Obeys the arbiter.
    pub fn obey(&mut self) {
        while let Some(ruling) = self.arbiter.next(self.instant(self.now)) {
            self.trace(|| format!("{ruling:?}"));
            match ruling {
                Ruling::Begin(id) => self.begin(id.0),
                Ruling::Prove { id, after, rival } => {
                    self.check_demand(id.0, self.time(after), &rival);
                    self.demand(id.0);
                }
            }
        }
    }

    fn demand(&mut self, id: u64) {
        self.count("proof demanded");
        let sent = self.now + self.random.between(1, MS);
        let due = sent + self.random.between(10 * MS, SECOND);
        let reached = self.random.between(sent, due);
        if let Some(request) = self.requests.get_mut(&id) {
            request.proof = Some(sent);
        }
        self.at(reached, Event::Probe(id, sent, due));
        self.at(sent + 3 * SECOND, Event::NoProof(id, sent));
    }

    fn count_begin(&mut self, id: u64, request: &Request) {
        self.count("begun");
        let is_before_starving = self.starving_before(id).next().is_some();
        let Some(at) = request.endpoint else {
            if is_before_starving {
                self.count("begun for another host before a starving one");
            }
            return self.count("begun for another host");
        };
        if is_before_starving {
            self.count("begun before a starving one, which it does not contest");
        }
        if self.is_starving(request) {
            self.count("begun after it starved");
        }
        let is_known = self.endpoints[at].is_known;
        let is_beside_own = self.open_operations().any(|other| other.endpoint == request.endpoint);
        let is_beside_others = self.open_operations().any(|other| other.endpoint != request.endpoint);
        match (is_beside_own, is_known) {
            (true, true) => self.count("begun beside another one of the same known VM"),
            (true, false) => self.count("begun beside another one of the same source"),
            (false, _) => {}
        }
        if is_beside_others && is_known {
            self.count("begun beside another source's, as its VM is known");
        }
    }

    fn begin(&mut self, id: u64) {
        let Some(request) = self.requests.get(&id).cloned() else { self.fail("an operation begins twice") };
        self.check_begin(id, &request);
        self.count_begin(id, &request);
        self.requests.remove(&id);
        let Request { target, endpoint, .. } = request;
        self.operations.push(Operation { id, target, endpoint, end: None });
        let end = self.now + self.random.between(100 * MS, 12 * SECOND);
        let outcome = match self.random.below(8) {
            0 => Outcome::Nothing,
            1 => Outcome::Unknown,
            _ => Outcome::Done,
        };
        let (last, is_effective) = match outcome {
            Outcome::Nothing => (end, false),
            Outcome::Unknown => (end + 15 * SECOND, !self.random.one_in(3)),
            Outcome::Done => (end, true),
        };
        if is_effective {
            let effect = self.random.between(self.now, last + 1);
            self.at(effect, Event::Effect(id));
        }
        self.at(end, Event::End(id, outcome));
    }

    pub fn take_effect(&mut self, id: u64) {
        let Some(&Operation { target, endpoint, .. }) = self.operations.iter().find(|other| other.id == id)
        else {
            self.fail("an operation is forgotten before its effect")
        };
        self.kill(target, Some(endpoint));
    }

    pub fn end(&mut self, id: u64, outcome: Outcome) {
        self.trace(|| format!("{id}: ends, {outcome:?}"));
        let is_discarded = outcome == Outcome::Nothing && self.random.one_in(2);
        let mut end = self.now;
        if outcome == Outcome::Unknown {
            self.count("ended without a known outcome");
            end += 15 * SECOND;
        }
        if is_discarded {
            self.operations.retain(|operation| operation.id != id);
            self.arbiter.discard(OperationId(id));
        } else {
            self.operations.iter_mut().filter(|other| other.id == id).for_each(|other| other.end = Some(end));
            self.arbiter.finish(OperationId(id), self.instant(end));
        }
        let now = self.now;
        self.operations.retain(|operation| operation.end.is_none_or(|end| end + 31 * SECOND > now));
    }
}
