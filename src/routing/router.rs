use super::ids::{JobId, Sequence, TaskId};
use crate::wire::cluster::{NodeId, RequestNumber};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use super::client_requests::LOOK_AGAIN;
use super::directory::{Fate, Table};
use super::inventory::Local;
use super::outbox::Outbox;
use super::remote_requests::Serving;
use super::task::Task;
use super::{ClusterList, MembershipChange, Names, Outgoing, Peer, RESYNC_EVERY, RouterAction, Rules};
use crate::fence::{HostEntry, PowerState, Uuid, Verdict};
use crate::wire::cluster::ClusterMessage;

/// A member that has a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) node: NodeId,
    pub(super) state: PowerState,
    /// Whether it is not just coming in, or paused.
    pub(super) is_active: bool,
    /// The place of its last telling in the order of the group; 0 if it was not told yet.
    pub(super) order: Sequence,
}

/// What a job on this node is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Ask(TaskId),
    Serve(JobId),
}

/// What was told, and not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// When the last of it was told; none if nothing was.
    pub(super) at: Option<Instant>,
    /// It may concern every request.
    pub(super) all: bool,
    /// The VMs that it is about.
    pub(super) vms: BTreeSet<Uuid>,
}

/// One node's part in the cluster's decisions.
#[derive(Debug)]
pub struct Router {
    pub(super) rules: Rules,
    pub(super) table: Table,
    pub(super) local: Local,
    pub(super) outbox: Outbox,
    pub(super) actions: VecDeque<RouterAction>,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    /// How many of them are of other nodes.
    pub(super) tasks_of_nodes: usize,
    /// What has changed since the requests were last reviewed.
    pub(super) changes: Changes,
    pub(super) wakes: BTreeSet<(Instant, TaskId)>,
    pub(super) numbers: HashMap<RequestNumber, TaskId>,
    pub(super) jobs: HashMap<JobId, Purpose>,
    pub(super) serving: Serving,
    counters: Counters,
    /// Why this node is not in the group.
    alone: Option<String>,
    /// There are words of the group that this node has not heard yet.
    is_behind: bool,
    /// Nothing more is taken up.
    pub(super) is_stopping: bool,
    /// When C daemons were last asked for a VM that no request is for.
    pub(super) sought: Option<Instant>,
    resync_at: Option<Instant>,
}

/// The next numbers.
#[derive(Debug)]
struct Counters {
    task: u64,
    job: u64,
    number: RequestNumber,
}

impl Router {
    /// A node with so many libvirt URIs, in no group yet. Its requests get
    /// numbers from `first_number` on: a random one, so that a reply to a
    /// process that was here before is not taken for ours.
    pub fn new(rules: Rules, uris: usize, first_number: RequestNumber) -> Router {
        Router {
            rules,
            table: Table::default(),
            local: Local::new(uris),
            outbox: Outbox::default(),
            actions: VecDeque::new(),
            tasks: BTreeMap::new(),
            tasks_of_nodes: 0,
            changes: Changes::default(),
            wakes: BTreeSet::new(),
            numbers: HashMap::new(),
            jobs: HashMap::new(),
            serving: Serving::default(),
            counters: Counters { task: 0, job: 0, number: first_number },
            alone: Some("corosync was not reached yet".to_owned()),
            is_behind: false,
            is_stopping: false,
            sought: None,
            resync_at: None,
        }
    }

    /// This node joins the group; it is in it when [`Router::changed`] says so.
    pub fn joined(&mut self, me: Peer, now: Instant) {
        (self.table.me, self.table.home) = (Some(me), Some(me.node));
        self.alone = Some("the group is just being joined".to_owned());
        self.resync_at = Some(now + RESYNC_EVERY);
        self.tell_all();
    }

    /// This node is not in the group any more: all that waits for others has failed.
    pub fn lost(&mut self, reason: &str) {
        self.alone = Some(reason.to_owned());
        self.fail_tasks(reason);
        self.abandon_served(|_| true);
        self.serving.forget_unanswered();
        self.outbox.clear();
        self.table.leave();
        self.local.leave();
        self.resync_at = None;
    }

    /// This node is about to leave the group: what waits here for other nodes
    /// fails, and what is being carried out for them is answered yet.
    pub fn stop(&mut self) {
        self.is_stopping = true;
        self.fail_tasks("the daemon stops");
        self.refuse_deferred();
    }

    /// The group has changed.
    pub fn changed(&mut self, change: &MembershipChange, now: Instant) {
        let Some(me) = self.table.me else { return };
        self.table.change(change, now);
        if self.table.is_member(me.node) {
            self.alone = None;
        }
        let left: Vec<Peer> = change.left.iter().map(|(peer, _)| *peer).collect();
        self.abandon_served(|peer| left.contains(&peer));
        // C daemons want to be told also when somebody has left.
        let is_news = change.joined.iter().any(|&peer| peer != me) || self.table.mutes().next().is_some();
        if is_news {
            self.tell_all();
        }
        self.review_all(now);
    }

