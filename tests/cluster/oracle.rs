//! What must never happen: each rule has a name, and is checked in one place.

use fence_virt::fence::{Operation, Verdict};
use fence_virt::routing::{ClientId, OnBehalf};
use fence_virt::wire::cluster::NodeId;

use super::vm::Starter;
use super::world::Kind::{C, Ours};
use super::world::{Job, Node, Time, World};

/// A rule that a run of the simulation can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// A VM whose off or reboot succeeds, or whose status is off, was off at some instant of the request:
    /// [`World::check_off`].
    OffWasOff,
    /// The same of the reply of this suite to a C daemon: [`World::check_reply_to_c`].
    ReplyWasOff,
    /// `on` and reboot start no copy while another is active that was so when they were requested:
    /// [`World::check_start`].
    NoSecondCopy,
    /// A VM is destroyed only while the caller of an off or reboot waits: [`World::check_destroy`].
    DestroyedInTime,
    /// A request destroys a VM once, and not what it has started itself: [`World::check_destroy`].
    DestroyedOnce,
    /// Of two VMs that fence each other, each at its own host of this suite, one is not destroyed:
    /// [`World::check_duels`].
    OneSurvives,
    /// A client gets one answer, within the time limit: [`World::check_age`].
    AnsweredInTime,
    /// Nodes that have received the same events give the same answers: `recovery`.
    SameVerdictEverywhere,
    /// Nothing waits for ever once all is repaired: `recovery`.
    NothingLeftOver,
    /// The status of each VM is right at every node once all is repaired: `recovery`.
    FoundEverywhere,
    /// An off succeeds once all is repaired: `recovery`.
    OffSucceedsInTheEnd,
}

/// The first rule that a run has broken.
#[derive(Debug, Clone)]
pub struct Violation {
    pub seed: u64,
    pub at: Time,
    pub invariant: Invariant,
    pub what: String,
}

/// Time limit for answers, with some for the steps of the simulation.
const ANSWER_LIMIT: Time = 28_100;

impl World {
    /// Records a violation; the run ends with its step.
    pub fn violate(&mut self, invariant: Invariant, what: String) {
        self.trace(|| format!("VIOLATION: {invariant:?}: {what}"));
        if self.violation.is_none() {
            self.violation = Some(Violation { seed: self.seed, at: self.now, invariant, what });
        }
    }

    /// [`Invariant::AnsweredInTime`]: node `at` answers a request of this age, or has not answered it yet.
    pub fn check_age(&mut self, at: usize, operation: Operation, age: Time) {
        if age > ANSWER_LIMIT {
            let what = format!("node {}: {operation} waits {age} ms for its answer", self.nodes[at].id);
            self.violate(Invariant::AnsweredInTime, what);
        }
    }

    /// [`Invariant::OffWasOff`]: node `at` answers a request of this time.
    pub fn check_off(
        &mut self,
        at: usize,
        vm: usize,
        (operation, asked): (Operation, Time),
        (verdict, reason): (Verdict, &str),
    ) {
        let response = if verdict == Verdict::Off { 2 } else { u32::from(verdict != Verdict::Success) };
        if says_off(operation, response) && self.has_run_on(at, vm, asked) {
            let Self { vms, nodes, .. } = self;
            let (name, copies, id) = (&vms[vm].name, &vms[vm].copies, nodes[at].id);
            let what =
                format!("node {id}: {operation} of {name} says off ({reason}), and it runs: {copies:?}");
            self.violate(Invariant::OffWasOff, what);
        }
    }

    /// [`Invariant::ReplyWasOff`]: node `at` replies to a C daemon's request of this time.
    pub fn check_reply_to_c(
        &mut self,
        at: usize,
        vm: usize,
        operation: Operation,
        asked: Time,
        response: u32,
    ) {
        if !self.quirks.c_oracle {
            return;
        }
        self.count("replies to C daemons");
        if says_off(operation, response) && self.has_run_on(at, vm, asked) {
            let Self { vms, nodes, .. } = self;
            let (name, copies, id) = (&vms[vm].name, &vms[vm].copies, nodes[at].id);
            let what = format!(
                "node {id} replies to a C daemon: {operation} of {name} is {response}, and it runs: {copies:?}"
            );
            self.violate(Invariant::ReplyWasOff, what);
        }
    }

    /// [`Invariant::NoSecondCopy`]: node `at` is about to start a VM for a job.
    pub fn check_start(&mut self, at: usize, vm: usize, job: &Job) {
        if !self.quirks.on {
            return;
        }
        self.count("starts by jobs");
        let asked = self.asked_at(at, vm, job);
        let other = self.vms[vm].active().find(|(_, run)| self.runs[run].began < asked);
        if other.is_some() && self.is_blamed(at, vm) {
            let Self { vms, nodes, .. } = self;
            let (name, copies, id) = (&vms[vm].name, &vms[vm].copies, nodes[at].id);
            let what = format!("node {id}: {} starts {name}, and it runs: {copies:?}", job.operation);
            self.violate(Invariant::NoSecondCopy, what);
        }
    }

