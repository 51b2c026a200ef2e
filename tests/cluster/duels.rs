//! Duels: two VMs on two hosts that fence each other, each at its own host.

use fence_virt::fence::Operation;
use fence_virt::routing::ClientId;

use super::oracle::Invariant;
use super::world::{Kind, Time, World};

/// Time after which nothing is carried out for it any more, and others may fence its VMs.
const DURATION: Time = 60_000;

/// A duel, by its sides, with its end.
pub struct Duel([DuelSide; 2], Time);

/// VM that fences another one.
struct DuelSide {
    host: usize,
    vm: usize,
    run: u64,
    /// Its request, at its host.
    client: ClientId,
    /// A daemon has destroyed it.
    is_destroyed: bool,
}

impl World {
    /// Lets two VMs fence each other, of two hosts with a daemon of ours. Nobody else fences them meanwhile, and they
    /// do not move.
    pub fn begin_duel(&mut self) {
        // A hostile member may have a VM destroyed.
        if self.nodes.iter().any(|node| node.kind == Kind::Hostile) {
            return;
        }
        let mut sides: Vec<(usize, usize, u64)> = Vec::new();
        let first = self.random.below(self.vms.len() as u64) as usize;
        for vm in (first..self.vms.len()).chain(0..first) {
            let Some((host, run)) = self.rests_at(vm) else { continue };
            if sides.iter().all(|(other, ..)| *other != host) {
                sides.push((host, vm, run));
            }
        }
        let [one, other, ..] = sides[..] else { return };
        self.count("duels");
        let fights = |world: &mut World, (host, vm, run): (usize, usize, u64), victim: usize| {
            let operation = if world.random.one_in(3) { Operation::Reboot } else { Operation::Off };
            world.ask(host, Some(victim), operation, true);
            world.vms[vm].rests_until = world.now + DURATION;
            DuelSide { host, vm, run, client: ClientId(world.next_client), is_destroyed: false }
        };
        let sides = [fights(self, one, other.1), fights(self, other, one.1)];
        let duel = Duel(sides, self.now + DURATION);
        self.duels.push(duel);
    }

    /// Returns the host and the run of a VM that can have a duel: it runs there, and nothing is under way for it.
    fn rests_at(&self, vm: usize) -> Option<(usize, u64)> {
        let known = &self.vms[vm];
        let mut active = known.active();
        let (host, run) = active.next().filter(|_| active.next().is_none() && known.migration.is_none())?;
        let daemon = self.nodes[host].daemon.as_ref().filter(|_| self.nodes[host].kind == Kind::Ours)?;
        (daemon.is_joined && !daemon.is_frozen && known.busy_until < self.now).then_some((host, run))
    }

    /// Returns true if a client has shown that it lives: any does that is not the VM of a duel, or still runs.
    pub fn shows_life(&mut self, client: ClientId) -> bool {
        self.count("proofs");
        let mut sides = self.duels.iter().flat_map(|Duel(sides, _)| sides);
        let side = sides.find(|side| side.client == client);
        let lives = side.is_none_or(|side| self.vms[side.vm].copies.get(&side.host) == Some(&Some(side.run)));
        if !lives {
            self.count("survivors of duels");
        }
        lives
    }

    /// [`Invariant::OneSurvives`]: a daemon destroys this run.
    pub fn check_duels(&mut self, run: u64) {
        let (now, mut fallen) = (self.now, None);
        for Duel(sides, _) in self.duels.iter_mut().filter(|Duel(_, end)| now < *end) {
            if let Some(side) = sides.iter_mut().find(|side| side.run == run) {
                side.is_destroyed = true;
                fallen = Some(sides.each_ref().map(|side| (side.vm, side.is_destroyed)));
            }
        }
        let Some([(one, one_fell), (other, other_fell)]) = fallen else { return };
        self.count("fallen in duels");
        if one_fell && other_fell {
            let what = format!("{} and {} have fenced each other", self.vms[one].name, self.vms[other].name);
            self.violate(Invariant::OneSurvives, what);
        }
    }
}