    /// Whether the group has said things that were not heard here yet, after a
    /// freeze or in a crowd: nothing is judged by what is known meanwhile.
    pub fn set_undelivered(&mut self, is_behind: bool, now: Instant) {
        if std::mem::replace(&mut self.is_behind, is_behind) && !is_behind {
            self.review_all(now);
        }
    }

    /// What the quorum service says.
    pub fn votes(&mut self, is_quorate: bool, nodes: &[NodeId], now: Instant) {
        self.table.votes(is_quorate, nodes, now);
        self.review_all(now);
    }

    /// A message of the group, delivered at `at`. `is_old` says that it may
    /// have been there for longer, unread.
    pub fn heard(&mut self, from: Peer, bytes: &[u8], at: Instant, is_old: bool, now: Instant) {
        if !self.table.is_member(from.node) {
            return;
        }
        let message = match ClusterMessage::decode(bytes) {
            Ok(message) => message,
            Err(error) => return self.note(format!("a message of node {} is none: {error}", from.node)),
        };
        match message {
            ClusterMessage::Request(call) => self.requested(from, call, at, is_old, now),
            ClusterMessage::Reply { call, response } => self.replied(from, &call, response, now),
            ClusterMessage::Store(told) => self.told(from, &told, now),
            ClusterMessage::Gone(told) => {
                self.local.is_not_elsewhere(told.domain.uuid);
                if self.table.gone(from.node, told.domain.uuid) {
                    self.review_vm(told.domain.uuid, now);
                }
            }
            ClusterMessage::Hello { is_complete } => {
                if self.table.hello(from.node, is_complete) {
                    self.resume_deferred(now);
                    self.review_all(now);
                }
            }
            ClusterMessage::AdvertiseAll { number } if !self.table.is_me(from.node) => {
                self.local.tell_all_to(from.node, number);
            }
            ClusterMessage::AllAdvertised { to, number } if self.table.is_me(to) => {
                if self.table.answered(from.node, number) {
                    self.review_all(now);
                }
            }
            ClusterMessage::AdvertiseAll { .. } | ClusterMessage::AllAdvertised { .. } => {}
        }
    }

    /// A job of this node was carried out, or not.
    pub fn done(&mut self, job: JobId, verdict: Verdict, reason: String, now: Instant) {
        match self.jobs.remove(&job) {
            Some(Purpose::Ask(task)) => self.shown(task, job, verdict, reason, now),
            Some(Purpose::Serve(served)) => self.served(served, verdict),
            None => {}
        }
    }

    /// All VMs that a member has, each once.
    pub fn list(&self, now: Instant) -> ClusterList {
        if let Some(reason) = &self.alone {
            return ClusterList::NotJoined(reason.clone());
        }
        if self.is_behind {
            return ClusterList::RetryAt(now + LOOK_AGAIN);
        }
        if let Some(until) = self.table.unsettled_until(now) {
            return ClusterList::RetryAt(until);
        }
        let mut entries = BTreeMap::new();
        let told = self.table.vms().map(|(uuid, _)| uuid);
        for uuid in told.chain(self.local.uuids()) {
            let holders = self.holders(uuid);
            if holders.is_empty() {
                continue;
            }
            let runs = holders.iter().any(|holder| holder.state == PowerState::Running);
            let state = if runs { PowerState::Running } else { PowerState::Off };
            let name = self.local.name(uuid).or_else(|| self.table.names_of(uuid).next()).unwrap_or_default();
            entries.insert(uuid, HostEntry { name: name.to_owned(), uuid: uuid.to_string(), state });
        }
        let mut entries: Vec<HostEntry> = entries.into_values().collect();
        entries.sort_by(|a, b| (&a.name, &a.uuid).cmp(&(&b.name, &b.uuid)));
        ClusterList::Complete(entries)
    }

    /// Why this node is not in the group, if it is not.
    pub fn not_joined(&self) -> Option<&str> {
        self.alone.as_deref()
    }

    /// How many members the group has, this node included.
    pub fn members(&self) -> usize {
        self.table.members.len()
    }

    /// How many requests of clients and of other nodes are under way.
    pub fn under_way(&self) -> usize {
        self.tasks.len() + self.jobs.len() + self.serving.held()
    }

    /// The names and the UUID of the VM that a text means; the text itself if
    /// it means none, or several.
    pub fn names_of(&self, text: &str) -> Vec<String> {
        let found = self.meaning(text);
        let Some(&uuid) = found.first().filter(|_| found.len() == 1) else { return vec![text.to_owned()] };
        let mut names: Vec<String> = self.table.names_of(uuid).map(str::to_owned).collect();
        names.extend(self.local.name(uuid).map(str::to_owned));
        names.push(uuid.to_string());
        names
    }

    /// Whether a member is known to have a VM that this text means.
    pub fn knows(&self, text: &str) -> bool {
        self.meaning(text).into_iter().any(|uuid| !self.holders(uuid).is_empty())
    }

