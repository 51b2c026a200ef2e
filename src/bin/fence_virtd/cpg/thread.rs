//! The cpg thread: this daemon's membership in corosync's group. Every call that
//! blocks as long as corosync does is made here; nothing is decided.
//!
//! 1. It joins, with growing intervals between attempts while corosync is away. It has joined when the
//!    group reports it as a member: until then the router refuses requests.
//! 2. It reads the group's events, stamps them with the time and puts them into a
//!    channel for the worker. While the worker does not fetch them, it stops reading.
//! 3. It sends the worker's messages in their order, and retries what corosync
//!    refuses for the moment.
//! 4. Once a second it queries corosync, so that a frozen one is noticed although
//!    nothing is sent.
//! 5. After a pause in reading of more than a second it marks everything that it then
//!    finds as old: requests among it may be of any age.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use log::{info, warn};

use super::group_member::{GroupConnector, GroupMember};
use super::nodelist::NodelistReader;
use super::shared::{CpgCommand, GroupEvent, JoinGeneration, ThreadProgress, UNSENT_LOW, now_millis};
use crate::backoff::Backoff;
use crate::inbox::{Event, Message};
use crate::pauses::Pause;
use fence_virt::routing::{Departure, Membership, Outgoing, Peer};
use fence_virt::sys::corosync::{
    self, ClusterEvent, CorosyncError, LeaveReason, LeftMember, MembershipChange,
};
use fence_virt::sys::mailbox::Mailbox;
use fence_virt::sys::poll::{Interest, PollSet};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::{GROUP, MESSAGE_LEN, NodeId};

/// Longest wait of a turn.
const TICK: Duration = Duration::from_millis(250);
/// Interval between attempts to hand over what corosync or the worker did not take.
const RETRY: Duration = Duration::from_millis(2);
/// Intervals between attempts to join.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
/// Events read in one turn.
const BATCH: usize = 256;
/// Interval between queries to corosync.
const QUERY_INTERVAL: Duration = Duration::from_secs(1);
/// Time limit for unsent messages when the daemon stops.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);

/// State of the thread.
pub(super) struct CpgThread {
    inbox: Mailbox<CpgCommand>,
    worker: Sender<Message>,
    events: Sender<Vec<GroupEvent>>,
    progress: Arc<ThreadProgress>,
    first: Option<Sender<Result<(), String>>>,
    unsent: VecDeque<Outgoing>,
    generation: JoinGeneration,
    /// Events that the worker has not taken yet.
    undelivered: Vec<GroupEvent>,
    is_stopped: bool,
}

impl CpgThread {
    pub(super) fn new(
        inbox: Mailbox<CpgCommand>,
        worker: Sender<Message>,
        events: Sender<Vec<GroupEvent>>,
        progress: Arc<ThreadProgress>,
        first: Sender<Result<(), String>>,
    ) -> CpgThread {
        CpgThread {
            inbox,
            worker,
            events,
            progress,
            first: Some(first),
            unsent: VecDeque::new(),
            generation: JoinGeneration::default(),
            undelivered: Vec::new(),
            is_stopped: false,
        }
    }

