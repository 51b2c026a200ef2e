use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::ids::Sequence;
use super::tombstones::Gone;
use super::{LocalVm, Names};
use crate::fence::{Domain, PowerState, Uuid};
use crate::wire::cluster::{Advertisement, ClusterMessage};
use crate::wire::cluster::{NodeId, RequestNumber};

/// Places in the order of the group; 0 if that was not seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Changed {
    /// When a VM last started here, or came here.
    pub(super) started: Sequence,
    /// When it last started or ended.
    pub(super) last: Sequence,
}

/// A VM that is not here any more.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) domain: Domain,
    /// Whether it was last seen to run.
    pub(super) has_run: bool,
}

/// The VMs of this node, by libvirt URI, and what the group has to be told of them.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// By the place of the URI.
    vms: BTreeMap<Uuid, BTreeMap<usize, LocalVm>>,
    /// By name in lower case.
    names: HashMap<String, BTreeSet<Uuid>>,
    /// The URIs that were never listed.
    unlisted: BTreeSet<usize>,
    /// What has to be told.
    news: BTreeSet<Uuid>,
    /// All are being told, and the end is to be told too.
    is_telling_all: bool,
    gone: Gone,
    /// VMs here that another node was heard to run since they last started
    /// here: if they moved away, that is where they went.
    followed: BTreeSet<Uuid>,
    /// When VMs here last started or ended, as places in the order of the group.
    changed: BTreeMap<Uuid, Changed>,
    /// Who is to be told when all were told, with the number that it gave.
    owed: BTreeMap<NodeId, RequestNumber>,
    /// The same, who asked during a round: for them all is told once more after it.
    owed_next: BTreeMap<NodeId, RequestNumber>,
}

impl Local {
    pub(super) fn new(uris: usize) -> Local {
        Local { unlisted: (0..uris).collect(), ..Local::default() }
    }

    /// Everything is to be told anew, and a node be told when that is done. A
    /// round that is under way is not begun anew, or it might never end.
    pub(super) fn tell_all_to(&mut self, node: NodeId, number: RequestNumber) {
        if self.is_telling_all {
            self.owed_next.insert(node, number);
        } else {
            self.owed.insert(node, number);
            self.tell_all();
        }
    }

    /// A URI does not answer.
    pub(super) fn unlist(&mut self, place: usize) {
        self.unlisted.insert(place);
    }

    /// Whether it is known of all URIs what is there.
    pub(super) fn is_listed(&self) -> bool {
        self.unlisted.is_empty()
    }

    /// Everything is to be told anew.
    pub(super) fn tell_all(&mut self) {
        self.news = self.vms.keys().copied().collect();
        self.is_telling_all = true;
    }

    /// A URI was listed. Gives the VMs that are gone.
    pub(super) fn list(&mut self, place: usize, vms: Vec<LocalVm>, order: Sequence) -> Vec<Lost> {
        self.unlisted.remove(&place);
        let listed: BTreeSet<Uuid> = vms.iter().map(|vm| vm.uuid).collect();
        let had = |(uuid, places): (&Uuid, &BTreeMap<usize, LocalVm>)| {
            (places.contains_key(&place) && !listed.contains(uuid)).then_some(*uuid)
        };
        let gone: Vec<Uuid> = self.vms.iter().filter_map(had).collect();
        for vm in vms {
            self.see(place, vm, order);
        }
        gone.into_iter().filter_map(|uuid| self.lose(place, uuid, order)).collect()
    }

    /// A VM was seen at a URI, when the group had come as far as `order`.
    pub(super) fn see(&mut self, place: usize, vm: LocalVm, order: Sequence) {
        let uuid = vm.uuid;
        let (before, was_active) = (self.state(uuid), self.is_active(uuid));
        let is_renamed = self.name(uuid) != Some(vm.name.as_str());
        if is_renamed {
            self.unname(uuid);
        }
        self.vms.entry(uuid).or_default().insert(place, vm);
        if is_renamed {
            self.rename(uuid);
        }
        self.gone.remove(uuid);
        if before.unwrap_or(PowerState::Off) != self.state(uuid).unwrap_or(PowerState::Off) {
            self.changed.entry(uuid).or_default().last = order;
        }
        if !was_active && self.is_active(uuid) {
            // Until then it was just coming in, and the other one ran.
            self.followed.remove(&uuid);
            self.changed.entry(uuid).or_default().started = order;
        }
        if is_renamed || (before, was_active) != (self.state(uuid), self.is_active(uuid)) {
            self.news.insert(uuid);
        }
    }

