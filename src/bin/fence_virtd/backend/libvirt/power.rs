//! Off, on and reboot of one VM, with all its copies, each step verified.

use std::time::{Duration, Instant};

use super::resolve::{Uri, Vm};
use crate::backend::Joined;
use crate::job::{Job, Stale};
use crate::libvirt::Failed;
use crate::libvirt::{Condition, Definition, Host, Link, Undestroyed};
use fence_virt::fence::{Operation, PowerState, Verdict};

/// How long after libvirt killed a VM it is only looked at: another destroy
/// would hold the worker for the 15 s that libvirt waits for a process to end.
pub(super) const DYING: Duration = Duration::from_secs(10);

/// How far a power operation has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is over.
    Done(Verdict, String),
    /// Nobody wants it any more.
    Stale(Stale),
    /// A VM is not off yet: try again in a moment.
    Again(String),
}

/// An off or reboot under way.
#[derive(Debug)]
pub(super) struct Fence {
    vm: Vm,
    /// The copies, in the order of `vm.copies`.
    progress: Vec<Progress>,
    /// Where a reboot starts the VM again: on the first URI that ran it.
    restart: Option<(usize, Definition)>,
}

/// What was done about a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing yet.
    Untouched,
    /// libvirt took our destroy of a run: that run is over or dying.
    Killed { run: Option<u32>, at: Instant },
    /// It was seen off, after our destroy or without it.
    Off { by_us: bool },
}

impl Fence {
    pub(super) fn new(vm: Vm) -> Fence {
        let progress = vec![Progress::Untouched; vm.copies.len()];
        Fence { vm, progress, restart: None }
    }

    /// Carries on with it: destroys every copy that runs and verifies that it is off.
    pub(super) fn step<L: Link>(&mut self, uris: &mut [Uri<L>], job: &Job, now: Instant) -> Step {
        let (mut failed, mut again) = (Vec::new(), Vec::new());
        for at in 0..self.progress.len() {
            let uri = &mut uris[self.vm.copies[at].uri];
            let outcome = uri.host(now).map_err(Trouble::from);
            match outcome.and_then(|host| self.copy_off(at, host.as_ref(), job, now)) {
                Ok(()) => {}
                Err(Trouble::Stale(stale)) => return Step::Stale(stale),
                Err(Trouble::Again(reason)) => again.push(format!("{}: {reason}", uri.link.name())),
                Err(Trouble::Failed(reason)) => {
                    uri.link.probe();
                    failed.push(format!("{}: {reason}", uri.link.name()));
                }
            }
        }
        failed.extend(self.vm.hidden.iter().map(|hidden| format!("it was last seen also at {hidden}")));
        if !failed.is_empty() {
            return Step::Done(Verdict::Failure, Joined(&failed).to_string());
        }
        if !again.is_empty() {
            return Step::Again(Joined(&again).to_string());
        }
        let was_off = self.progress.iter().all(|progress| *progress == Progress::Off { by_us: false });
        if was_off && !self.vm.silent.is_empty() {
            // What ran here and was destroyed did not run elsewhere; what was off here may.
            let reason = format!("it was off, but may run where nobody answers: {}", Joined(&self.vm.silent));
            return Step::Done(Verdict::Failure, reason);
        }
        let off = self.how_off(uris);
        match &self.restart {
            Some((place, definition)) => self.start_again(&mut uris[*place], definition, &off, now),
            None => Step::Done(Verdict::Success, off),
        }
    }

    fn how_off<L: Link>(&self, uris: &[Uri<L>]) -> String {
        let copies = self.vm.copies.iter().zip(&self.progress);
        let by_us = copies.filter(|(_, progress)| **progress == Progress::Off { by_us: true });
        let names: Vec<&str> = by_us.map(|(copy, _)| uris[copy.uri].link.name()).collect();
        match names.is_empty() {
            true => "it was off already".to_owned(),
            false => format!("destroyed on {}, verified off", Joined(&names)),
        }
    }

    /// Sees to it that a copy is off.
    fn copy_off(&mut self, at: usize, host: &impl Host, job: &Job, now: Instant) -> Result<(), Trouble> {
        let Some(run) = self.look(at, host, job)? else { return Ok(()) };
        if job.request.operation == Operation::Reboot && self.restart.is_none() {
            // Before it is destroyed: a transient VM is gone after that.
            self.restart = Some((self.vm.copies[at].uri, host.definition(&self.vm.uuid)?));
        }
        if let Progress::Killed { at, .. } = self.progress[at] {
            if now.saturating_duration_since(at) < DYING {
                return Err(Trouble::Again("its process has not ended yet".to_owned()));
            }
        }
        // The calls before may have taken a while.
        if let Some(stale) = job.stale(Instant::now().max(now)) {
            return Err(Trouble::Stale(stale));
        }
        let destroyed = host.destroy(&self.vm.uuid);
        if matches!(destroyed, Ok(()) | Err(Undestroyed::Dying(_))) {
            self.progress[at] = Progress::Killed { run: run.number, at: Instant::now().max(now) };
        }
        match (self.look(at, host, job)?, destroyed) {
            (None, _) => Ok(()),
            (Some(_), Ok(())) => Err(Trouble::Again("destroyed, but it still runs".to_owned())),
            (Some(_), Err(Undestroyed::Dying(reason) | Undestroyed::Busy(reason))) => {
                Err(Trouble::Again(reason))
            }
            (Some(_), Err(Undestroyed::Refused(reason))) => Err(Trouble::Failed(reason)),
        }
    }

