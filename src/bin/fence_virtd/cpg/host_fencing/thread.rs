//! The thread that speaks with the fencer. Its calls block as long as the fencer hangs; then there is no news.
//!
//! 1. It connects once it is told to ask, with growing intervals between attempts while the fencer is away.
//! 2. It asks about each host twice, when the host has appeared in the cluster and some seconds later, and
//!    about all hosts after each event of the fencer. So it asks nothing while nothing happens.
//! 3. It reports new fences to the worker, which knows whether the host has appeared again since.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use log::{debug, info, warn};

use super::fencer::{Fencer, FencerConnector};
use super::ledger::{HistoryAnswer, Ledger, NewFence};
use super::session::{FencerEvents, FencerSession};
use super::shared::{FencerCommand, SharedHosts};
use super::stays::{FencedStay, StayNumber};
use crate::backoff::Backoff;
use crate::inbox::{Event, Message};
use crate::status::FencerState;
use fence_virt::sys::mailbox::Mailbox;
use fence_virt::sys::mutex::lock;
use fence_virt::sys::poll::{Interest, PollSet};
use fence_virt::sys::stonith::FencingRecord;
use fence_virt::time::Instant;
use fence_virt::wire::cluster::NodeId;

/// Intervals between attempts to connect.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// Minimum interval between every second question about all hosts, however many events come.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);
/// Interval between attempts to hand over what the worker has not taken.
const RETRY: Duration = Duration::from_millis(250);

/// State of the thread.
pub(super) struct FencerThread {
    pub(super) inbox: Mailbox<FencerCommand>,
    pub(super) worker: Sender<Message>,
    pub(super) news: Sender<FencedStay>,
    pub(super) hosts: Arc<Mutex<SharedHosts>>,
    pub(super) state: Arc<Mutex<FencerState>>,
    pub(super) settle_time: Duration,
    /// Fences that the worker has not taken yet.
    pub(super) undelivered: Vec<FencedStay>,
    /// The fencer is to be asked.
    pub(super) is_asking: bool,
    pub(super) is_stopped: bool,
}

impl FencerThread {
    pub(super) fn run(&mut self, connector: &impl FencerConnector) {
        let mut backoff = BACKOFF;
        while !self.is_stopped {
            if !self.is_asking {
                self.idle();
                backoff.reset();
                continue;
            }
            let since = Instant::now();
            let outcome = FencerSession::open(connector).and_then(|session| {
                self.found(connector.library().unwrap_or("unknown library"));
                self.serve(session, connector)
            });
            let Err(reason) = outcome else { continue };
            self.missing(reason);
            // A connection that is lost at once does not reset the backoff.
            if since.elapsed() >= BACKOFF.max {
                backoff.reset();
            }
            self.rest(Instant::now() + backoff.next());
        }
    }

    fn found(&self, library: &str) {
        info!(
            "cpg: pacemaker's fencer answers ({library}): a lost host counts as off once it has fenced that host"
        );
        *lock(&self.state) = FencerState::Connected(library.to_owned());
        self.wake_worker();
    }

    fn missing(&self, reason: String) {
        let mut state = lock(&self.state);
        *state = match &*state {
            FencerState::Unknown => {
                info!("cpg: no fence of a lost host is known until pacemaker's fencer answers: {reason}");
                FencerState::Absent(reason)
            }
            FencerState::Absent(_) => FencerState::Absent(reason),
            FencerState::Connected(_) => {
                warn!("cpg: no fence of a lost host is known until pacemaker's fencer answers: {reason}");
                FencerState::Lost(reason)
            }
            FencerState::Lost(_) => FencerState::Lost(reason),
        };
        self.wake_worker();
    }

    /// Waits until the fencer is to be asked.
    fn idle(&mut self) {
        self.undelivered.clear();
        if std::mem::take(&mut *lock(&self.state)) != FencerState::Unknown {
            info!("cpg: pacemaker's fencer is not asked any more: no fence of a lost host is known");
        }
        let mut set = PollSet::new();
        set.add(self.inbox.as_fd(), Interest::Read);
        // If poll fails, the next turn tries again.
        let _ = set.wait(None);
        self.take_commands();
    }

    /// Returns true if the session is to end.
    fn is_over(&self) -> bool {
        self.is_stopped || !self.is_asking
    }

    /// Lets the worker fetch, and report the state.
    fn wake_worker(&self) {
        // A worker whose inbox is full is awake, and fetches in every turn.
        let _ = self.worker.try_send(Message::Event(Event::Cluster));
    }

    /// Waits before the next attempt to connect, or the next questions.
    fn rest(&mut self, until: Instant) {
        while !self.is_over() && Instant::now() < until {
            self.deliver();
            let mut set = PollSet::new();
            set.add(self.inbox.as_fd(), Interest::Read);
            // If poll fails, the next turn tries again.
            let _ = set.wait(Some(until.saturating_duration_since(Instant::now()).min(RETRY)));
            self.take_commands();
        }
    }

