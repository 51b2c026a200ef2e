//! Arbiter of power operations: of two VMs that fence each other at the same moment, one goes on.
//!
//! A destroyed VM closes no connection, so its own request may still wait here. An operation is contested by
//! another one that was begun earlier and may have powered its caller off since the caller is known to have
//! lived. It waits while one of these is under way. Then its caller has to show that it lives, after their
//! latest end. No operation contests those of its own source, so one caller may fence many VMs in parallel.
//!
//! An operation starves when it has waited for [`PATIENCE`]. From then on no newer operation begins that would
//! contest it, so a source whose operations overlap without a gap keeps nobody waiting for long. Only older
//! operations block newer ones, so the oldest that waits is never blocked.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::fence::{Source, Uuid};
use crate::time::Instant;

/// Time for which an operation that has ended is remembered: twice the age limit of a request.
pub const RETENTION: Duration = Duration::from_secs(60);

/// Maximum of operations that have ended and are remembered.
pub const ENDED_MAX: usize = 1024;

/// Time for which an operation waits until it blocks the newer ones that would contest it: a third of the age
/// limit of a request. The rest suffices for a power-off of a VM that hangs, and for the proof afterwards.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Number of a power operation, chosen by the user of the arbiter; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// Client that asks for an operation, as far as it is known.
#[derive(Debug, Clone)]
pub struct Contender {
    /// Identity that the transport proves.
    pub source: Source,
    /// VM of the caller, if it is known otherwise than by its source: that of a vsock CID or of a key.
    pub vm: Option<Uuid>,
    /// Time after which the caller is known to have lived. A message may be read long after its sender was
    /// destroyed: for the answer to a challenge, this is the time at which the challenge was sent.
    pub alive_at: Instant,
}

impl Contender {
    /// VM of the caller, if it is known.
    fn known_vm(&self) -> Option<Uuid> {
        match &self.source {
            Source::Domain(domain) => Some(domain.uuid),
            Source::Ip(_) | Source::Cid(_) | Source::Key(_) => self.vm,
        }
    }
}

/// Operation that may have powered a caller off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// Source that asked for it; none if it was another host, or is forgotten.
    pub source: Option<Source>,
    /// Its target; none if it is forgotten.
    pub target: Option<Uuid>,
}

/// Decision about an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// It may begin. It counts as under way until [`Arbiter::finish`] or [`Arbiter::discard`].
    Begin(OperationId),
    /// Its caller has to show that it lives. [`Arbiter::proved`] or [`Arbiter::withdraw`] answers this.
    Prove {
        /// Operation that waits.
        id: OperationId,
        /// Time after which the caller has to live.
        after: Instant,
        /// Operation that ended at that time.
        rival: Rival,
    },
}

/// Power operations that wait, are under way, or have ended lately.
#[derive(Debug, Default)]
pub struct Arbiter {
    /// In the order in which they were asked for.
    waiting: VecDeque<Waiting>,
    running: BTreeMap<OperationId, Rival>,
    /// One for each source and target, the earliest end first.
    ended: VecDeque<(Instant, Rival)>,
    /// Latest end of those that are forgotten. They contest everybody, so that it is safe to forget.
    forgotten: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    id: OperationId,
    caller: Option<Contender>,
    target: Uuid,
    asked_at: Instant,
    /// True until the caller's proof.
    is_proving: bool,
}

impl Arbiter {
    /// Submits an operation on the VM `target`. Without a caller it comes from another host, which cannot
    /// be asked for a proof: nothing contests or blocks it, and it contests others.
    pub fn ask(&mut self, id: OperationId, caller: Option<Contender>, target: Uuid, now: Instant) {
        while self.ended.front().is_some_and(|(end, _)| now.saturating_duration_since(*end) > RETENTION) {
            self.forget_oldest();
        }
        if !self.running.contains_key(&id) && self.waiting.iter().all(|waiting| waiting.id != id) {
            self.waiting.push_back(Waiting { id, caller, target, asked_at: now, is_proving: false });
        }
    }