    pub(super) fn meaning(&self, text: &str) -> BTreeSet<Uuid> {
        self.meaning_of(text, self.rules.names)
    }

    pub(super) fn meaning_of(&self, text: &str, names: Names) -> BTreeSet<Uuid> {
        let mut found = self.table.meaning(text, names);
        found.extend(self.local.meaning(text, names));
        found
    }

    /// The members that have a VM: of this node it counts what is, of others what they told.
    pub(super) fn holders(&self, uuid: Uuid) -> Vec<Holder> {
        let mut holders = Vec::new();
        let mut own_order = Sequence::START;
        for (node, copy) in self.table.copies(uuid) {
            if self.table.is_me(node) {
                own_order = copy.order;
            } else if copy.fate == Fate::Here {
                let (state, is_active, order) = (copy.state, copy.is_active, copy.order);
                holders.push(Holder { node, state, is_active, order });
            }
        }
        if let (Some(state), Some(me)) = (self.local.state(uuid), self.table.me) {
            let is_active = self.local.is_active(uuid);
            holders.push(Holder { node: me.node, state, is_active, order: own_order });
        }
        holders
    }

    /// The next message for the group.
    pub fn next_message(&mut self, now: Instant) -> Option<Outgoing> {
        self.review_changes();
        let me = self.table.me?;
        while let Some((message, expires)) = self.outbox.pop() {
            match message {
                ClusterMessage::Request(call) if expires.is_some_and(|at| now >= at) => {
                    self.not_asked(&call, now)
                }
                message => {
                    let bytes = self.still_true(message).encode();
                    return Some(Outgoing { bytes, expires });
                }
            }
        }
        let news = self.alone.is_none().then(|| self.local.next_news(me.node))?;
        news.map(|message| Outgoing { bytes: message.encode(), expires: None })
    }

    /// What a reply says of a VM that is off may have waited, and it runs by now.
    fn still_true(&self, message: ClusterMessage) -> ClusterMessage {
        match message {
            ClusterMessage::Reply { call, response: 2 } => {
                let mut meant = self.local.meaning(&call.name, Names::Both).into_iter();
                let runs = meant.any(|uuid| self.local.state(uuid) == Some(PowerState::Running));
                ClusterMessage::Reply { call, response: if runs { 0 } else { 2 } }
            }
            other => other,
        }
    }

    /// This had expired before corosync took it.
    pub fn unsent(&mut self, bytes: &[u8], now: Instant) {
        if let Ok(ClusterMessage::Request(call)) = ClusterMessage::decode(bytes) {
            self.not_asked(&call, now);
        }
    }

    /// The next thing to do on this node.
    pub fn next_action(&mut self) -> Option<RouterAction> {
        self.review_changes();
        self.pump();
        self.actions.pop_front()
    }

    /// Does what is due.
    pub fn turn(&mut self, now: Instant) {
        self.review_changes();
        if self.table.deadline().is_some_and(|at| now >= at) {
            self.table.turn(now);
            self.review_all(now);
        }
        while let Some(&(at, task)) = self.wakes.first().filter(|(at, _)| now >= *at) {
            self.wakes.remove(&(at, task));
            self.review(task, now);
        }
        if self.resync_at.is_some_and(|at| now >= at) {
            self.resync_at = Some(now + RESYNC_EVERY);
            self.tell_all();
        }
        self.resume_deferred(now);
        self.answer_for_the_silent(now);
    }

    /// When something is due.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.changes.at.is_some() {
            return Some(now);
        }
        let wake = self.wakes.first().map(|(at, _)| *at);
        let rest = [self.table.deadline(), self.resync_at, self.serving.deadline(), self.deferred_until(now)];
        rest.into_iter().flatten().chain(wake).min()
    }

    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    pub(super) fn push(&mut self, message: ClusterMessage) -> bool {
        self.push_until(message, None)
    }

    /// False if there is no room for it.
    pub(super) fn push_until(&mut self, message: ClusterMessage, expires: Option<Instant>) -> bool {
        let is_room = self.outbox.push(message, expires);
        if !is_room {
            self.note("corosync takes no messages, and too many wait: one is dropped".to_owned());
        }
        is_room
    }

    pub(super) fn note(&mut self, text: String) {
        const NOTES_MAX: usize = 1024;
        if self.actions.len() < NOTES_MAX {
            self.actions.push_back(RouterAction::Note(text));
        }
    }

    pub(super) fn next_task(&mut self) -> TaskId {
        self.counters.task += 1;
        TaskId(self.counters.task)
    }

    pub(super) fn next_job(&mut self, purpose: Purpose) -> JobId {
        self.counters.job += 1;
        let job = JobId(self.counters.job);
        self.jobs.insert(job, purpose);
        job
    }

    pub(super) fn next_number(&mut self) -> RequestNumber {
        self.counters.number = RequestNumber(self.counters.number.0.wrapping_add(1).max(1));
        self.counters.number
    }
}