    /// A VM is not at this URI any more. Gives it, if it was the last.
    pub(super) fn lose(&mut self, place: usize, uuid: Uuid, order: Sequence) -> Option<Lost> {
        let before = self.state(uuid)?;
        let name = self.name(uuid)?.to_owned();
        let places = self.vms.get_mut(&uuid)?;
        places.remove(&place)?;
        if !places.is_empty() {
            if self.state(uuid) != Some(before) {
                self.news.insert(uuid);
                self.changed.entry(uuid).or_default().last = order;
            }
            return None;
        }
        self.unname(uuid);
        self.vms.remove(&uuid);
        self.news.remove(&uuid);
        self.followed.remove(&uuid);
        self.changed.remove(&uuid);
        self.gone.insert(uuid, &name);
        Some(Lost { domain: Domain { name, uuid }, has_run: before == PowerState::Running })
    }

    fn rename(&mut self, uuid: Uuid) {
        if let Some(name) = self.name(uuid).map(str::to_lowercase) {
            self.names.entry(name).or_default().insert(uuid);
        }
    }

    fn unname(&mut self, uuid: Uuid) {
        let Some(name) = self.name(uuid).map(str::to_lowercase) else { return };
        if let Some(uuids) = self.names.get_mut(&name) {
            uuids.remove(&uuid);
            if uuids.is_empty() {
                self.names.remove(&name);
            }
        }
    }

    /// The next thing to tell the group.
    pub(super) fn next_news(&mut self, me: NodeId) -> Option<ClusterMessage> {
        while let Some(uuid) = self.news.pop_first() {
            if let Some(told) = self.told(uuid, me) {
                return Some(told);
            }
        }
        if !self.is_listed() {
            return None;
        }
        if std::mem::take(&mut self.is_telling_all) {
            return Some(ClusterMessage::Hello { is_complete: true });
        }
        if let Some((to, number)) = self.owed.pop_first() {
            return Some(ClusterMessage::AllAdvertised { to, number });
        }
        if self.owed_next.is_empty() {
            return None;
        }
        self.owed = std::mem::take(&mut self.owed_next);
        self.tell_all();
        self.next_news(me)
    }

    /// What is told of a VM, at once.
    pub(super) fn told(&mut self, uuid: Uuid, me: NodeId) -> Option<ClusterMessage> {
        self.news.remove(&uuid);
        let (name, state, is_active) = (self.name(uuid)?.to_owned(), self.state(uuid)?, self.is_active(uuid));
        Some(ClusterMessage::Store(Advertisement {
            domain: Domain { name, uuid },
            owner: me,
            state,
            is_active,
        }))
    }

    /// Whether a VM runs; none if it is not here.
    pub(super) fn state(&self, uuid: Uuid) -> Option<PowerState> {
        let places = self.vms.get(&uuid)?;
        let runs = places.values().any(|vm| vm.state == PowerState::Running);
        Some(if runs { PowerState::Running } else { PowerState::Off })
    }

    /// Whether it is neither off nor paused, nor otherwise in between.
    pub(super) fn is_active(&self, uuid: Uuid) -> bool {
        self.vms.get(&uuid).is_some_and(|places| places.values().any(|vm| vm.is_active))
    }

    /// Its name.
    pub(super) fn name(&self, uuid: Uuid) -> Option<&str> {
        self.vms.get(&uuid)?.values().next().map(|vm| vm.name.as_str())
    }

    pub(super) fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.vms.keys().copied()
    }

    /// Which VMs here a text means.
    pub(super) fn meaning(&self, text: &str, names: Names) -> BTreeSet<Uuid> {
        let mut found = BTreeSet::new();
        if names != Names::Name {
            found.extend(Uuid::parse(text).filter(|uuid| self.vms.contains_key(uuid)));
        }
        if names != Names::Uuid {
            found.extend(self.names.get(&text.to_lowercase()).into_iter().flatten());
        }
        found
    }

    /// Whether a text means a VM that this node told and that is gone.
    pub(super) fn is_gone(&self, text: &str) -> bool {
        self.gone.has(text)
    }

    /// Another node runs it: that one answers for it now.
    pub(super) fn is_elsewhere(&mut self, uuid: Uuid) {
        self.gone.remove(uuid);
        if self.vms.contains_key(&uuid) {
            self.followed.insert(uuid);
        }
    }

    /// Another node does not run it.
    pub(super) fn is_not_elsewhere(&mut self, uuid: Uuid) {
        if self.is_active(uuid) {
            // That it did was told before it came here, and heard after it.
            self.followed.remove(&uuid);
        }
    }

    /// When it last started and ended.
    pub(super) fn changed(&self, uuid: Uuid) -> Changed {
        self.changed.get(&uuid).copied().unwrap_or_default()
    }

    /// What was to be told to others is for a group that is lost.
    pub(super) fn leave(&mut self) {
        self.owed.clear();
        self.owed_next.clear();
    }

    /// Whether it is known where it went, if it moved away.
    pub(super) fn is_followed(&self, uuid: Uuid) -> bool {
        self.followed.contains(&uuid)
    }
}
