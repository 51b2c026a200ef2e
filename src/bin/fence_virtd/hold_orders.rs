//! Orders to place and release holds, carried out by the main thread.
#![forbid(unsafe_code)]

use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use crate::inbox::Message;
use crate::restraints::{HoldChange, HoldKeeper};
use fence_virt::fence::Target;
use fence_virt::restraints::HoldSubject;
use fence_virt::time::Instant;

/// Time limit for the worker to tell if it knows a VM. The client waits for longer.
const WORKER_LIMIT: Duration = Duration::from_secs(2);

/// Orders about holds, with the worker, which knows the VMs.
pub(crate) struct HoldOrders {
    keeper: HoldKeeper,
    worker: Sender<Message>,
}

impl HoldOrders {
    pub(crate) fn new(keeper: HoldKeeper, worker: Sender<Message>) -> HoldOrders {
        HoldOrders { keeper, worker }
    }

    /// Carries an order out. Returns lines for the client, with a note about a hold that is on nothing now.
    /// Errors: the reason why nothing has changed.
    pub(crate) fn carry_out(&mut self, change: HoldChange) -> Result<String, String> {
        let placed = match &change {
            HoldChange::Place { subject, .. } => Some(subject.clone()),
            HoldChange::Release(_) => None,
        };
        let mut lines = self.keeper.change(change)?;
        // The hold is in force already: libvirt may take its time.
        if let Some(note) = placed.and_then(|subject| self.note(&subject)) {
            lines.push_str("\nnote: ");
            lines.push_str(note);
        }
        Ok(lines)
    }

    /// Note about a hold that may be on no VM.
    fn note(&self, subject: &HoldSubject) -> Option<&'static str> {
        if self.keeper.is_group(subject) {
            return None;
        }
        let unknown = "no VM that is known here has exactly this name now, and no group has it: the hold is on each that gets it, whatever its case";
        // No request can name what is no target.
        let Ok(target) = Target::new(subject.as_str().as_bytes()) else { return Some(unknown) };
        let (reply, known) = bounded(1);
        let is_asked = self.worker.try_send(Message::Knows { target, reply }).is_ok();
        match known.recv_timeout(WORKER_LIMIT) {
            Ok(Ok(true)) if is_asked => None,
            Ok(Ok(false)) if is_asked => Some(unknown),
            _ => {
                Some("whether there is such a VM is not known now: the worker or the backend does not answer")
            }
        }
    }

    /// Ends the holds whose time is over.
    pub(crate) fn end_due(&mut self) {
        self.keeper.end_due();
    }

    /// Time at which the next hold ends.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.keeper.deadline()
    }
}
