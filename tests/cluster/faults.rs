//! Faults of hosts, daemons, libvirt and the network.

use super::world::{Kind, World};

use Kind::{C, Hostile, Ours};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    PowerCut,
    PowerBack,
    DaemonStops,
    DaemonStarts,
    /// The daemon freezes, or goes on.
    Freeze,
    /// corosync ends, or is back.
    Corosync,
    /// The network falls in two, or heals.
    Partition,
    /// corosync accepts no messages for a while.
    Refusal,
    /// The worker is in a libvirt call, while the cpg thread goes on.
    Block,
    /// Another process takes the place of the daemon.
    Replacement,
    /// A C daemon hangs.
    CHangs,
    /// libvirt does not answer.
    Absence,
}

impl World {
    pub fn some_fault(&mut self) {
        let at = self.random.below(self.nodes.len() as u64) as usize;
        let Some(fault) = self.random.pick(&self.faults()) else { return };
        self.trace(|| format!("{fault:?} at node {}", self.nodes[at].id));
        self.strike(at, fault);
    }

    fn faults(&self) -> Vec<Fault> {
        use Fault::*;
        let quirks = &self.quirks;
        let mut faults = vec![PowerCut, PowerBack, DaemonStops, DaemonStarts, Freeze, Freeze];
        faults.extend([Corosync, Partition, Refusal]);
        let more = [
            (quirks.blocks, Block),
            (quirks.overlap, Replacement),
            (quirks.c_hangs, CHangs),
            (quirks.away, Absence),
        ];
        faults.extend(more.into_iter().filter(|(is_on, _)| *is_on).map(|(_, fault)| fault));
        faults
    }

    fn strike(&mut self, at: usize, fault: Fault) {
        let kind = self.nodes[at].kind;
        let (is_powered, has_daemon) = (self.nodes[at].is_powered, self.nodes[at].daemon.is_some());
        match fault {
            Fault::PowerCut if is_powered && kind != Hostile => self.cut_power(at),
            Fault::PowerBack if !is_powered => self.restore_power(at),
            Fault::DaemonStops if has_daemon => {
                if self.random.one_in(2) {
                    self.stop_daemon(at);
                }
                self.nodes[at].daemon = None;
                self.sync_views();
            }
            Fault::DaemonStarts if is_powered && !has_daemon => self.start_daemon(at),
            // C daemons are not frozen: they would carry out requests that waited.
            Fault::Freeze if has_daemon && kind == Ours && !self.has_news(at) => {
                if let Some(daemon) = self.daemon(at) {
                    daemon.is_frozen = !daemon.is_frozen;
                }
            }
            Fault::Corosync if is_powered && kind == Ours => self.switch_corosync(at),
            Fault::Partition => self.partition_or_heal(),
            Fault::Refusal if has_daemon => self.refuse_messages(at),
            Fault::Block if has_daemon && kind == Ours => self.block(at, 8000, "blocks of the worker"),
            Fault::CHangs if has_daemon && kind == C => self.block(at, 10_000, "C daemons that hang"),
            Fault::Replacement if has_daemon && kind == Ours => self.replace_daemon(at),
            Fault::Absence if has_daemon && kind == Ours => {
                let until = self.now + self.random.below(4000);
                if let Some(daemon) = self.daemon(at) {
                    daemon.away_until = Some(until);
                    self.count("absences of libvirt");
                }
            }
            _ => {}
        }
    }

    fn block(&mut self, at: usize, limit: u64, what: &'static str) {
        let until = self.now + self.random.below(limit);
        if let Some(daemon) = self.daemon(at).filter(|daemon| !daemon.is_frozen) {
            daemon.blocked_until = until;
            self.count(what);
        }
    }

    fn switch_corosync(&mut self, at: usize) {
        if self.nodes[at].has_corosync {
            self.nodes[at].has_corosync = false;
            self.lose(at);
        } else {
            self.nodes[at].has_corosync = true;
            self.join(at);
        }
        self.sync_votes();
    }

    fn partition_or_heal(&mut self) {
        let part = self.random.below(2);
        let goes = self.random.next();
        let is_healed = self.nodes.iter().any(|node| node.part != self.nodes[0].part);
        for (place, node) in self.nodes.iter_mut().enumerate() {
            node.part = if is_healed { 0 } else { part * (goes >> place & 1) };
        }
        self.sync_views();
        self.sync_votes();
    }

    fn refuse_messages(&mut self, at: usize) {
        // While it may still be advertising its VMs, not longer than the limit for that.
        let (short, long) = (self.random.below(1500), self.random.below(12_000));
        let now = self.now;
        if let Some(daemon) = self.daemon(at) {
            let has_told = daemon.changed_at + 5000 < now;
            if daemon.refused_until + 5000 < now {
                daemon.refused_until = now + if has_told { long } else { short };
            }
        }
    }

    pub fn cut_power(&mut self, at: usize) {
        self.end_runs(at);
        let node = &mut self.nodes[at];
        (node.is_powered, node.has_corosync, node.daemon) = (false, false, None);
        self.sync_views();
        self.sync_votes();
    }

    pub fn restore_power(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        (node.is_powered, node.has_corosync, node.alone_since) = (true, true, None);
        self.sync_votes();
        self.start_daemon(at);
    }

    /// Fulfils host_fence_delay: hosts outside the quorate partition, or without corosync, are off
    /// within 15 s.
    pub fn fence_hosts(&mut self) {
        if self.rules.host_fence_delay.is_none() {
            return;
        }
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            let is_with_it = !node.is_powered || (node.has_corosync && self.is_quorate(node.part));
            let since = if is_with_it { None } else { Some(node.alone_since.unwrap_or(self.now)) };
            self.nodes[at].alone_since = since;
            if since.is_some_and(|since| self.now - since > 15_000) {
                self.cut_power(at);
                self.nodes[at].alone_since = None;
            }
        }
    }
}
