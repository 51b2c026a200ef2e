//! Events of a schedule.

use std::fmt;

use fence_virt::fence::UriIndex;
use fence_virt::routing::TELL_LIMIT;

use crate::cluster::{Cluster, Copy, NODES};

/// Kinds of events; requests, deliveries and time belong to each search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Cuts,
    Migrations,
    Restarts,
    Fencing,
    Absences,
}

impl Family {
    pub const ALL: [Family; 5] =
        [Family::Cuts, Family::Migrations, Family::Restarts, Family::Fencing, Family::Absences];
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
    /// The host is powered off, for good.
    Fence(usize),
    /// libvirt stops answering, or answers again.
    Absence(usize),
    /// A client asks this node for an off.
    Ask(usize),
    /// This node reads what it was sent, acts and sends.
    Deliver(usize),
    /// A few seconds pass, in which all messages are delivered.
    Pass,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::CutOff(at) => write!(f, "node {} is cut off", at + 1),
            Event::Heal => f.write_str("the cut heals"),
            Event::BeginMigration(to) => write!(f, "the VM begins to move to node {}", to + 1),
            Event::EndMigration => f.write_str("it has moved"),
            Event::RollBack => f.write_str("the migration fails"),
            Event::RestartDaemon(at) => write!(f, "the daemon of node {} restarts", at + 1),
            Event::Fence(at) => write!(f, "node {} is fenced", at + 1),
            Event::Absence(at) => write!(f, "libvirt of node {} goes or comes back", at + 1),
            Event::Ask(at) => write!(f, "node {} is asked for off", at + 1),
            Event::Deliver(at) => write!(f, "node {} reads and sends", at + 1),
            Event::Pass => f.write_str("seconds pass"),
        }
    }
}

impl Cluster {
    /// Returns the events of these families that can happen now.
    pub fn events(&self, families: &[Family]) -> Vec<Event> {
        let up: Vec<usize> = (0..NODES).filter(|&at| self.nodes[at].router.is_some()).collect();
        let mut events = Vec::new();
        if self.asked.is_none() {
            events.extend(up.iter().map(|&at| Event::Ask(at)));
        }
        for family in families {
            match family {
                Family::Cuts => events.extend(self.cuts()),
                Family::Migrations => events.extend(self.migrations()),
                Family::Restarts => events.extend(up.iter().map(|&at| Event::RestartDaemon(at))),
                Family::Fencing => events.extend(up.iter().map(|&at| Event::Fence(at))),
                Family::Absences => events.extend(up.iter().map(|&at| Event::Absence(at))),
            }
        }
        let has_words = |&at: &usize| !self.nodes[at].words.is_empty();
        events.extend(up.into_iter().filter(has_words).map(Event::Deliver));
        events.push(Event::Pass);
        events
    }

    fn cuts(&self) -> Vec<Event> {
        let part = |at: usize| self.nodes[at].part;
        let is_alone = |&at: &usize| (0..NODES).all(|other| other == at || part(other) != part(at));
        let alone = (0..NODES).find(is_alone);
        let mut cuts: Vec<Event> = (0..NODES).filter(|at| alone != Some(*at)).map(Event::CutOff).collect();
        cuts.extend(alone.map(|_| Event::Heal));
        cuts
    }

    fn migrations(&self) -> Vec<Event> {
        if self.migration.is_some() {
            return vec![Event::EndMigration, Event::RollBack];
        }
        let Some(from) = self.runner() else { return Vec::new() };
        let is_target = |&to: &usize| {
            to != from && self.nodes[to].router.is_some() && self.nodes[to].part == self.nodes[from].part
        };
        (0..NODES).filter(is_target).map(Event::BeginMigration).collect()
    }

    pub fn apply(&mut self, event: Event) {
        match event {
            Event::CutOff(alone) => self.partition(|at| u8::from(at == alone)),
            Event::Heal => self.partition(|_| 0),
            Event::BeginMigration(to) => {
                if let Some(from) = self.runner() {
                    self.migration = Some((from, to, self.copies[to]));
                    self.set(to, Copy::Paused);
                }
            }
            Event::EndMigration => {
                if let Some((from, to, _)) = self.migration.take() {
                    self.set(to, Copy::Active);
                    self.set(
                        from,
                        if self.is_transient { Copy::None } else { Copy::Off { has_moved: true } },
                    );
                }
            }
            Event::RollBack => {
                if let Some((_, to, before)) = self.migration.take() {
                    self.set(to, before);
                }
            }
            Event::RestartDaemon(at) => {
                self.nodes[at].router = None;
                self.fail_request_of(at);
                self.sync_views();
                self.start_daemon(at);
            }
            Event::Fence(at) => {
                self.nodes[at].router = None;
                self.fail_request_of(at);
                if self.copies[at] != Copy::None {
                    self.end(at);
                }
                self.sync_views();
            }
            Event::Absence(at) => self.switch_libvirt(at),
            Event::Ask(at) => self.ask(at),
            Event::Deliver(at) => drop(self.deliver(at)),
            Event::Pass => self.pass(TELL_LIMIT + std::time::Duration::from_secs(1)),
        }
    }

    fn partition(&mut self, part: impl Fn(usize) -> u8) {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            node.part = part(at);
        }
        self.sync_views();
    }

    /// A client gets no answer from a daemon that ends.
    fn fail_request_of(&mut self, at: usize) {
        if self.asked.take_if(|asked| asked.at == at).is_some() {
            self.was_answered = true;
        }
    }

    fn switch_libvirt(&mut self, at: usize) {
        let (now, vms) = (self.now, self.local(at).into_iter().collect());
        let node = &mut self.nodes[at];
        node.is_away = !node.is_away;
        let Some(router) = node.router.as_mut() else { return };
        match node.is_away {
            true => router.unlisted(UriIndex(0)),
            false => router.listed(UriIndex(0), vms, now),
        }
    }
}
