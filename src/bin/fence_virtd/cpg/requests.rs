//! Requests of clients: their way to the router, and what they wait for before that.

use std::time::Duration;

use super::backend::{Cpg, WaitingJob};
use crate::access::VmCopy;
use crate::backend::Backend;
use crate::job::Job;
use crate::libvirt::Link;
use fence_virt::fence::{Domain, Operation, Target, Verdict};
use fence_virt::routing::{ANSWER_LIMIT, ClientId, ClientRequest, ClusterCopy, ClusterList};
use fence_virt::time::Instant;

/// Age of a request until which it waits for this node to become a member of the group, which mostly
/// takes milliseconds.
const JOIN_LIMIT: Duration = Duration::from_secs(2);

impl<L: Link> Cpg<L> {
    /// Begins a request, or lets it wait for this node to become a member of the group.
    pub(super) fn admit(&mut self, job: Job, now: Instant) {
        let until = job.received + JOIN_LIMIT;
        if self.router.is_joining() && now < until {
            return self.awaiting_join.push(WaitingJob { until, job });
        }
        match job.request.operation {
            Operation::HostList => self.list(job, now),
            Operation::Devstatus => self.devstatus(job, now),
            Operation::Null => job.refuse(Verdict::Failure, "null is never carried out"),
            Operation::Off | Operation::On | Operation::Reboot | Operation::Status => {
                self.ask(job, false, now);
            }
        }
    }

    /// Resumes requests that waited for this node to become a member of the group.
    pub(super) fn resume_joining(&mut self, now: Instant) {
        for WaitingJob { job, .. } in std::mem::take(&mut self.awaiting_join) {
            match job.stale(now) {
                Some(stale) => job.refuse_stale(stale),
                None => self.admit(job, now),
            }
        }
    }

    /// Begins a client's request for one VM. `is_last` means that its VM was waited for.
    fn ask(&mut self, job: Job, is_last: bool, now: Instant) {
        let target = job.request.target.clone();
        if self.router.not_joined().is_none() && !self.router.knows(target.as_str()) {
            // The VM may be so new that no event has announced it.
            match self.libvirt.find(&target, now) {
                Ok(found) => found.into_iter().for_each(|(uri, vm)| self.router.find(uri, vm, now)),
                Err(reason) => {
                    let reason = format!("no host of the cluster has announced the VM, and here: {reason}");
                    return job.refuse(Verdict::Failure, reason);
                }
            }
        }
        let copies = self.copies_of(&target, now);
        let permitted = match self.libvirt.permit(&job, &copies, &|vm| self.conflicts(vm), now) {
            Ok(permitted) => permitted,
            Err((verdict, reason)) => {
                // A group may list its UUID or name, which is not known yet.
                let is_known = is_last || self.router.knows(target.as_str());
                let until = if is_known { None } else { self.router.seek(target.as_str(), now) };
                return match until.filter(|&until| now < until) {
                    Some(until) => self.awaiting_inventory.push(WaitingJob { until, job }),
                    None => job.refuse(verdict, reason),
                };
            }
        };
        if let Err((verdict, reason)) = self.restrain(&job, &copies, now) {
            return job.refuse(verdict, reason);
        }
        let client = ClientId(self.next_client);
        self.next_client += 1;
        let request = job.request.clone();
        let received = job.received;
        self.clients.insert(client, job);
        self.router.ask(ClientRequest { client, request, permitted, received }, now);
    }

    /// Checks a client's request against the holds and caps of this host, whichever host has the VM.
    fn restrain(&self, job: &Job, copies: &[VmCopy], now: Instant) -> Result<(), (Verdict, String)> {
        self.libvirt.check_held(job.request.operation, copies)?;
        if self.router.not_joined().is_some() {
            // It fails, and begins for no VM.
            return Ok(());
        }
        // One that joins another was not counted.
        let is_joined = self.libvirt.is_capped(copies) && self.is_being_powered_off(copies, now);
        if is_joined { Ok(()) } else { self.libvirt.count_power_off(job, copies, now) }
    }

