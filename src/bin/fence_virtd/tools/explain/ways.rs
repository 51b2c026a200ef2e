//! Listeners by which a requester comes, and its identity there.

use std::net::IpAddr;
use std::sync::Arc;

use super::asked::AskedRequester;
use super::known_vms::{KnownVm, KnownVms};
use crate::access::KeyReader;
use crate::access::vm_key_files::{self, VmKeyFile, VmKeyFiles};
use crate::watch;
use fence_virt::config::{Config, ListenerConfig, MulticastConfig, SerialConfig, TcpConfig};
use fence_virt::fence::{Domain, KEY_ID_LEN, KeyHolder, KeyId, KeyedSource, ListenerName, Source, Uuid};

/// Way of a requester to the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// The requester has this identity, and is best listed in a group as `listed_as`.
    Open { source: Source, listed_as: Source },
    /// It cannot come by this listener, for this reason.
    Closed(String),
    /// It is not known whether it comes by this listener, or as whom.
    Unknown(String),
}

impl Way {
    fn of(source: Source) -> Way {
        Way::Open { source: source.clone(), listed_as: source }
    }
}

/// Returns each listener of the configuration with the requester's way by it.
pub(super) fn ways(config: &Config, asked: &AskedRequester, known: &KnownVms) -> Vec<(ListenerName, Way)> {
    let way = |listener: &ListenerConfig| match (listener, asked) {
        (ListenerConfig::Tcp(tcp), AskedRequester::Address(address)) => by_tcp(tcp, *address),
        (ListenerConfig::Multicast(multicast), AskedRequester::Address(address)) => {
            by_multicast(multicast, *address)
        }
        (ListenerConfig::Vsock(_), AskedRequester::Cid(cid)) => Way::of(Source::Cid(*cid)),
        (ListenerConfig::Vsock(_), AskedRequester::Vm(text)) => by_vsock(known, text),
        (ListenerConfig::Serial(serial), AskedRequester::Vm(text)) => by_line(config, serial, known, text),
        (ListenerConfig::Tcp(_) | ListenerConfig::Multicast(_), AskedRequester::Vm(_)) => {
            Way::Closed("it knows requesters by their addresses: give that of the VM".to_owned())
        }
        (ListenerConfig::Tcp(_) | ListenerConfig::Multicast(_), AskedRequester::Cid(_)) => {
            Way::Closed("it knows requesters by their addresses".to_owned())
        }
        (ListenerConfig::Serial(_), AskedRequester::Key(_)) => {
            Way::Closed("its requests have no key".to_owned())
        }
        (_, AskedRequester::Key(name)) => by_key(config, name),
        (ListenerConfig::Vsock(_), AskedRequester::Address(_)) => {
            Way::Closed("it knows requesters by their CIDs".to_owned())
        }
        (ListenerConfig::Serial(_), AskedRequester::Address(_) | AskedRequester::Cid(_)) => {
            Way::Closed("it knows requesters by the lines of their VMs".to_owned())
        }
    };
    config.listeners.iter().map(|listener| (listener.name.clone(), way(&listener.config))).collect()
}

fn by_tcp(tcp: &TcpConfig, address: IpAddr) -> Way {
    let listens = tcp.address;
    // A socket of IPv6 that listens on all addresses takes IPv4, too.
    let is_dual = listens.is_ipv6() && listens.is_unspecified();
    if listens.is_ipv4() != address.is_ipv4() && !is_dual {
        return Way::Closed(format!("it listens on {listens}, an address of the other family"));
    }
    if listens.is_loopback() && !address.is_loopback() {
        return Way::Closed(format!("it listens on {listens}, which no other host and no VM reaches"));
    }
    Way::of(Source::Ip(address))
}

/// The key may come from any address or CID, which means nothing then.
fn by_key(config: &Config, name: &str) -> Way {
    let VmKeyFiles { files, errors } = vm_key_files::list(&config.keys, &KeyReader::this_process());
    let found = files.into_iter().find(|file| file.name == name);
    match (found, errors.first()) {
        (Some(VmKeyFile { name, uuid, .. }), _) => {
            // Groups do not look at the key.
            let holder = Arc::new(KeyHolder { name, uuid, key: KeyId::from_bytes([0; KEY_ID_LEN]) });
            let via = Source::Ip(IpAddr::from([0; 4]));
            Way::of(Source::Key(Arc::new(KeyedSource { holder, via })))
        }
        (None, Some(problem)) => Way::Unknown(problem.to_string()),
        (None, None) => Way::Closed(format!("no key of the configuration has the name {name:?}")),
    }
}

fn by_multicast(multicast: &MulticastConfig, address: IpAddr) -> Way {
    if multicast.address.is_ipv4() != address.is_ipv4() {
        return Way::Closed(format!("its group is {}, of the other family", multicast.address));
    }
    Way::of(Source::Ip(address))
}

fn by_vsock(known: &KnownVms, text: &str) -> Way {
    let vms: Vec<&KnownVm> = known.named(text).map(|(_, vm)| vm).collect();
    let cids = vms.iter().filter(|vm| vm.is_running).filter_map(|vm| vm.devices.as_ref());
    let cids: Vec<u32> = cids.flat_map(|devices| devices.cids.clone()).collect();
    match (cids.first(), one(&vms)) {
        // A CID may be another one after the next start, a UUID is not.
        (Some(cid), Some(domain)) => {
            Way::Open { source: Source::Cid(*cid), listed_as: Source::Domain(domain) }
        }
        (None, Some(domain)) => Way::Closed(format!(
            "{domain} has no CID: it does not run, or has no device <vsock> with an address"
        )),
        (_, None) => unidentified(known, text, vms.is_empty()),
    }
}

fn by_line(config: &Config, serial: &SerialConfig, known: &KnownVms, text: &str) -> Way {
    let uris: Vec<&String> = watch::local_uris(serial, config.backend.uris()).collect();
    let places = known.uris().filter(|place| uris.contains(&&place.uri));
    let vms: Vec<&KnownVm> = places.flat_map(|place| place.named(text)).collect();
    match one(&vms) {
        Some(domain) => {
            let has_line = |vm: &&KnownVm| {
                // XML that cannot be read speaks against nothing.
                vm.devices.as_ref().is_none_or(|devices| watch::has_socket(serial, devices))
            };
            match vms.iter().any(has_line) {
                true => Way::of(Source::Domain(domain)),
                false => Way::Closed(format!(
                    "{domain} has no line that this listener serves (mode, path; type unix, mode bind)"
                )),
            }
        }
        None => unidentified(known, text, vms.is_empty()),
    }
}

/// The VM, if all its copies are of one.
fn one(vms: &[&KnownVm]) -> Option<Arc<Domain>> {
    let first = vms.first()?;
    vms.iter().all(|vm| vm.domain.uuid == first.domain.uuid).then(|| first.domain.clone())
}

/// Way of a VM that libvirt does not tell.
fn unidentified(known: &KnownVms, text: &str, is_missing: bool) -> Way {
    match (known.failure(), Uuid::parse(text)) {
        _ if !is_missing => Way::Unknown("several VMs have this name: give the UUID".to_owned()),
        // By its UUID it is known without libvirt, though not by its name.
        (Some(_), Some(uuid)) => Way::of(Source::Domain(Arc::new(Domain { name: uuid.to_string(), uuid }))),
        (Some(reason), None) => Way::Unknown(format!("the VM of the requester is not known: {reason}")),
        (None, _) => Way::Unknown("this host has no VM of this name or UUID".to_owned()),
    }
}
