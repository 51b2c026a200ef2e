//! Events of a schedule.

use std::fmt;

use fence_virt::fence::Operation;

use crate::cluster::{Cluster, NODES, PASS};
use crate::vm::{Copy, Migration};

use Event::*;

/// Kinds of events. Requests for off, and time, belong to each search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// One node is cut off from the other two, and the cut heals.
    Cuts,
    /// At the instant at which it heals, another node is cut off.
    Switches,
    Migrations,
    Restarts,
    /// Hosts are powered off, and pacemaker tells the nodes with quorum.
    Fencing,
    /// libvirt goes and comes back. Meanwhile it takes part in no migration.
    Absences,
    /// A daemon loses its libvirt, which goes on, and finds it again.
    Lapses,
    /// Each node reads what it was sent when an event says so. Without these, nothing is delayed.
    Delays,
    /// Requests for `on` and reboot.
    Starts,
    /// Calls of libvirt hang.
    Hangs,
    /// Hosts that were fenced are back, and the VM is started by hand.
    Returns,
    /// Daemons end, and start later.
    Stops,
}

/// An event; nodes are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The network cuts off this node from the other two, whatever was cut off before.
    CutOff(usize),
    Heal,
    /// The VM begins to move to this node.
    BeginMigration(usize),
    EndMigration,
    /// The migration fails.
    RollBack,
    RestartDaemon(usize),
    StopDaemon(usize),
    StartDaemon(usize),
    Fence(usize),
    Return(usize),
    StartByHand(usize),
    /// libvirt stops answering, or answers again.
    Absence(usize),
    /// Calls of libvirt begin to hang, or go on.
    Hang(usize),
    /// A client asks this node.
    Ask(usize, Operation),
    /// This node reads what it was sent, acts and sends.
    Deliver(usize),
    /// A few seconds pass, in which all messages are delivered.
    Pass,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CutOff(at) => write!(f, "node {} is cut off", at + 1),
            Heal => f.write_str("the cut heals"),
            BeginMigration(to) => write!(f, "the VM begins to move to node {}", to + 1),
            EndMigration => f.write_str("it has moved"),
            RollBack => f.write_str("the migration fails"),
            RestartDaemon(at) => write!(f, "the daemon of node {} restarts", at + 1),
            StopDaemon(at) => write!(f, "the daemon of node {} ends", at + 1),
            StartDaemon(at) => write!(f, "the daemon of node {} starts", at + 1),
            Fence(at) => write!(f, "node {} is fenced", at + 1),
            Return(at) => write!(f, "node {} is up again", at + 1),
            StartByHand(at) => write!(f, "the VM is started by hand on node {}", at + 1),
            Absence(at) => write!(f, "libvirt of node {} goes or comes back", at + 1),
            Hang(at) => write!(f, "calls of libvirt of node {} hang or go on", at + 1),
            Ask(at, operation) => write!(f, "node {} is asked for {operation}", at + 1),
            Deliver(at) => write!(f, "node {} reads and sends", at + 1),
            Pass => f.write_str("seconds pass"),
        }
    }
}

