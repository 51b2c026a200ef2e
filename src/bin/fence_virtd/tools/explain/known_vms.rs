//! VMs of this host, as far as libvirt and the fence agents answer.

use std::sync::Arc;
use std::thread;

use crate::access::{CidTable, DomainLookup, VmCopy};
use crate::libvirt::{Connection, DomainRun, FoundDomain, Host, LibvirtError, LibvirtResult};
use crate::tools::service_reply::{NoReply, REPLY_TIMEOUT, bounded, join};
use fence_virt::config::{AgentConfig, Config, ListenerConfig};
use fence_virt::domain_xml::Devices;
use fence_virt::fence::{Domain, PowerState, UriIndex, Uuid};
#[cfg(feature = "agent-backend")]
use fence_virt::fence_agent::AgentVm;

/// VM at a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownVm {
    pub(super) domain: Arc<Domain>,
    pub(super) is_running: bool,
    /// Devices, if they were asked for and can be read.
    pub(super) devices: Option<Devices>,
}

/// URI or agent with its VMs.
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
    /// Agents of the backend.
    pub(super) agents: Vec<UriVms>,
    /// Further URIs, of serial listeners.
    pub(super) others: Vec<UriVms>,
}

impl KnownVms {
    /// Asks libvirt for the VMs, and for the devices of those that `wants` selects; all URIs at once, within
    /// [`REPLY_TIMEOUT`]. Agents are asked for lists meanwhile, with their own limits.
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
        let query = |uri: &str| {
            begun.clone().map_err(NoReply::Failed)?;
            let text = text.to_owned();
            bounded(uri, move |uri| list(uri, wants, &text).map_err(|error| error.to_string()))
        };
        let (mut all, agents): (Vec<UriVms>, _) = thread::scope(|scope| {
            let agents = config.backend.agents().iter();
            let agents: Vec<_> = agents.map(|agent| scope.spawn(move || agent_vms(agent))).collect();
            let threads: Vec<_> =
                backend.iter().chain(&others).map(|uri| scope.spawn(|| query(uri))).collect();
            let uris = backend.iter().chain(&others).zip(threads);
            let uris = uris.map(|(uri, thread)| UriVms {
                uri: uri.clone(),
                vms: join(thread).map_err(|none| unanswered(uri, none)),
            });
            let uris = uris.collect();
            (uris, agents.into_iter().filter_map(|agent| agent.join().ok()).collect())
        });
        let others = all.split_off(backend.len());
        KnownVms { backend: all, agents, others }
    }

    /// All URIs.
    pub(super) fn uris(&self) -> impl Iterator<Item = &UriVms> {
        self.backend.iter().chain(&self.others)
    }

    /// VMs of the backend with this name or UUID, each with its place.
    pub(super) fn named<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (&'a str, &'a KnownVm)> {
        let places = self.backend.iter().chain(&self.agents);
        places.flat_map(move |place| place.named(text).map(|vm| (place.uri.as_str(), vm)))
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
        self.uris().chain(&self.agents).find_map(|place| place.vms.as_ref().err()).map(String::as_str)
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

/// As the backend's queries, on what libvirt and the agents have told.
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

/// Sentence about a URI that has not answered.
fn unanswered(uri: &str, no_reply: NoReply) -> String {
    let reason = match no_reply {
        NoReply::Failed(reason) => reason,
        NoReply::TimedOut => format!("no answer within {} s", REPLY_TIMEOUT.as_secs()),
    };
    format!("{uri} cannot be asked: {reason}")
}

/// VMs of an agent by its list. They have no devices that tell a requester.
#[cfg(feature = "agent-backend")]
fn agent_vms(config: &AgentConfig) -> UriVms {
    use crate::backend::agent::{AgentVms, ask_vms};
    let place = config.place();
    let vms = match ask_vms(config) {
        Ok(AgentVms::Listed(vms, _)) => Ok(vms),
        Ok(AgentVms::One(vm)) => Ok(vec![vm]),
        Ok(AgentVms::Unlisted) => Err("it has no list".to_owned()),
        Err(reason) => Err(reason),
    };
    let vms = vms.map_err(|reason| format!("{place} does not tell its VMs: {reason}"));
    let known = |vm: AgentVm| KnownVm {
        is_running: vm.state == Some(PowerState::Running),
        domain: Arc::new(Domain { name: vm.name, uuid: vm.uuid }),
        devices: None,
    };
    UriVms { uri: place, vms: vms.map(|vms| vms.into_iter().map(known).collect()) }
}

#[cfg(not(feature = "agent-backend"))]
fn agent_vms(config: &AgentConfig) -> UriVms {
    let place = config.place();
    let vms = Err(format!("{place} cannot be asked: this fence_virtd was built without the backend agent"));
    UriVms { uri: place, vms }
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