    /// Notes that the caller of a waiting operation lived after this time: if it answered a probe, the time at
    /// which the probe was sent.
    pub fn proved(&mut self, id: OperationId, alive_at: Instant) {
        let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) else { return };
        waiting.is_proving = false;
        if let Some(caller) = &mut waiting.caller {
            caller.alive_at = caller.alive_at.max(alive_at);
        }
    }

    /// Withdraws an operation that has not begun: its client is gone, it has expired, or its caller gave no
    /// sign of life.
    pub fn withdraw(&mut self, id: OperationId) {
        self.waiting.retain(|waiting| waiting.id != id);
    }

    /// Ends an operation that has begun. If its outcome is unknown, `end` is the time until which it may
    /// still take effect: it counts as under way until then.
    pub fn finish(&mut self, id: OperationId, end: Instant) {
        let Some(rival) = self.running.remove(&id) else { return };
        let earlier = self.ended.iter().position(|(_, ended)| *ended == rival);
        let earlier = earlier.and_then(|at| self.ended.remove(at));
        let end = earlier.map_or(end, |(earlier, _)| earlier.max(end));
        let at = self.ended.partition_point(|(other, _)| *other <= end);
        self.ended.insert(at, (end, rival));
        if self.ended.len() > ENDED_MAX {
            self.forget_oldest();
        }
    }

    /// Ends an operation that has begun and powered nothing off.
    pub fn discard(&mut self, id: OperationId) {
        self.running.remove(&id);
    }

    /// Next ruling, in the order in which the operations were asked for. One that may begin waits for an older
    /// one only if that starves and would be contested by it.
    pub fn next(&mut self, now: Instant) -> Option<Ruling> {
        if self.waiting.is_empty() {
            return None;
        }
        let rivals = self.rivals(now);
        let mut starving = Starving::default();
        let mut rule = |waiting| {
            let is_blocked = starving.blocks(waiting);
            starving.add_if_starving(waiting, now);
            // A proof does no harm meanwhile, and a caller who was powered off blocks the newer ones no longer.
            rivals.rule(waiting, now).filter(|ruling| !is_blocked || matches!(ruling, Ruling::Prove { .. }))
        };
        let mut rulings = self.waiting.iter().enumerate();
        let (at, ruling) = rulings.find_map(|(at, waiting)| Some((at, rule(waiting)?)))?;
        if matches!(ruling, Ruling::Prove { .. }) {
            self.waiting.get_mut(at)?.is_proving = true;
        } else {
            let begun = self.waiting.remove(at)?;
            let source = begun.caller.map(|caller| caller.source);
            self.running.insert(begun.id, Rival { source, target: Some(begun.target) });
        }
        Some(ruling)
    }

    /// Time at which [`Arbiter::next`] may have a ruling though nothing happens. It has none before, at `now`.
    /// [`PATIENCE`] adds none: its end only blocks.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        let rivals = self.rivals(now);
        let contested = self.waiting.iter().filter(|waiting| !waiting.is_proving);
        let ends = contested.filter_map(|waiting| match rivals.against(waiting.caller.as_ref()?)?.0 {
            End::At(end) if end > now => Some(end),
            _ => None,
        });
        ends.min()
    }

    fn forget_oldest(&mut self) {
        let oldest = self.ended.pop_front().map(|(end, _)| end);
        self.forgotten = self.forgotten.max(oldest);
    }

    fn rivals(&self, now: Instant) -> Rivals<'_> {
        let mut rivals = Rivals { forgotten: self.forgotten, ..Rivals::default() };
        // Ends before all waiting callers lived contest none of them.
        let callers = self.waiting.iter().filter_map(|waiting| waiting.caller.as_ref());
        let earliest = callers.map(|caller| caller.alive_at).fold(now, Instant::min);
        let ended = self.ended.iter().rev().take_while(|(end, _)| *end >= earliest);
        let ended = ended.map(|(end, rival)| (End::At(*end), rival));
        for (end, rival) in self.running.values().map(|rival| (End::Open, rival)).chain(ended) {
            rivals.all.add((end, rival));
            if let Some(target) = rival.target {
                rivals.by_target.entry(target).or_default().add((end, rival));
            }
        }
        rivals
    }
}

/// End of an operation. That of one under way is later than all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    At(Instant),
    Open,
}