impl Cluster {
    /// Returns the events of these families that can happen now.
    pub fn events(&self, families: &[Family]) -> Vec<Event> {
        let up: Vec<usize> = (0..NODES).filter(|&at| self.nodes[at].router.is_some()).collect();
        let of_up = |event: fn(usize) -> Event| up.iter().copied().map(event);
        let mut events = Vec::new();
        if self.asked.is_none() {
            events.extend(up.iter().map(|&at| Ask(at, Operation::Off)));
        }
        for family in families {
            match family {
                Family::Cuts => match self.alone() {
                    None => events.extend((0..NODES).map(CutOff)),
                    Some(_) => events.push(Heal),
                },
                Family::Switches => {
                    let alone = self.alone();
                    let is_other = |at: &usize| alone.is_some_and(|alone| alone != *at);
                    events.extend((0..NODES).filter(is_other).map(CutOff));
                }
                Family::Migrations => events.extend(self.migrations(families.contains(&Family::Absences))),
                Family::Restarts => events.extend(of_up(RestartDaemon)),
                Family::Fencing => events.extend(self.powered().map(Fence)),
                Family::Absences | Family::Lapses => events.extend(of_up(Absence)),
                Family::Hangs => events.extend(of_up(Hang)),
                Family::Starts if self.asked.is_some() => {}
                Family::Starts => {
                    let asks = |&at: &usize| [Ask(at, Operation::On), Ask(at, Operation::Reboot)];
                    events.extend(up.iter().flat_map(asks));
                }
                Family::Returns => events.extend(self.returns()),
                Family::Stops => {
                    events.extend(of_up(StopDaemon));
                    let is_ended = |at: &usize| self.nodes[*at].router.is_none();
                    events.extend(self.powered().filter(is_ended).map(StartDaemon));
                }
                Family::Delays => {
                    let has_words = |at: &usize| !self.nodes[*at].words.is_empty();
                    events.extend(up.iter().copied().filter(has_words).map(Deliver));
                }
            }
        }
        // Nothing waits for longer but a request.
        if !self.has_rested || self.asked.is_some() {
            events.push(Pass);
        }
        events
    }

    fn powered(&self) -> impl Iterator<Item = usize> {
        (0..NODES).filter(|&at| self.nodes[at].is_powered)
    }

    /// Returns the events of migrations, in which libvirt that is away may take no part.
    fn migrations(&self, needs_libvirt: bool) -> Vec<Event> {
        let is_able = |at: usize| !needs_libvirt || !self.nodes[at].is_away;
        if let Some(Migration { from, to, .. }) = self.migration {
            return if is_able(from) && is_able(to) { vec![EndMigration, RollBack] } else { Vec::new() };
        }
        let Some(from) = self.runner().filter(|&from| is_able(from)) else { return Vec::new() };
        let is_target =
            |&to: &usize| to != from && self.nodes[to].part == self.nodes[from].part && is_able(to);
        self.powered().filter(is_target).map(BeginMigration).collect()
    }

    fn returns(&self) -> Vec<Event> {
        let mut returns: Vec<Event> =
            (0..NODES).filter(|&at| !self.nodes[at].is_powered).map(Return).collect();
        if self.runner().is_none() {
            // Where the cluster can see it: that a host which was fenced is up again, only its daemon tells.
            let is_seen =
                |at: &usize| self.nodes[*at].router.is_some() && self.is_quorate(self.nodes[*at].part);
            let is_defined = |at: &usize| self.copies[*at] != Copy::None;
            returns.extend((0..NODES).filter(is_seen).filter(is_defined).map(StartByHand));
        }
        returns
    }

    /// Lets an event happen, and delivers all messages unless they are delayed.
    pub fn apply(&mut self, event: Event) {
        match event {
            CutOff(alone) => self.partition(|at| u8::from(at == alone)),
            Heal => self.partition(|_| 0),
            BeginMigration(to) => self.begin_migration(to),
            EndMigration => self.end_migration(),
            RollBack => self.roll_back(),
            RestartDaemon(at) => self.restart_daemon(at),
            StopDaemon(at) => self.end_daemon(at),
            StartDaemon(at) => self.start_daemon(at),
            Fence(at) => self.fence(at),
            Return(at) => self.restore_power(at),
            StartByHand(at) => self.start_by_hand(at),
            Absence(at) => self.switch_libvirt(at),
            Hang(at) => self.nodes[at].hangs = !self.nodes[at].hangs,
            Ask(at, operation) => self.ask(at, operation),
            Deliver(at) => drop(self.deliver(at)),
            Pass => self.pass(PASS),
        }
        if !self.has_delays {
            self.deliver_all();
        }
        self.has_rested = event == Pass;
    }
}
