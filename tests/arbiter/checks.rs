//! Checks of a world after each step.

use fence_virt::arbiter::Rival;

use super::world::{Operation, Request, SECOND, Time, World};

/// Time after which a request that waits is not overtaken by those that contest it.
const PATIENCE: Time = 10 * SECOND;

/// End of an operation that is under way, later than all others.
const OPEN: Time = Time::MAX;

impl World {
    /// Returns true if the daemon must assume that the operation may power the caller of this request off.
    fn contests(&self, operation: &Operation, request: &Request) -> bool {
        self.is_rival(operation.endpoint, operation.target, request)
    }

    /// Returns true if an operation of this endpoint on this VM may power the caller of this request off.
    fn is_rival(&self, endpoint: Option<usize>, target: usize, request: &Request) -> bool {
        let Some(at) = request.endpoint else { return false };
        let caller = &self.endpoints[at];
        let is_another_vm = caller.is_known && caller.vm != Some(target);
        endpoint != Some(at) && !is_another_vm
    }

    pub fn is_starving(&self, request: &Request) -> bool {
        request.endpoint.is_some() && self.now >= request.asked_at + PATIENCE
    }

    /// Requests that were asked for before this one, and starve.
    pub fn starving_before(&self, id: u64) -> impl Iterator<Item = (&u64, &Request)> {
        self.requests.range(..id).filter(|(_, older)| self.is_starving(older))
    }

    /// Older request that starves and that this one would hold up.
    fn blocker(&self, id: u64, request: &Request) -> Option<u64> {
        request.endpoint?;
        let mut starving = self.starving_before(id);
        let is_held_up = |older: &Request| self.is_rival(request.endpoint, request.target, older);
        starving.find_map(|(&older_id, older)| is_held_up(older).then_some(older_id))
    }

    /// Latest end of the operations that contest a request.
    fn latest_end(&self, request: &Request) -> Option<Time> {
        let mut latest = None;
        // Plain, since a debug build spends half of its time here.
        for operation in &self.operations {
            if self.contests(operation, request) {
                latest = latest.max(Some(operation.end.unwrap_or(OPEN)));
            }
        }
        latest
    }

    /// Operations that are under way as the daemon knows it.
    pub fn open_operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(|operation| operation.end.is_none_or(|end| end > self.now))
    }

    /// Safety: no operation begins whose caller was powered off for somebody else, or is about to be.
    pub fn check_begin(&self, id: u64, request: &Request) {
        let life = request.life.map(|life| &self.lives[life]);
        let killed_for = life.and_then(|life| life.killed_for);
        if killed_for.is_some_and(|endpoint| endpoint.is_none() || endpoint != request.endpoint) {
            self.fail(&format!("{id} begins, whose caller was powered off for endpoint {killed_for:?}"));
        }
        let caller = request.endpoint.map(|at| &self.endpoints[at]);
        let vm = caller.and_then(|endpoint| endpoint.vm);
        let is_against = |other: &Operation| Some(other.target) == vm && other.endpoint != request.endpoint;
        if caller.is_some() && self.open_operations().any(is_against) {
            self.fail(&format!("{id} begins, whose caller is being powered off"));
        }
        let mut all_older = self.requests.range(..id);
        let is_passed = |id: u64, older: &Request| self.may_begin(older) && self.blocker(id, older).is_none();
        if let Some((older, _)) = all_older.find(|(older, request)| is_passed(**older, request)) {
            self.fail(&format!("{id} begins before {older}"));
        }
        // Fairness: nobody is overtaken for long by those who hold him up.
        if let Some(older) = self.blocker(id, request) {
            self.fail(&format!("{id} begins before {older}, which starves and is contested by it"));
        }
    }

    /// Returns true if nothing contests a request.
    pub fn may_begin(&self, request: &Request) -> bool {
        self.latest_end(request).is_none_or(|end| end <= self.now && end < request.alive_at)
    }

    /// Economy: no proof is demanded without need, nor twice at a time.
    pub fn check_demand(&self, id: u64, after: Time, rival: &Rival) {
        let Some(request) = self.requests.get(&id) else { self.fail("a proof for no request") };
        if request.proof.is_some() {
            self.fail(&format!("{id}: a second proof is demanded"));
        }
        if self.latest_end(request) != Some(after) || after > self.now || after < request.alive_at {
            self.fail(&format!("{id}: a proof is demanded without need: {:?}", self.latest_end(request)));
        }
        let is_rival = |operation: &&Operation| {
            let source = operation.endpoint.map(|at| &self.endpoints[at].source);
            operation.end == Some(after)
                && source == rival.source.as_ref()
                && Some(self.vms[operation.target].uuid) == rival.target
        };
        if !self.operations.iter().any(|operation| is_rival(&operation)) {
            self.fail(&format!("{id}: no operation is {rival:?}"));
        }
    }

    /// Liveness: what waits has a reason to, and the arbiter wakes the daemon when it ends.
    pub fn check_waiting(&mut self) {
        let mut first = None;
        let mut blocked = false;
        for (id, request) in self.requests.iter().filter(|(_, request)| request.proof.is_none()) {
            match self.latest_end(request) {
                Some(OPEN) => {}
                Some(end) if end > self.now => first = Some(first.map_or(end, |first: Time| first.min(end))),
                Some(end) if end >= request.alive_at => {
                    self.fail(&format!("{id} waits without a proof, which ends after {end}"));
                }
                _ if self.blocker(*id, request).is_some() => blocked = true,
                end => self.fail(&format!("{id} waits for nothing: the latest end was {end:?}")),
            }
        }
        if blocked {
            self.count("blocked by a starving one");
        }
        let deadline = self.arbiter.deadline(self.instant(self.now));
        self.deadline = deadline.map(|deadline| self.time(deadline));
        if self.deadline != first {
            self.fail(&format!("the deadline is {:?}, not {first:?}", self.deadline));
        }
    }
}