/// Latest operation of all, and the latest that was asked for by another source than that one.
#[derive(Debug, Default)]
struct Latest<'a>(Option<(End, &'a Rival)>, Option<(End, &'a Rival)>);

impl<'a> Latest<'a> {
    fn add(&mut self, new: (End, &'a Rival)) {
        let is_later = |old: Option<(End, &Rival)>| old.is_none_or(|(end, _)| new.0 > end);
        let is_same_source = self.0.is_some_and(|(_, rival)| rival.source == new.1.source);
        if is_later(self.0) {
            self.1 = if is_same_source { self.1 } else { self.0 };
            self.0 = Some(new);
        } else if !is_same_source && is_later(self.1) {
            self.1 = Some(new);
        }
    }

    /// Latest operation that another source asked for.
    fn of_others(&self, source: &Source) -> Option<(End, &'a Rival)> {
        let is_other = |&(_, rival): &(End, &Rival)| rival.source.as_ref() != Some(source);
        self.0.filter(is_other).or(self.1)
    }
}

/// Operations that were begun, so that each that waits is judged in constant time.
#[derive(Debug, Default)]
struct Rivals<'a> {
    all: Latest<'a>,
    by_target: BTreeMap<Uuid, Latest<'a>>,
    forgotten: Option<Instant>,
}

impl<'a> Rivals<'a> {
    /// Latest operation that may have powered this caller off, with its end.
    fn against(&self, caller: &Contender) -> Option<(End, Option<&'a Rival>)> {
        let among = caller.known_vm().map_or(Some(&self.all), |vm| self.by_target.get(&vm));
        let known = among.and_then(|latest| latest.of_others(&caller.source));
        let known = known.map(|(end, rival)| (end, Some(rival)));
        let forgotten = self.forgotten.map(|end| (End::At(end), None));
        [forgotten, known].into_iter().flatten().max_by_key(|(end, _)| *end)
    }

    fn rule(&self, waiting: &Waiting, now: Instant) -> Option<Ruling> {
        let id = waiting.id;
        let Some(caller) = &waiting.caller else { return Some(Ruling::Begin(id)) };
        let Some((end, rival)) = self.against(caller) else { return Some(Ruling::Begin(id)) };
        match end {
            End::At(end) if end <= now && end < caller.alive_at => Some(Ruling::Begin(id)),
            End::At(after) if after <= now && !waiting.is_proving => {
                let rival = rival.cloned().unwrap_or(Rival { source: None, target: None });
                Some(Ruling::Prove { id, after, rival })
            }
            _ => None,
        }
    }
}

/// Sources of starving operations. Two different ones suffice: each caller differs from one of them.
#[derive(Debug, Default)]
struct StarvingSources<'a>(Option<&'a Source>, Option<&'a Source>);

impl<'a> StarvingSources<'a> {
    fn add(&mut self, source: &'a Source) {
        if self.0.is_none_or(|first| first == source) {
            self.0 = Some(source);
        } else {
            self.1 = Some(source);
        }
    }

    fn has_other(&self, source: &Source) -> bool {
        self.1.is_some() || self.0.is_some_and(|first| first != source)
    }
}

/// Starving operations, so that each newer one is judged in constant time.
#[derive(Debug, Default)]
struct Starving<'a> {
    of_unknown_vms: StarvingSources<'a>,
    of_known_vms: BTreeMap<Uuid, StarvingSources<'a>>,
}

impl<'a> Starving<'a> {
    fn add_if_starving(&mut self, waiting: &'a Waiting, now: Instant) {
        let Some(caller) = &waiting.caller else { return };
        if now.saturating_duration_since(waiting.asked_at) < PATIENCE {
            return;
        }
        let sources = match caller.known_vm() {
            Some(vm) => self.of_known_vms.entry(vm).or_default(),
            None => &mut self.of_unknown_vms,
        };
        sources.add(&caller.source);
    }

    /// Returns true if a newer operation would contest a starving one.
    fn blocks(&self, newer: &Waiting) -> bool {
        let Some(caller) = &newer.caller else { return false };
        let of_target = self.of_known_vms.get(&newer.target);
        self.of_unknown_vms.has_other(&caller.source)
            || of_target.is_some_and(|sources| sources.has_other(&caller.source))
    }
}
