//! The race guard: the rulings of the arbiter, and the questions to listeners whether callers live.

use log::warn;

use super::backend::LibvirtBackend;
use super::contests::Contested;
use super::fence::Effect;
use super::resolve::ResolvedVm;
use crate::caller::Caller;
use crate::inbox::{Event, Message};
use crate::job::{Job, RequestLabel};
use crate::libvirt::Link;
use fence_virt::arbiter::{Contender, OperationId, Rival, Ruling};
use fence_virt::fence::{Uuid, Verdict};
use fence_virt::routing::CallerQuestion;
use fence_virt::time::Instant;

impl<L: Link> LibvirtBackend<L> {
    /// Submits an off or reboot to the arbiter.
    pub(super) fn contest(&mut self, job: Job, vm: ResolvedVm, now: Instant) {
        let Some(target) = Uuid::parse(&vm.uuid) else {
            return job.refuse(Verdict::Failure, format_args!("{} is not a UUID", vm.uuid));
        };
        let contender = job.caller.as_ref().map(|caller| self.contender(caller, now));
        self.contests.ask(job, vm, contender, target, now);
        self.rule(now);
    }

    /// A caller as the arbiter knows it.
    pub(super) fn contender(&self, caller: &Caller, now: Instant) -> Contender {
        let vm = self.vm_of(&caller.source, now);
        Contender { source: caller.source.clone(), vm, alive_at: caller.alive_at }
    }

    /// Carries out the rulings of the arbiter.
    pub(super) fn rule(&mut self, now: Instant) {
        for job in self.contests.take_stale(now) {
            if let Some(stale) = job.stale(now) {
                job.refuse_stale(stale);
            }
        }
        self.expire_proofs(now);
        while let Some(ruling) = self.contests.next_ruling(now) {
            match ruling {
                Ruling::Begin(operation) => self.begin_admitted(operation, now),
                Ruling::Prove { id, after, rival } => self.ask_for_life(id, after, &rival),
            }
        }
    }

    fn begin_admitted(&mut self, operation: OperationId, now: Instant) {
        let Some(Contested { job, vm, asked, .. }) = self.contests.take_admitted(operation) else {
            return self.end_proof(operation, now);
        };
        let is_interruptible =
            self.vm_operations.get(&vm.uuid).is_some_and(|vm_operation| vm_operation.is_interruptible(now));
        if asked == now || is_interruptible {
            self.power_off(job, vm, operation, now);
        } else {
            // The VM may have moved meanwhile.
            self.look_up(job, Some(operation), now);
        }
    }

    fn ask_for_life(&mut self, operation: OperationId, after: Instant, rival: &Rival) {
        let worker = self.worker.clone();
        let reply = move |lived| {
            let message = Message::Event(Event::SignOfLife { operation, lived });
            // If the worker has ended, nobody waits for the reply.
            !worker.try_send(message).is_err_and(|error| error.is_full())
        };
        // Only a client of this host is asked to prove anything.
        let contested = self.contests.set_rival(operation, rival);
        let contested = contested.and_then(|contested| contested.job.caller.as_ref());
        if let Some(caller) = contested.or_else(|| self.proofs.caller(operation)) {
            caller.prove(after, reply);
        }
    }

    /// Handles the reply of a listener.
    pub(super) fn sign_of_life(&mut self, operation: OperationId, lived: Option<Instant>, now: Instant) {
        if let Some(lived) = lived {
            self.contests.proved(operation, lived);
        } else if let Some(Contested { job, rival, .. }) = self.contests.withdraw(operation) {
            let rival = rival.unwrap_or_default();
            let label = RequestLabel(&job.request);
            warn!("{label}: not begun: its caller has shown no sign of life since {rival}");
            let reason = format!("not begun: its caller may have been fenced itself: {rival}");
            job.refuse(Verdict::Failure, reason);
        } else {
            self.proofs.end(operation, false);
        }
        self.rule(now);
    }

    /// Has a caller show that it lives, once no operation here is under way that may power it off.
    /// [`LibvirtBackend::take_proofs`] has the result.
    pub(crate) fn prove_caller(
        &mut self,
        question: CallerQuestion,
        caller: Caller,
        target: Uuid,
        expires: Instant,
        now: Instant,
    ) {
        let contender = self.contender(&caller, now);
        let operation = self.contests.ask_for_proof(contender, target, now);
        self.proofs.begin(operation, question, caller, expires);
        self.rule(now);
    }

    /// Takes the proofs that have ended: true if the caller lives.
    pub(crate) fn take_proofs(&mut self) -> Vec<(CallerQuestion, bool)> {
        self.proofs.take_ended()
    }

    /// Ends the proofs that nobody waits for any more.
    fn expire_proofs(&mut self, now: Instant) {
        for operation in self.proofs.expired(now) {
            self.contests.withdraw(operation);
            self.proofs.end(operation, false);
        }
    }

    /// Ends the proof of an operation that the arbiter has admitted, or that is none.
    fn end_proof(&mut self, operation: OperationId, now: Instant) {
        self.proofs.end(operation, true);
        self.contests.end(operation, Effect::None, now);
    }
}
