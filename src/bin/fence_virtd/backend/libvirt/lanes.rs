//! Pool of the lanes of one URI.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use log::warn;

use crate::libvirt::{Call, CallId, CallOutcome, Lane, LibvirtError, Link};
use crate::status::{LaneReport, OldestCall};
use fence_virt::time::Instant;

/// Idle lanes that are kept, with their connections: to open one takes some milliseconds.
const KEPT: usize = 4;
/// Maximum of lanes that look up the same name or UUID: such calls wait together for a VM that hangs.
const SAME_MAX: usize = 2;
/// Time after which a query is slow.
const SLOW: Duration = Duration::from_millis(300);

/// Lanes of one URI, and the calls that wait for one.
pub(super) struct Lanes<L: Link> {
    /// Maximum of lanes (`max_parallel`).
    max: usize,
    idle: Vec<L::Lane>,
    /// By the order in which they began.
    busy: BTreeMap<CallId, BusyLane<L::Lane>>,
    queue: VecDeque<QueuedCall>,
    /// Calls for which no lane could be opened.
    failed: Vec<(CallId, CallOutcome)>,
}

struct BusyLane<T> {
    lane: T,
    is_start: bool,
    is_query: bool,
    target: String,
    label: String,
    began: Instant,
}

struct QueuedCall {
    id: CallId,
    call: Call,
    /// VM, for the status report.
    vm: String,
    /// The same for all spellings of a UUID.
    target: String,
}

impl<L: Link> Lanes<L> {
    pub(super) fn new(max: usize) -> Lanes<L> {
        Lanes { max, idle: Vec::new(), busy: BTreeMap::new(), queue: VecDeque::new(), failed: Vec::new() }
    }

    /// Opens a first lane, so that a host which has no memory left for another can still fence.
    pub(super) fn prepare(&mut self, link: &L) {
        match link.open_lane() {
            Ok(lane) => self.idle.push(lane),
            Err(error) => warn!("{}: {error}", link.name()),
        }
    }

    /// Makes a call as soon as a lane is free.
    pub(super) fn submit(&mut self, link: &L, id: CallId, call: Call, vm: &str) {
        let target = vm.replace('-', "").to_ascii_lowercase();
        self.queue.push_back(QueuedCall { id, call, vm: vm.to_owned(), target });
        self.dispatch(link);
    }

    /// Frees the lane of a call that has ended.
    pub(super) fn ended(&mut self, link: &L, call: CallId) {
        let Some(BusyLane { lane, .. }) = self.busy.remove(&call) else { return };
        self.idle.push(lane);
        self.dispatch(link);
        self.idle.truncate(KEPT);
    }

    /// True while a query takes long: libvirtd may be frozen.
    pub(super) fn is_query_slow(&self, now: Instant) -> bool {
        self.busy.values().any(|lane| lane.is_query && now.saturating_duration_since(lane.began) >= SLOW)
    }

    /// Removes a call that waits for a lane; false if it has begun.
    pub(super) fn withdraw(&mut self, link: &L, id: CallId) -> bool {
        let before = self.queue.len();
        self.queue.retain(|queued| queued.id != id);
        self.report(link);
        self.queue.len() < before
    }

    /// Calls that failed because no lane could be opened.
    pub(super) fn take_failed(&mut self) -> Vec<(CallId, CallOutcome)> {
        std::mem::take(&mut self.failed)
    }

    fn dispatch(&mut self, link: &L) {
        while let Some(at) = self.next() {
            let lane = match self.idle.pop().map_or_else(|| link.open_lane(), Ok) {
                Ok(lane) => lane,
                // Those that are busy take the calls one by one.
                Err(error) if !self.busy.is_empty() => {
                    warn!("{}: {error}", link.name());
                    break;
                }
                Err(error) => {
                    let failed = self.queue.drain(..);
                    let failed = failed.map(|QueuedCall { id, call, .. }| {
                        (id, call.fail(LibvirtError::Other(error.clone())))
                    });
                    self.failed.extend(failed);
                    break;
                }
            };
            let Some(QueuedCall { id, call, vm, target }) = self.queue.remove(at) else { break };
            let label =
                if vm.is_empty() { call.name().to_owned() } else { format!("{} of {vm:?}", call.name()) };
            let is_start = call.is_start();
            let is_query = call.is_query();
            lane.make(id, call);
            let began = Instant::now();
            self.busy.insert(id, BusyLane { lane, is_start, is_query, target, label, began });
        }
        self.report(link);
    }

    /// Position of the next call that may begin. Starts have no time limit, so they may
    /// use only half of the lanes.
    fn next(&self) -> Option<usize> {
        if self.busy.len() >= self.max {
            return None;
        }
        let starts = self.busy.values().filter(|lane| lane.is_start).count();
        let may_start = starts < (self.max / 2).max(1);
        let is_same = |lane: &BusyLane<_>, target: &str| lane.is_query && lane.target == target;
        let lookups = |target: &str| self.busy.values().filter(|lane| is_same(lane, target)).count();
        self.queue.iter().position(|QueuedCall { call, target, .. }| {
            (may_start || !call.is_start()) && (!call.is_query() || lookups(target) < SAME_MAX)
        })
    }

    fn report(&self, link: &L) {
        let oldest = self.busy.values().min_by_key(|lane| lane.began);
        link.report_lanes(LaneReport {
            busy: self.busy.len(),
            max: self.max,
            queued: self.queue.len(),
            oldest: oldest.map(|lane| OldestCall { label: lane.label.clone(), began: lane.began }),
        });
    }
}