    /// True while another client's power-off of a VM with one of these UUIDs is in progress.
    fn is_being_powered_off(&self, copies: &[VmCopy], now: Instant) -> bool {
        // A VM that nobody has told may be known by its name alone.
        let is_one = |copy: &VmCopy, other: &VmCopy| {
            copy.uuid == other.uuid && (!copy.uuid.is_empty() || copy.name == other.name)
        };
        let is_same = |other: &VmCopy| copies.iter().any(|copy| is_one(copy, other));
        let power_offs = self.clients.values().map(|job| &job.request);
        let mut power_offs =
            power_offs.filter(|request| matches!(request.operation, Operation::Off | Operation::Reboot));
        power_offs.any(|request| self.copies_of(&request.target, now).iter().any(is_same))
    }

    /// Copies of the VM that a request names, by what the members have told; one of that name if they have
    /// told none.
    pub(super) fn copies_of(&self, target: &Target, now: Instant) -> Vec<VmCopy> {
        let text = target.as_str();
        let copies: Vec<VmCopy> = self.router.copies_of(text, now).into_iter().map(vm_copy).collect();
        if copies.is_empty() {
            // In a group, what reads as a UUID stands for the VM that has it, and for no name.
            let uuid = if self.router.is_name_only(text) { "" } else { text };
            return vec![VmCopy { place: String::new(), name: text.to_owned(), uuid: uuid.to_owned() }];
        }
        copies
    }

    /// VMs of other hosts that have the name of this VM, or its UUID and another name.
    fn conflicts(&self, vm: &Domain) -> Vec<VmCopy> {
        self.router.conflicts(vm).into_iter().map(vm_copy).collect()
    }

    /// Resumes requests that waited for their VM to be advertised.
    pub(super) fn resume_requests(&mut self, now: Instant) {
        for WaitingJob { until, job } in std::mem::take(&mut self.awaiting_inventory) {
            let is_over = now >= until || self.router.not_joined().is_some();
            if let Some(stale) = job.stale(now) {
                job.refuse_stale(stale);
            } else if is_over || self.router.knows(job.request.target.as_str()) {
                self.ask(job, true, now);
            } else {
                self.awaiting_inventory.push(WaitingJob { until, job });
            }
        }
    }

    fn list(&mut self, job: Job, now: Instant) {
        match self.router.list(now) {
            ClusterList::Complete(vms) => {
                self.libvirt.answer_list(job, vms.into_iter(), &[], &|vm| self.conflicts(vm), now);
            }
            ClusterList::RetryAt(until) => self.lists.push(WaitingJob { until, job }),
            ClusterList::NotJoined(reason) => job.finish(Verdict::Failure, not_joined(&reason)),
        }
    }

    /// Resumes lists: the last member may advertise its VMs at any time, and one that
    /// cannot be heard does not hold them up for ever.
    pub(super) fn resume_lists(&mut self, now: Instant) {
        for WaitingJob { job, .. } in std::mem::take(&mut self.lists) {
            if let Some(stale) = job.stale(now) {
                job.refuse(Verdict::Failure, stale);
            } else if now >= job.received + ANSWER_LIMIT {
                job.finish(Verdict::Failure, "not all hosts have advertised their VMs");
            } else {
                self.list(job, now);
            }
        }
    }

    fn devstatus(&mut self, job: Job, now: Instant) {
        if let Some(reason) = self.router.not_joined() {
            return job.finish(Verdict::Failure, not_joined(reason));
        }
        if self.group.is_unresponsive() {
            return job.finish(Verdict::Failure, "corosync does not answer");
        }
        self.libvirt.begin(job, now);
    }
}

fn vm_copy(copy: ClusterCopy) -> VmCopy {
    let place = copy.place();
    VmCopy { place, name: copy.name, uuid: copy.uuid.to_string() }
}

fn not_joined(reason: &str) -> String {
    format!("this node is not in the cluster's group: {reason}")
}
