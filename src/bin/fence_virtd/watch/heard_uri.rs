//! Reception of a serial listener: the URIs whose VMs a watcher follows.

use super::change_handler::DomainObserver;
use super::domain_query::DomainQuery;
use super::serial_scope::local_uris;
use crate::libvirt::{DomainRun, LibvirtResult};
use crate::serial_event::LineId;
use crate::status::{Channel, Reception};
use fence_virt::config::SerialConfig;
use fence_virt::domain_xml::Devices;
use fence_virt::fence::Uuid;
use fence_virt::time::Instant;

/// Returns the channels of a serial listener before its watchers are connected.
pub(super) fn unfollowed(config: &SerialConfig, backend: &[String]) -> Vec<Channel> {
    let closed = |uri: &String| Channel::closed(uri, not_followed(uri));
    let channels: Vec<Channel> = local_uris(config, backend).map(closed).collect();
    if channels.is_empty() {
        return vec![Channel::closed("", "no libvirt URI with VMs of this host is configured")];
    }
    channels
}

fn not_followed(uri: &str) -> String {
    format!("no connection to {uri}: the lines of VMs that start there are not served")
}

/// Observer that records whether the VMs of its URI are followed, and passes everything on.
pub(super) struct HeardUri<O> {
    pub(super) reception: Reception,
    pub(super) uri: String,
    pub(super) inner: O,
}

impl<O: DomainObserver> DomainObserver for HeardUri<O> {
    fn running(&mut self, vm: &DomainRun, devices: Devices, now: Instant) {
        self.inner.running(vm, devices, now);
    }

    fn stopped(&mut self, uuid: Uuid) {
        self.inner.stopped(uuid);
    }

    fn synced(&mut self) {
        self.reception.set_channel(Channel::open(&self.uri));
        self.inner.synced();
    }

    fn lost(&mut self) {
        self.reception.set_channel(Channel::closed(&self.uri, not_followed(&self.uri)));
        self.inner.lost();
    }

    fn line_lost(&mut self, line: LineId, now: Instant) {
        self.inner.line_lost(line, now);
    }

    fn turn(&mut self, query: &dyn DomainQuery, now: Instant) -> LibvirtResult {
        self.inner.turn(query, now)
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::fake::Observed;
    use fence_virt::config::SerialMode;

    fn config() -> SerialConfig {
        SerialConfig { uri: None, path: None, mode: SerialMode::Serial }
    }

    #[test]
    fn a_uri_is_heard_while_its_vms_are_followed() {
        let uri = "test:///default".to_owned();
        let reception = Reception::new(None);
        reception.set_channels(unfollowed(&config(), std::slice::from_ref(&uri)));
        assert!(reception.state().is_deaf);
        let observed = Observed::default();
        let mut heard = HeardUri { reception: reception.clone(), uri, inner: observed.clone() };
        heard.synced();
        assert_eq!(reception.state().open, ["test:///default"]);
        heard.lost();
        let state = reception.state();
        assert!(state.is_deaf && state.faults[0].contains("no connection to test:///default"), "{state:?}");
        assert_eq!(observed.take(), ["synced", "lost"]);
    }

    #[test]
    fn a_listener_without_a_uri_of_this_host_hears_nothing() {
        let channels = unfollowed(&config(), &["qemu+ssh://other/system".to_owned()]);
        assert!(matches!(&channels[..], [Channel { fault: Some(_), .. }]), "{channels:?}");
    }
}