    /// Looks whether a copy is off, and notes it if so; gives its run if not.
    ///
    /// Off is what libvirt calls SHUTOFF. After our own destroy it is also
    /// that the VM is gone (a transient one), or that it runs under another
    /// id (somebody started it anew): the run that we destroyed is over.
    /// Without it, a VM that is gone may as well have moved to another host.
    fn look(&mut self, at: usize, host: &impl Host, job: &Job) -> Result<Option<Run>, Trouble> {
        let progress = self.progress[at];
        if matches!(progress, Progress::Off { .. }) {
            return Ok(None);
        }
        match (host.observe(&self.vm.uuid)?, progress) {
            (
                Some(Condition { power: PowerState::Running, id: now, .. }),
                Progress::Killed { run: then, .. },
            ) if now.is_some() && then.is_some() && now != then => {}
            (Some(Condition { moves: true, .. }), Progress::Untouched) if job.is_sole_known_owner() => {
                return Err(Trouble::Failed(MOVED.to_owned()));
            }
            (Some(Condition { power: PowerState::Running, id, .. }), _) => {
                return Ok(Some(Run { number: id }));
            }
            (Some(Condition { power: PowerState::Off, .. }), _) | (None, Progress::Killed { .. }) => {}
            (None, _) => return Err(Trouble::Failed("it is gone, perhaps to another host".to_owned())),
        }
        self.progress[at] = Progress::Off { by_us: matches!(progress, Progress::Killed { .. }) };
        Ok(None)
    }

    fn start_again<L: Link>(
        &self,
        uri: &mut Uri<L>,
        definition: &Definition,
        off: &str,
        now: Instant,
    ) -> Step {
        let started = uri.host(now).and_then(|host| host.start(&self.vm.uuid, definition));
        let on = match started {
            Ok(()) => "started again".to_owned(),
            // It was off, which is what fencing asks for.
            Err(Failed(reason)) => {
                log::error!("{:?} was fenced, but does not start again: {reason}", self.vm.name);
                format!("but not started again: {reason}")
            }
        };
        Step::Done(Verdict::Success, format!("{off}, {on}"))
    }
}

/// One run of a VM, from its start to its end.
struct Run {
    number: Option<u32>,
}

/// Why a copy is not off.
enum Trouble {
    Stale(Stale),
    Again(String),
    Failed(String),
}

impl From<Failed> for Trouble {
    fn from(Failed(reason): Failed) -> Trouble {
        Trouble::Failed(reason)
    }
}

/// Starts a VM that is off, and verifies that it runs.
pub(super) fn on<L: Link>(uris: &mut [Uri<L>], vm: &Vm, job: &Job, now: Instant) -> (Verdict, String) {
    if let Some(copy) = vm.copies.iter().find(|copy| copy.condition.power == PowerState::Running) {
        return (Verdict::Success, format!("it runs on {}", uris[copy.uri].link.name()));
    }
    if let Some(failure) = may_run_elsewhere(vm, job) {
        return failure;
    }
    let [copy] = vm.copies.as_slice() else {
        let names: Vec<&str> = vm.copies.iter().map(|copy| uris[copy.uri].link.name()).collect();
        return (Verdict::Failure, format!("it is off and could be started on any of {}", Joined(&names)));
    };
    let uri = &mut uris[copy.uri];
    let outcome = uri.host(now).and_then(|host| {
        host.start(&vm.uuid, &Definition::Persistent)?;
        host.observe(&vm.uuid)
    });
    match outcome {
        Ok(Some(Condition { power: PowerState::Running, .. })) => {
            (Verdict::Success, format!("started on {}", uri.link.name()))
        }
        Ok(_) => (Verdict::Failure, format!("started on {}, but it does not run", uri.link.name())),
        Err(Failed(reason)) => {
            uri.link.probe();
            (Verdict::Failure, format!("{}: {reason}", uri.link.name()))
        }
    }
}

/// No copy is seen to run; whether one may where nobody answers, or where it moved.
fn may_run_elsewhere(vm: &Vm, job: &Job) -> Option<(Verdict, String)> {
    let silent = Joined(&vm.silent);
    if !vm.silent.is_empty() {
        return Some((Verdict::Failure, format!("it may run where nobody answers: {silent}")));
    }
    let has_moved = job.is_sole_known_owner() && vm.copies.iter().any(|copy| copy.condition.moves);
    has_moved.then(|| (Verdict::Failure, MOVED.to_owned()))
}

/// What is said of a VM that moves, nobody knows where.
const MOVED: &str = "it moved to another host, or is just coming from one, and no host says that it has it";

/// Whether a VM runs anywhere.
pub(super) fn status<L: Link>(uris: &[Uri<L>], vm: &Vm, job: &Job) -> (Verdict, String) {
    if let Some(copy) = vm.copies.iter().find(|copy| copy.condition.power == PowerState::Running) {
        return (Verdict::Success, format!("it runs on {}", uris[copy.uri].link.name()));
    }
    if let Some(failure) = may_run_elsewhere(vm, job) {
        return failure;
    }
    let names: Vec<&str> = vm.copies.iter().map(|copy| uris[copy.uri].link.name()).collect();
    (Verdict::Off, format!("it is off on {}", Joined(&names)))
}