    pub(super) fn run(&mut self, connector: &impl GroupConnector) {
        let mut backoff = BACKOFF;
        let mut last_reason = None;
        while !self.is_stopped {
            let joined = connector.join();
            let since = Instant::now();
            let error = match joined {
                Ok(member) => {
                    info!("cpg: joined the group {GROUP} as node {}", member.peer().node);
                    last_reason = None;
                    match self.serve(member) {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            self.report_first(Err(error.to_string()));
            if last_reason != Some(error) {
                warn!("cpg: {error}: requests fail until it is back");
                last_reason = Some(error);
            }
            self.drop_unsent();
            self.undelivered.push(GroupEvent::Lost(error.to_string()));
            // A membership that is lost at once does not reset the backoff.
            if since.elapsed() >= BACKOFF.max {
                backoff.reset();
            }
            self.rest(backoff.next());
        }
    }

    /// Reports the outcome of the first attempt to join.
    fn report_first(&mut self, outcome: Result<(), String>) {
        if let Some(first) = self.first.take() {
            // With wait_for_init nobody waits for it.
            let _ = first.send(outcome);
        }
    }

    /// Drops messages for a membership that is lost.
    fn drop_unsent(&mut self) {
        self.progress.unsent.fetch_sub(self.unsent.len(), Ordering::AcqRel);
        self.unsent.clear();
    }

    /// Waits before the next attempt to join.
    fn rest(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.is_stopped && Instant::now() < until {
            self.deliver();
            let mut set = PollSet::new();
            set.add(self.inbox.as_fd(), Interest::Read);
            let left = until.saturating_duration_since(Instant::now()).min(TICK);
            // If poll fails, the next turn tries again.
            let _ = set.wait(Some(left));
            self.take_commands();
            self.drop_unsent();
            self.mark_turn();
        }
    }

    fn mark_turn(&self) {
        self.progress.turned.store(now_millis(), Ordering::Release);
    }

    /// Reads and sends until corosync is lost; `Ok` after a stop command.
    fn serve(&mut self, mut member: impl GroupMember) -> Result<(), CorosyncError> {
        self.generation.0 += 1;
        self.undelivered.push(GroupEvent::Joined(member.peer()));
        let mut read_at = Instant::now();
        let mut queried_at = read_at;
        let mut is_old = false;
        let mut is_member = false;
        let mut nodelist = NodelistReader::default();
        loop {
            self.mark_turn();
            self.wait(&member);
            self.take_commands();
            if self.is_stopped {
                self.flush(&mut member);
                member.leave();
                return Ok(());
            }
            let began = now_millis();
            let mut has_all = false;
            if self.undelivered.is_empty() {
                is_old |= Pause::between(read_at, Instant::now()).is_some();
                let mut heard = Vec::new();
                let is_all = member.dispatch(BATCH, &mut heard);
                read_at = Instant::now();
                if heard.iter().any(|event| matches!(event, ClusterEvent::Quorum { .. })) {
                    nodelist.expire();
                }
                is_member |= heard.iter().any(|event| admits(event, member.peer()));
                self.undelivered.extend(heard.into_iter().map(|heard| group_event(heard, read_at, is_old)));
                has_all = is_all?;
                is_old &= !has_all;
                self.undelivered.extend(nodelist.read(&mut member, read_at));
            }
            self.deliver();
            if is_member && self.undelivered.is_empty() {
                // The worker hears that before it begins its first request.
                self.report_first(Ok(()));
            }
            if has_all && self.undelivered.is_empty() {
                self.progress.caught_up.store(began, Ordering::Release);
            }
            self.send(&mut member)?;
            if queried_at.elapsed() > QUERY_INTERVAL {
                queried_at = Instant::now();
                member
                    .await_answer()
                    .or_else(|error| if error.is_temporary() { Ok(()) } else { Err(error) })?;
            }
        }
    }

    /// Sends what is unsent, as far as corosync takes it within the limit.
    fn flush(&mut self, member: &mut impl GroupMember) {
        let until = Instant::now() + FLUSH_LIMIT;
        while !self.unsent.is_empty() && Instant::now() < until {
            if let Err(error) = self.send(member) {
                return warn!("cpg: {error}: answers to other nodes are lost");
            }
            self.wait(member);
        }
    }

    fn wait(&self, member: &impl GroupMember) {
        let mut set = PollSet::new();
        set.add(self.inbox.as_fd(), Interest::Read);
        if self.undelivered.is_empty() {
            for fd in member.fds() {
                set.add(fd, Interest::Read);
            }
        }
        let is_pending = !self.undelivered.is_empty() || !self.unsent.is_empty();
        // If poll fails, the turn goes on without waiting.
        let _ = set.wait(Some(if is_pending { RETRY } else { TICK }));
    }

    fn take_commands(&mut self) {
        for command in self.inbox.take() {
            match command {
                CpgCommand::Send(outbound) if outbound.generation == self.generation => {
                    self.unsent.push_back(outbound.message);
                }
                CpgCommand::Send(_) => drop(self.progress.unsent.fetch_sub(1, Ordering::AcqRel)),
                CpgCommand::Stop => self.is_stopped = true,
            }
        }
    }

    /// Hands the undelivered events to the worker if its channel has room, and wakes it.
    fn deliver(&mut self) {
        if self.undelivered.is_empty() {
            return;
        }
        match self.events.try_send(std::mem::take(&mut self.undelivered)) {
            Ok(()) => self.wake_worker(),
            Err(TrySendError::Full(events) | TrySendError::Disconnected(events)) => self.undelivered = events,
        }
    }

    fn wake_worker(&self) {
        // A worker whose inbox is full is awake, and fetches in every turn.
        let _ = self.worker.try_send(Message::Event(Event::Cluster));
    }

    fn send(&mut self, member: &mut impl GroupMember) -> Result<(), CorosyncError> {
        let mut sent = 0;
        let outcome = loop {
            let Some(message) = self.unsent.front() else { break Ok(()) };
            let expired = message.expiry.filter(|expiry| Instant::now() >= expiry.at);
            self.undelivered.extend(expired.map(GroupEvent::Unsent));
            match if expired.is_some() { Ok(()) } else { member.send(&message.bytes) } {
                Ok(()) => {
                    self.unsent.pop_front();
                    sent += 1;
                }
                Err(error) if error.is_temporary() => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let before = self.progress.unsent.fetch_sub(sent, Ordering::AcqRel);
        if before >= UNSENT_LOW && before - sent < UNSENT_LOW {
            self.wake_worker();
        }
        outcome
    }
}

// A truncated message must not look like a whole one.
const _: () = assert!(corosync::MESSAGE_KEPT_MAX > MESSAGE_LEN);

/// Returns true if an event reports a process as a member of the group.
fn admits(event: &ClusterEvent, peer: Peer) -> bool {
    matches!(event, ClusterEvent::Changed(change) if change.members.contains(&(peer.node.0, peer.pid)))
}

fn group_event(heard: ClusterEvent, at: Instant, is_old: bool) -> GroupEvent {
    match heard {
        ClusterEvent::Message { node, pid, bytes, .. } => {
            GroupEvent::Message { from: Peer { node: NodeId(node), pid }, bytes, at, is_old }
        }
        ClusterEvent::Changed(change) => GroupEvent::Changed(membership(change)),
        ClusterEvent::Quorum { is_quorate, nodes } => {
            GroupEvent::Quorum { is_quorate, nodes: nodes.into_iter().map(NodeId).collect() }
        }
    }
}

fn membership(change: MembershipChange) -> Membership {
    let peer = |(node, pid)| Peer { node: NodeId(node), pid };
    let left = |left: LeftMember| {
        let departure = match left.reason {
            LeaveReason::Process => Departure::Process,
            LeaveReason::Node => Departure::Node,
        };
        (Peer { node: NodeId(left.node), pid: left.pid }, departure)
    };
    Membership {
        members: change.members.into_iter().map(peer).collect(),
        left: change.left.into_iter().map(left).collect(),
        joined: change.joined.into_iter().map(peer).collect(),
    }
}