    /// [`Invariant::DestroyedInTime`] and [`Invariant::DestroyedOnce`]: a daemon destroys this run.
    pub fn check_destroy(&mut self, vm: usize, run: u64) {
        let name = self.vms[vm].name.clone();
        if self.now > self.vms[vm].doomed_until {
            let what = format!("{name} is destroyed when its caller has given up");
            self.violate(Invariant::DestroyedInTime, what);
        }
        if self.started.contains(&run) {
            self.violate(Invariant::DestroyedOnce, format!("{name} is rebooted twice for one request"));
        }
    }

    /// Returns true if a VM has not been off since this time, and node `at` could not mean an earlier state.
    fn has_run_on(&self, at: usize, vm: usize, since: Time) -> bool {
        let is_off = self.vms[vm].active().next().is_none();
        let was_off = self.vms[vm].was_off_at.is_some_and(|at| at >= since);
        let is_excused = self.is_second_of_c(vm, since) || self.is_unheard_start(vm);
        !is_off && !was_off && self.is_blamed(at, vm) && !is_excused
    }

    /// Returns true if a VM that was off was started where corosync takes no messages: docs/CLUSTER-RULES.md has
    /// it among the limits.
    fn is_unheard_start(&self, vm: usize) -> bool {
        let is_mute =
            |at: usize| self.nodes[at].daemon.as_ref().is_some_and(|daemon| daemon.refused_until > self.now);
        self.vms[vm].active().all(|(at, run)| is_mute(at) && !self.runs[&run].is_second)
    }

    /// Returns true if a VM runs only because C daemons have started it while it ran: nothing can keep
    /// them from that.
    fn is_second_of_c(&self, vm: usize, since: Time) -> bool {
        let is_of_c = |run: &u64| {
            let run = &self.runs[run];
            run.by == Starter::C && run.is_second && run.began >= since
        };
        self.vms[vm].active().all(|(_, run)| is_of_c(&run))
    }

    /// Returns true if a wrong answer of node `at` is not excused: because it knew that the VM may run, or
    /// had to know that it cannot know.
    fn is_blamed(&self, at: usize, vm: usize) -> bool {
        self.quirks.strict || self.could_know(at, vm)
    }

    /// Returns true if a node that runs this VM has advertised it to a daemon, or is in its group and able
    /// to. A daemon that was just started cannot know of other VMs that are defined on its own host, nor what runs on
    /// a C daemon that hangs and has advertised it to no daemon of this suite in the group.
    fn could_know(&self, at: usize, vm: usize) -> bool {
        let Some(daemon) = &self.nodes[at].daemon else { return false };
        let is_member = |id: NodeId| daemon.view.iter().any(|peer| peer.node == id);
        self.vms[vm].active().any(|(runner, _)| {
            let Node { id, kind, daemon: running, .. } = &self.nodes[runner];
            let told = (*id, self.vms[vm].uuid);
            let has_told = |node: &Node| {
                let hears = node.kind == Ours && is_member(node.id);
                hears && node.daemon.as_ref().is_some_and(|daemon| daemon.told.contains(&told))
            };
            let is_able = running.as_ref().is_some_and(|running| match kind {
                C => running.blocked_until <= self.now || self.nodes.iter().any(has_told),
                _ => !running.is_frozen,
            });
            daemon.told.contains(&told) || (is_member(*id) && is_able)
        })
    }

    /// Returns when a job's operation was requested, or could have been at the earliest.
    fn asked_at(&self, at: usize, vm: usize, job: &Job) -> Time {
        let of_client = |client: ClientId| {
            self.nodes[at]
                .daemon
                .as_ref()
                .and_then(|daemon| daemon.clients.get(&client))
                .map(|known| known.asked)
        };
        let asked = match job.on_behalf {
            OnBehalf::Client(client) => of_client(client),
            OnBehalf::Node(node) => {
                let daemon =
                    self.nodes.iter().find(|known| known.id == node).and_then(|node| node.daemon.as_ref());
                let clients = daemon.into_iter().flat_map(|daemon| daemon.clients.values());
                let asked = clients.filter(|client| client.vm == Some(vm)).map(|client| client.asked);
                asked
                    .chain(daemon.and_then(|daemon| daemon.c.asking.as_ref()).map(|asking| asking.asked))
                    .min()
            }
        };
        asked.unwrap_or(self.now.saturating_sub(ANSWER_LIMIT))
    }
}

/// Returns true if this response means that the VM is off.
fn says_off(operation: Operation, response: u32) -> bool {
    match operation {
        Operation::Off | Operation::Reboot => response == 0,
        Operation::Status => response == 2,
        _ => false,
    }
}