    fn take_commands(&mut self) {
        for command in self.inbox.take() {
            match command {
                FencerCommand::HostsChanged => {}
                FencerCommand::Ask(is_asking) => self.is_asking = is_asking,
                FencerCommand::Stop => self.is_stopped = true,
            }
        }
    }

    /// Asks the fencer until it is lost; `Ok` after a command to stop, or to ask no more.
    fn serve<C: FencerConnector>(
        &mut self,
        mut session: FencerSession<C::Fencer>,
        connector: &C,
    ) -> Result<(), String> {
        let mut ledger = Ledger::new(self.settle_time);
        let mut event_at = Instant::from_boot(Duration::ZERO);
        while !self.is_over() {
            let stays = lock(&self.hosts).take();
            ledger.retain(&stays);
            let now = Instant::now();
            let due_at = stays.iter().filter_map(|(&node, &stay)| ledger.due_at(node, stay, now)).min();
            self.wait(&session, due_at);
            if self.is_over() {
                break;
            }
            let events = session.events()?;
            session.renew(events, connector)?;
            let stays = lock(&self.hosts).take();
            let answers = ask(&mut session, &ledger, &stays, events)?;
            // An event precedes every answer that has what came with it.
            let events = events.and(session.events()?);
            if events.has_synced {
                debug!("cpg: pacemaker's fencer takes over records of other nodes, which do not count");
            }
            for answer in answers {
                self.learn(&mut ledger, answer, events.are_own());
            }
            self.deliver();
            if events.any() {
                // One event is answered at once: together, two of both kinds could not be told apart.
                self.rest(std::mem::replace(&mut event_at, Instant::now()) + EVENT_INTERVAL);
            }
        }
        Ok(())
    }

    fn learn(&mut self, ledger: &mut Ledger, answer: HistoryAnswer, is_live: bool) {
        let (node, stay, asked_at) = (answer.node, answer.stay, answer.asked_at);
        let was_due = ledger.due_at(node, stay, asked_at).is_some();
        for fence in ledger.learn(answer, is_live) {
            log_fence(node, &fence);
            if fence.is_off {
                self.undelivered.push(FencedStay { node, stay, at: Instant::now() });
            }
        }
        if was_due && ledger.due_at(node, stay, asked_at).is_none() {
            debug!("cpg: fences of node {node} count from now on");
        }
    }

    /// Waits for a command, an event, or the time at which a host has to be asked about.
    fn wait(&mut self, session: &FencerSession<impl Fencer>, due_at: Option<Instant>) {
        let mut set = PollSet::new();
        set.add(self.inbox.as_fd(), Interest::Read);
        set.add(session.ended.fd(), Interest::Read);
        set.add(session.synced.fd(), Interest::Read);
        let wait = due_at.map(|at| at.saturating_duration_since(Instant::now()));
        let retry = (!self.undelivered.is_empty()).then_some(RETRY);
        // If poll fails, the turn goes on without waiting.
        let _ = set.wait(wait.into_iter().chain(retry).min());
        self.take_commands();
        self.deliver();
    }

    /// Hands the new fences to the worker as far as there is room, and wakes it.
    fn deliver(&mut self) {
        if self.undelivered.is_empty() {
            return;
        }
        let mut fences = std::mem::take(&mut self.undelivered).into_iter();
        for fence in fences.by_ref() {
            if let Err(TrySendError::Full(fence) | TrySendError::Disconnected(fence)) =
                self.news.try_send(fence)
            {
                self.undelivered.push(fence);
                break;
            }
        }
        self.undelivered.extend(fences);
        self.wake_worker();
    }
}

/// Asks about the hosts that are due, or about all after events.
fn ask(
    session: &mut FencerSession<impl Fencer>,
    ledger: &Ledger,
    stays: &BTreeMap<NodeId, StayNumber>,
    events: FencerEvents,
) -> Result<Vec<HistoryAnswer>, String> {
    let now = Instant::now();
    let mut answers = Vec::new();
    for (&node, &stay) in stays {
        if events.any() || ledger.due_at(node, stay, now).is_some_and(|at| now >= at) {
            let asked_at = Instant::now();
            let records = session.history(node)?;
            answers.push(HistoryAnswer { node, stay, records, asked_at, answered_at: Instant::now() });
        }
    }
    Ok(answers)
}

fn log_fence(node: NodeId, fence: &NewFence) {
    let FencingRecord { target, action, delegate, client, .. } = &fence.record;
    let what = format!("node {node} ({target}) was fenced: {action} by {delegate} for {client}");
    if fence.is_off {
        info!("cpg: {what}");
    } else {
        warn!(
            "cpg: {what}; it does not count, since pacemaker unfences that host by itself: such devices cut \
             a host off from storage, and its VMs may run"
        );
    }
}
