//! VMs of this host, as far as libvirt answers.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::access::{CidTable, DomainLookup, VmCopy};
use crate::libvirt::{Connection, DomainRun, FoundDomain, Host, LibvirtError, LibvirtResult};
use fence_virt::config::{Config, ListenerConfig};
use fence_virt::domain_xml::Devices;
use fence_virt::fence::{Domain, PowerState, UriIndex, Uuid};
use fence_virt::sys::with_timeout::with_timeout;

/// Time limit for all URIs together, which are asked side by side.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// VM at a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownVm {
    pub(super) domain: Arc<Domain>,
    pub(super) is_running: bool,
    /// Devices, if they were asked for and can be read.
    pub(super) devices: Option<Devices>,
}

/// URI with its VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UriVms {
    pub(super) uri: String,
    /// The VMs, or a sentence with the reason why they are not known.
    pub(super) vms: Result<Vec<KnownVm>, String>,
}

/// VMs of all URIs that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownVms {
    /// URIs of the backend, in the order of the configuration.
    pub(super) backend: Vec<UriVms>,
    /// Further URIs, of serial listeners.
    pub(super) others: Vec<UriVms>,
}

impl KnownVms {
    /// Asks libvirt for the VMs, and for the devices of those that `wants` selects.
    pub(super) fn ask(config: &Config, wants: fn(&FoundDomain, &str) -> bool, text: &str) -> KnownVms {
        let backend = config.backend.uris().to_vec();
        let own = |listener: &ListenerConfig| match listener {
            ListenerConfig::Serial(serial) => serial.uri.clone(),
            _ => None,
        };
        let mut others: Vec<String> =
            config.listeners.iter().filter_map(|listener| own(&listener.config)).collect();
        others.sort();
        others.dedup();
        others.retain(|uri| !backend.contains(uri));
        let begun = crate::libvirt::begin();
        let asked = |uri: &String| UriVms {
            uri: uri.clone(),
            vms: begun.clone().and_then(|()| bounded(uri.clone(), wants, text.to_owned())),
        };
        let of = |uris: &[String]| {
            thread::scope(|scope| {
                let threads: Vec<_> = uris.iter().map(|uri| scope.spawn(|| asked(uri))).collect();
                let panicked = || UriVms { uri: String::new(), vms: Err("its thread panicked".to_owned()) };
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
            })
        };
        KnownVms { backend: of(&backend), others: of(&others) }
    }

    /// All URIs.
    pub(super) fn all(&self) -> impl Iterator<Item = &UriVms> {
        self.backend.iter().chain(&self.others)
    }

    /// VMs of the backend with this name or UUID, each with its URI.
    pub(super) fn named<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (&'a str, &'a KnownVm)> {
        self.backend.iter().flat_map(move |uri| uri.named(text).map(|vm| (uri.uri.as_str(), vm)))
    }

    /// Table of the CIDs of the VMs that run at the URIs of the backend, as the watchers make it.
    pub(super) fn cids(&self) -> CidTable {
        let table = CidTable::new(self.backend.len());
        for (at, uri) in self.backend.iter().enumerate() {
            for vm in uri.vms.iter().flatten().filter(|vm| vm.is_running) {
                let cids = vm.devices.as_ref().map_or_else(Vec::new, |devices| devices.cids.clone());
                table.insert(UriIndex(at), DomainRun { domain: vm.domain.clone(), id: 0 }, cids);
            }
            table.set_complete(UriIndex(at), uri.vms.is_ok());
        }
        table
    }

    fn complete(&self) -> LibvirtResult {
        self.failure().map_or(Ok(()), |reason| Err(LibvirtError::Other(reason.to_owned())))
    }

    /// Reason why not all VMs are known.
    pub(super) fn failure(&self) -> Option<&str> {
        self.all().find_map(|place| place.vms.as_ref().err()).map(String::as_str)
    }
}

impl UriVms {
    /// VMs with this name, or this UUID.
    pub(super) fn named<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a KnownVm> {
        let uuid = Uuid::parse(text);
        let is_meant = move |vm: &&KnownVm| match uuid {
            Some(uuid) => vm.domain.uuid == uuid,
            None => vm.domain.name == text,
        };
        self.vms.iter().flatten().filter(is_meant)
    }
}

/// As the backend's queries, on what libvirt has told.
impl DomainLookup for &KnownVms {
    fn still_runs(&mut self, _uri: UriIndex, _vm: &DomainRun) -> LibvirtResult<bool> {
        Ok(true)
    }

    fn has_name(&mut self, domain: &Domain) -> LibvirtResult<bool> {
        self.complete()?;
        let mut named = self.named(&domain.name).map(|(_, vm)| vm.domain.uuid).peekable();
        Ok(named.peek().is_some() && named.all(|uuid| uuid == domain.uuid))
    }

    fn conflicts(&mut self, domain: &Domain) -> LibvirtResult<Vec<VmCopy>> {
        self.complete()?;
        let uuid = domain.uuid.to_string();
        let others = self.named(&uuid).filter(|(_, vm)| vm.domain.name != domain.name);
        let copy = |(place, vm): (&str, &KnownVm)| VmCopy {
            place: place.to_owned(),
            name: vm.domain.name.clone(),
            uuid: uuid.clone(),
        };
        Ok(others.map(copy).collect())
    }
}

fn bounded(uri: String, wants: fn(&FoundDomain, &str) -> bool, text: String) -> Result<Vec<KnownVm>, String> {
    let failed = |reason: String| format!("{uri} cannot be asked: {reason}");
    let query = {
        let uri = uri.clone();
        move || list(&uri, wants, &text)
    };
    match with_timeout(REPLY_TIMEOUT, query) {
        Ok(Some(vms)) => vms.map_err(|error| failed(error.to_string())),
        Ok(None) => Err(failed(format!("no answer within {} s", REPLY_TIMEOUT.as_secs()))),
        Err(error) => Err(failed(format!("cannot start a thread: {error}"))),
    }
}

/// Lists the VMs of a URI. Blocks while libvirt hangs.
fn list(uri: &str, wants: fn(&FoundDomain, &str) -> bool, text: &str) -> LibvirtResult<Vec<KnownVm>> {
    let connection = Connection::open(uri)?;
    let vm = |found: FoundDomain| {
        let handle = if wants(&found, text) { connection.by_uuid(&found.uuid)? } else { None };
        let xml = handle.map(|handle| handle.get_xml_desc(0)).transpose()?;
        let uuid = Uuid::parse(&found.uuid)
            .ok_or_else(|| LibvirtError::Other(format!("{:?} is not a UUID", found.uuid)))?;
        Ok(KnownVm {
            is_running: found.state.power == PowerState::Running,
            domain: Arc::new(Domain { name: found.name, uuid }),
            devices: xml.and_then(|xml| Devices::parse(&xml).ok()),
        })
    };
    connection.list()?.into_iter().map(vm).collect()
}
