//! Which VM a request means, and on which URIs it has a copy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::libvirt::Failed;
use crate::libvirt::{Condition, Found, Host, Link};
use fence_virt::fence::Target;

/// A URI, and which VMs were last seen there.
pub(super) struct Uri<L> {
    pub(super) link: L,
    /// Name by UUID. Kept only where there are several URIs.
    seen: HashMap<String, String>,
}

/// A copy of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    /// The place of its URI.
    pub(super) uri: usize,
    pub(super) condition: Condition,
}

/// A VM that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vm {
    pub(super) name: String,
    pub(super) uuid: String,
    /// Where it is; at least one.
    pub(super) copies: Vec<Copy>,
    /// URIs that cannot be asked now, and why: a copy may run there.
    pub(super) silent: Vec<String>,
    /// Those of them where it was seen when they were last asked.
    pub(super) hidden: Vec<String>,
}

/// What a target turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resolution {
    Found(Vm),
    /// Every URI answers, and none knows it.
    Unknown,
    /// It cannot be told.
    Failed(String),
}

impl<L: Link> Uri<L> {
    pub(super) fn new(link: L) -> Uri<L> {
        Uri { link, seen: HashMap::new() }
    }

    /// The connection, after taking over what its keeper saw.
    pub(super) fn host(&mut self, now: Instant) -> Result<Arc<L::Host>, Failed> {
        if let Some(inventory) = self.link.inventory() {
            self.seen = inventory.into_iter().collect();
        }
        self.link.host(now)
    }

    /// Remembers what was found, and forgets what was asked for and not found.
    fn remember(&mut self, target: &Target, found: &[Found]) {
        self.seen.retain(|uuid, name| !means(target, name, uuid));
        for vm in found {
            self.seen.insert(vm.uuid.clone(), vm.name.clone());
        }
    }

    /// Remembers a whole list.
    pub(super) fn remember_all(&mut self, found: &[Found]) {
        self.seen = found.iter().map(|vm| (vm.uuid.clone(), vm.name.clone())).collect();
    }
}

fn means(target: &Target, name: &str, uuid: &str) -> bool {
    let target = target.as_str();
    let hex = |text: &str| text.replace('-', "").to_ascii_lowercase();
    target == name || hex(target) == hex(uuid)
}

/// Asks all URIs for a target.
pub(super) fn resolve<L: Link>(uris: &mut [Uri<L>], target: &Target, now: Instant) -> Resolution {
    let is_single = uris.len() == 1;
    let mut vm: Option<Vm> = None;
    let mut silent = Vec::new();
    for (place, uri) in uris.iter_mut().enumerate() {
        match uri.host(now).and_then(|host| host.find(target)) {
            Ok(found) => {
                if !is_single {
                    uri.remember(target, &found);
                }
                for found in found {
                    let copy = Copy { uri: place, condition: found.condition };
                    match &mut vm {
                        Some(vm) if vm.uuid == found.uuid => vm.copies.push(copy),
                        Some(vm) => return ambiguous(target, &vm.uuid, &found.uuid),
                        None => {
                            let (name, uuid) = (found.name, found.uuid);
                            let (silent, hidden) = (Vec::new(), Vec::new());
                            vm = Some(Vm { name, uuid, copies: vec![copy], silent, hidden });
                        }
                    }
                }
            }
            Err(Failed(reason)) => {
                uri.link.probe();
                silent.push((place, format!("{}: {reason}", uri.link.name())));
            }
        }
    }
    let Some(mut vm) = vm else {
        if silent.is_empty() {
            return Resolution::Unknown;
        }
        let reasons: Vec<String> = silent.into_iter().map(|(_, reason)| reason).collect();
        return Resolution::Failed(format!("not found, and not all URIs answer: {}", reasons.join("; ")));
    };
    for (place, reason) in silent {
        for (uuid, name) in &uris[place].seen {
            if *uuid == vm.uuid {
                vm.hidden.push(reason.clone());
            } else if means(target, name, uuid) {
                return ambiguous(target, &vm.uuid, uuid);
            }
        }
        vm.silent.push(reason);
    }
    Resolution::Found(vm)
}

fn ambiguous(target: &Target, one: &str, other: &str) -> Resolution {
    let target = target.as_str();
    Resolution::Failed(format!("{target:?} means two VMs, {one} and {other}: ask by UUID, or rename one"))
}
