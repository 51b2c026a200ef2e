//! Requests under way: which copies of their VMs are asked.

use super::ids::{ClientId, TaskId};
use crate::wire::cluster::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::router::{Changes, Holder, Purpose, Router};
use super::task::{Ask, AskState, Asker, Limits, Progress, Task};
use super::{ANSWER_LIMIT, Names, OnBehalf, Peer, RouterAction, SEND_LIMIT, SERVE_LIMIT};
use crate::fence::{Operation, PowerState, Request, Uuid, Verdict};
use crate::wire::cluster::{ClusterCall, ClusterMessage};

/// How many requests of clients may be under way, and how many of other nodes.
const TASKS_MAX: usize = 8192;
/// How often it is looked again at what no event tells.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl Router {
    /// A client asks, for off, on, reboot or status.
    pub fn ask(&mut self, client: ClientId, request: &Request, received: Instant, now: Instant) {
        if let Some(reason) = self.not_joined() {
            let reason = format!("this node is not in the cluster's group: {reason}");
            return self.answer(client, Verdict::Failure, reason, false);
        }
        if self.tasks.len().saturating_sub(self.tasks_of_nodes) >= TASKS_MAX {
            return self.answer(
                client,
                Verdict::Failure,
                "too many requests are under way".to_owned(),
                false,
            );
        }
        let answer = received + ANSWER_LIMIT;
        let limits = Limits { send: received + SEND_LIMIT, carry_out: answer, answer };
        let text = request.target.as_str().to_owned();
        self.take_up(Asker::Client(client), request.operation, text, request.seqno, limits, None, now);
    }

    /// A node asks for a VM that this one answers for.
    pub(super) fn answer_for(&mut self, peer: Peer, call: ClusterCall, at: Instant, now: Instant) {
        if self.is_stopping {
            return self.reply(peer, call, Verdict::Failure);
        }
        if self.tasks_of_nodes >= TASKS_MAX {
            self.note(format!(
                "too many requests of other nodes are under way: one of node {} fails",
                peer.node
            ));
            return self.reply(peer, call, Verdict::Failure);
        }
        let limits = Limits {
            send: at + SEND_LIMIT,
            carry_out: at + SERVE_LIMIT,
            // A C node has no deadline of its own.
            answer: at + ANSWER_LIMIT,
        };
        let (operation, text, number) = (call.operation, call.name.clone(), call.client_number);
        self.take_up(Asker::Node(peer, call), operation, text, number, limits, Some(at), now);
    }

    #[allow(clippy::too_many_arguments)] // What a request is made of, once, for both kinds of askers.
    fn take_up(
        &mut self,
        asker: Asker,
        operation: Operation,
        text: String,
        client_number: u32,
        limits: Limits,
        probed: Option<Instant>,
        now: Instant,
    ) {
        let id = self.next_task();
        self.tasks_of_nodes += usize::from(matches!(asker, Asker::Node(..)));
        let task = Task {
            asker,
            operation,
            text,
            client_number,
            limits,
            vm: None,
            asks: BTreeMap::new(),
            witness: None,
            has_witness: false,
            runner: None,
            probed,
            in_doubt: None,
            wake: limits.answer,
        };
        self.tasks.insert(id, task);
        self.review(id, now);
    }

    /// Takes a request as far as it goes now.
    pub(super) fn review(&mut self, id: TaskId, now: Instant) {
        let Some(mut task) = self.tasks.remove(&id) else { return };
        self.wakes.remove(&(task.wake, id));
        match self.advance(&mut task, id, now) {
            Progress::Wait(at) => {
                task.wake = at.min(task.limits.answer);
                self.wakes.insert((task.wake, id));
                self.tasks.insert(id, task);
            }
            Progress::Done(verdict, reason) => self.finish(task, Some((verdict, reason))),
            Progress::Dropped => self.finish(task, None),
        }
    }

    /// Something has changed that may concern every request.
    pub(super) fn review_all(&mut self, now: Instant) {
        self.changes = Changes { at: Some(now), all: true, vms: BTreeSet::new() };
    }

    /// News of a VM: it concerns those that ask for it, and those that found nothing yet.
    pub(super) fn review_vm(&mut self, uuid: Uuid, now: Instant) {
        self.changes.at = Some(now);
        if !self.changes.all {
            self.changes.vms.insert(uuid);
        }
    }

    /// Reviews the requests that what has changed concerns, once for all of it:
    /// the group may say a lot before anybody has time.
    pub(super) fn review_changes(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        let Some(at) = changes.at else { return };
        let concerned = |task: &Task| changes.all || task.vm.is_none_or(|vm| changes.vms.contains(&vm));
        let ids = self.tasks.iter().filter(|(_, task)| concerned(task)).map(|(&id, _)| id);
        for id in ids.collect::<Vec<_>>() {
            self.review(id, at);
        }
    }

    fn finish(&mut self, task: Task, outcome: Option<(Verdict, String)>) {
        for ask in task.asks.values() {
            match ask.state {
                AskState::Reply(number) => drop(self.numbers.remove(&number)),
                AskState::Job(job) => {
                    self.jobs.remove(&job);
                    self.actions.push_back(RouterAction::HangUp { job });
                }
                AskState::Shown(..) => {}
            }
        }
        self.tasks_of_nodes -= usize::from(matches!(task.asker, Asker::Node(..)));
        match (task.asker, outcome) {
            (Asker::Client(client), outcome) => {
                let (verdict, reason) = outcome.unwrap_or((Verdict::Failure, "it was dropped".to_owned()));
                self.answer(client, verdict, reason, task.vm.is_some());
            }
            (Asker::Node(peer, call), Some((verdict, _))) => self.reply(peer, call, verdict),
            (Asker::Node(peer, call), None) => self.serving.is_over(peer, call.number),
        }
    }

    fn answer(&mut self, client: ClientId, verdict: Verdict, reason: String, is_begun: bool) {
        self.actions.push_back(RouterAction::Answer { client, verdict, reason, is_begun });
    }

    /// All requests have failed.
    pub(super) fn fail_tasks(&mut self, reason: &str) {
        for (id, task) in std::mem::take(&mut self.tasks) {
            self.wakes.remove(&(task.wake, id));
            let reason = format!("this node leaves the cluster's group: {reason}");
            self.finish(task, Some((Verdict::Failure, reason)));
        }
    }

    /// Requests of peers that are gone are for nobody.
    pub(super) fn abandon_tasks(&mut self, is_gone: &dyn Fn(Peer) -> bool) {
        let of_gone = |task: &Task| matches!(&task.asker, Asker::Node(peer, _) if is_gone(*peer));
        let ids: Vec<TaskId> =
            self.tasks.iter().filter(|(_, task)| of_gone(task)).map(|(&id, _)| id).collect();
        for id in ids {
            if let Some(task) = self.tasks.remove(&id) {
                self.wakes.remove(&(task.wake, id));
                self.finish(task, None);
            }
        }
    }

    fn advance(&mut self, task: &mut Task, id: TaskId, now: Instant) -> Progress {
        if now >= task.limits.answer {
            return Progress::Done(Verdict::Failure, task.who_is_silent());
        }
        if self.is_behind() {
            return Progress::Wait(now + LOOK_AGAIN);
        }
        if let Asker::Node(peer, call) = &task.asker {
            // Somebody else has answered it.
            if task.vm.is_none() && !self.serving.awaits(peer.node, call.number) {
                return Progress::Dropped;
            }
        }
        let uuid = match task.vm {
            Some(uuid) => uuid,
            None => {
                let found = self.meaning(&task.text);
                if found.len() > 1 {
                    let uuids: Vec<String> = found.iter().map(Uuid::to_string).collect();
                    let reason = format!(
                        "{:?} means several VMs, {}: ask by UUID, or rename them",
                        task.text,
                        uuids.join(" and ")
                    );
                    return Progress::Done(Verdict::Failure, reason);
                }
                match found.first().filter(|&&uuid| !self.holders(uuid).is_empty()) {
                    Some(&uuid) => uuid,
                    None => return self.nobody(task, found.first().copied(), now),
                }
            }
        };
        let holders = self.concerned(task, uuid);
        if holders.is_empty() && task.vm.is_none() {
            return Progress::Dropped;
        }
        let was_asked = task.witness.is_some();
        if let Some(wait) = self.overtake(task, id, uuid, &holders, now) {
            return wait;
        }
        // What the witness said may have taken some away.
        let holders = if was_asked { self.concerned(task, uuid) } else { holders };
        if !(task.has_ended_it() || holders.iter().any(|holder| holder.is_active)) {
            // It may run on a member that has not told it yet.
            if let Some(until) = self.table.unsettled_until(now) {
                return Progress::Wait(until);
            }
        }
        if !self.is_seen_to_run(task, &holders) {
            if let Some(reason) = self.rules.unseen(self.table.lacks_quorum()) {
                return Progress::Done(Verdict::Failure, reason);
            }
        }
        if task.operation != Operation::Status {
            if let Some(wait_or_doubt) = self.doubt(task, uuid, now) {
                return wait_or_doubt;
            }
        }
        let new =
            |holder: &&Holder| holder.state == PowerState::Running && !task.asks.contains_key(&holder.node);
        let is_rebooted = task.asks.values().any(|ask| ask.operation == Operation::Reboot);
        if let Some(holder) = holders.iter().find(new).filter(|_| is_rebooted) {
            // To destroy it might be to reboot it twice.
            let reason = format!("it came to node {} while it was rebooted", holder.node);
            return Progress::Done(Verdict::Failure, reason);
        }
        self.ask_copies(task, id, uuid, &holders, now);
        // Of a reboot, the one that is asked last.
        let has_runner = task.runner.is_some_and(|node| holders.iter().any(|holder| holder.node == node));
        if task.asks.is_empty() && !has_runner {
            return self.nobody(task, Some(uuid), now);
        }
        self.judge(task, id, uuid, now)
    }

    /// Whether a copy runs on a member, or did until it was destroyed for the request.
    pub(super) fn is_seen_to_run(&self, task: &Task, holders: &[Holder]) -> bool {
        // What has answered knows better than what was told before.
        let is_denied = |node: NodeId| task.asks.get(&node).is_some_and(Ask::says_off);
        task.has_ended_it() || holders.iter().any(|holder| self.is_seen(holder) && !is_denied(holder.node))
    }

    /// Whether it runs there for sure: what is paused at a C daemon may just be
    /// coming from where nobody answers.
    fn is_seen(&self, holder: &Holder) -> bool {
        let is_ours = self.table.speaks(holder.node) || self.table.is_me(holder.node);
        holder.state == PowerState::Running && (holder.is_active || is_ours)
    }

    /// The members that a request is for. C daemons have heard what a node asks of every node.
    fn concerned(&self, task: &Task, uuid: Uuid) -> Vec<Holder> {
        let mut holders = self.holders(uuid);
        if matches!(task.asker, Asker::Node(..)) {
            holders.retain(|holder| self.table.speaks(holder.node) || self.table.is_me(holder.node));
        }
        holders
    }

    /// Asks the members that have it and were not asked, and gives up those that are gone.
    fn ask_copies(&mut self, task: &mut Task, id: TaskId, uuid: Uuid, holders: &[Holder], now: Instant) {
        let mut stale = BTreeSet::new();
        for node in task.asks.keys().copied().collect::<Vec<_>>() {
            let Some(ask) = task.asks.get(&node) else { continue };
            if let AskState::Reply(number) = ask.state {
                let is_stale = self.table.stale_at(node, uuid, ask.at).is_some_and(|at| now >= at);
                if is_stale {
                    self.table.gone(node, uuid);
                    stale.insert(node);
                }
                if is_stale || !self.table.is_member(node) {
                    self.numbers.remove(&number);
                    task.asks.remove(&node);
                }
            }
        }
        let is_first = task.vm.replace(uuid).is_none();
        if is_first && task.operation == Operation::Reboot && holders.len() > 1 {
            let running = holders.iter().filter(|holder| holder.state == PowerState::Running);
            task.runner = running.max_by_key(|holder| holder.order).map(|holder| holder.node);
        }
        let is_only = holders.len() == 1 && task.asks.is_empty();
        for holder in holders.iter().filter(|holder| !stale.contains(&holder.node)) {
            if !task.asks.contains_key(&holder.node) && task.runner != Some(holder.node) {
                let operation = match task.operation {
                    Operation::On | Operation::Reboot if is_only => task.operation,
                    Operation::Reboot if holder.state == PowerState::Running => Operation::Off,
                    Operation::On | Operation::Reboot => Operation::Status,
                    other => other,
                };
                self.ask_copy(task, id, holder.node, operation, uuid, now);
            }
        }
    }

    pub(super) fn ask_copy(
        &mut self,
        task: &mut Task,
        id: TaskId,
        node: NodeId,
        operation: Operation,
        uuid: Uuid,
        now: Instant,
    ) {
        let (name, order) = (self.wire_name(node, uuid), self.table.order());
        let has_run = self.holders(uuid).iter().any(|holder| holder.node == node && self.is_seen(holder));
        let state = if self.table.is_me(node) {
            let job = self.next_job(Purpose::Ask(id));
            let on_behalf = match &task.asker {
                Asker::Client(client) => OnBehalf::Client(*client),
                Asker::Node(peer, _) => OnBehalf::Node(peer.node),
            };
            let expires = task.limits.carry_out;
            self.actions.push_back(RouterAction::Begin {
                job,
                operation,
                name: uuid.to_string(),
                on_behalf,
                expires,
            });
            AskState::Job(job)
        } else if now >= task.limits.send {
            AskState::Shown(Verdict::Failure, too_late(node), self.table.order())
        } else {
            let number = self.next_number();
            self.numbers.insert(number, id);
            let client_number = match operation {
                Operation::Off | Operation::On => task.client_number,
                _ => 0,
            };
            let call = ClusterCall { number, target: node, name: name.clone(), operation, client_number };
            self.push_until(ClusterMessage::Request(call), Some(task.limits.send));
            AskState::Reply(number)
        };
        task.asks.insert(node, Ask { operation, name, has_run, order, at: now, state });
    }

    /// What a VM is called towards a node: C daemons know it by its name or its UUID, by their name_mode.
    fn wire_name(&self, node: NodeId, uuid: Uuid) -> String {
        let name = self.table.copies(uuid).find(|(at, _)| *at == node).map(|(_, copy)| copy.name());
        match name {
            Some(name) if !self.table.speaks(node) && self.rules.names != Names::Uuid => {
                let is_unique = self.table.meaning(name, Names::Name).len() == 1;
                if is_unique || self.rules.names == Names::Name { name.to_owned() } else { uuid.to_string() }
            }
            _ => uuid.to_string(),
        }
    }
}

/// Why a node was not asked.
pub(super) fn too_late(node: NodeId) -> String {
    format!("node {node} was not asked, the request had waited too long for that")
}
