//! Follows which VMs run and what devices they have, for listeners that know
//! their clients by them.
//!
//! 1. A thread for each URI opens a connection, asks for libvirt's events, and
//!    then lists the VMs that run: [`watcher`].
//! 2. An event only says which VM to look at again; what is, libvirt is asked.
//!    So events may come late, twice, in any order, and many at once: [`inbox`].
//! 3. A [`Follower`] is told: [`connector`] connects to the sockets of serial ports
//!    and channels and hands them to the serial listener, [`cid_observer`] keeps
//!    the table of vsock CIDs.
//! 4. A connection that is lost is opened again, and everything looked at anew.

mod census;
mod cid_observer;
mod claims;
mod connector;
mod inbox;
mod inventory;
mod survey;
mod watcher;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod libvirt_tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use crossbeam_channel::Sender;
use log::warn;

use crate::access::CidTable;
use crate::inbox::Message;
use crate::libvirt::{DomainRun, Failed};
use crate::serial_event::{LineId, SerialSink};
use crate::startup::{FirstAttempt, START_LIMIT, Startup, await_first};
use fence_virt::config::SerialConfig;
use fence_virt::domain_xml::Devices;
use fence_virt::fence::Uuid;

pub(crate) use inbox::Inbox;
pub(crate) use survey::{Lines, lines};

use census::Census;
use cid_observer::CidObserver;
use claims::Claims;
use connector::Connector;
use inventory::Inventory;
use watcher::{Handle, View, Watcher};

/// The serial listener's own URI, or else those of the backend.
fn uris_of_lines<'a>(config: &'a SerialConfig, backend: &'a [String]) -> &'a [String] {
    config.uri.as_ref().map_or(backend, std::slice::from_ref)
}

/// The URIs of this host whose VMs the serial listener serves.
pub(crate) fn local_uris<'a>(
    config: &'a SerialConfig,
    backend: &'a [String],
) -> impl Iterator<Item = &'a String> {
    uris_of_lines(config, backend).iter().filter(|uri| is_local(uri))
}

/// What is to be said of URIs whose VMs the serial listener cannot serve.
pub(crate) fn warn_of_remote(config: &SerialConfig, backend: &[String]) -> Vec<String> {
    let remote = uris_of_lines(config, backend).iter().filter(|uri| !is_local(uri));
    remote.map(|uri| format!("{uri} is another host's: the sockets of its VMs are not here")).collect()
}

/// Whether a URI is that of this host: `driver[+transport]://[user@][host][:port]/..`,
/// see <https://libvirt.org/uri.html>. A tunnel that is nameless cannot be seen.
fn is_local(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once("://") else { return true };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or("");
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    host.is_empty() || scheme.ends_with("+unix") || matches!(host, "localhost" | "127.0.0.1" | "::1")
}

/// Who wants to know which VMs run. It is called by the watcher's thread only.
trait Follower: Send {
    /// What it is called in the log.
    fn name(&self) -> &'static str;

    /// This VM runs and has these devices; what was said of it before is over.
    fn runs(&mut self, vm: &DomainRun, devices: Devices, now: Instant);

    /// This VM does not run any more.
    fn gone(&mut self, uuid: Uuid);

    /// Every VM that runs was told.
    fn synced(&mut self, uri: &str);

    /// The connection is lost: VMs may start and stop unseen.
    fn lost(&mut self);

    /// The listener lost this line.
    fn closed(&mut self, _line: LineId, _now: Instant) {}

    /// Does what is due; called only while there is a connection, and fails if that turns out to be gone.
    fn attend(&mut self, _census: &dyn Census, _now: Instant) -> Result<(), Failed> {
        Ok(())
    }

    /// When it wants to be attended to.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// The threads.
#[derive(Default)]
pub(crate) struct Watchers(Vec<Handle>);

impl Watchers {
    /// Follows the lines of the VMs for the serial listener at `listener`: at
    /// its own URI, or else at those of the backend.
    ///
    /// # Errors
    ///
    /// If there is no thread for it.
    pub(crate) fn follow_lines(
        &mut self,
        config: &SerialConfig,
        backend: &[String],
        listener: &SerialSink,
    ) -> Result<(), String> {
        let (claims, numbers) = (Claims::default(), Arc::new(AtomicU64::new(0)));
        for warning in warn_of_remote(config, backend) {
            warn!("serial: {warning}");
        }
        for uri in local_uris(config, backend) {
            let inbox = Inbox::default();
            let follower =
                Connector::new(config, listener.clone(), inbox.clone(), claims.clone(), numbers.clone());
            let mut handle = Watcher::start(uri, inbox, Box::new(View::new(Box::new(follower))))?;
            handle.first = handle.first.filter(|_| !backend.contains(uri));
            self.0.push(handle);
        }
        Ok(())
    }

    /// Follows which VM has which CID, for each URI of the backend.
    ///
    /// # Errors
    ///
    /// If there is no thread for it.
    pub(crate) fn follow_cids(&mut self, uris: &[String]) -> Result<CidTable, String> {
        let table = CidTable::new(uris.len());
        for (place, uri) in uris.iter().enumerate() {
            let mut follower = CidObserver { table: table.clone(), uri: place };
            if !is_local(uri) {
                // Its VMs have CIDs at their own host, and ask there.
                follower.synced(uri);
                continue;
            }
            let view = Box::new(View::new(Box::new(follower)));
            let handle = Watcher::start(uri, Inbox::default(), view)?;
            self.0.push(Handle { first: None, ..handle });
        }
        Ok(table)
    }

    /// Tells the worker of all VMs of these URIs, and of each change.
    ///
    /// # Errors
    ///
    /// If there is no thread for it.
    pub(crate) fn follow_vms(&mut self, uris: &[String], worker: &Sender<Message>) -> Result<(), String> {
        for (place, uri) in uris.iter().enumerate() {
            let inventory = Box::new(Inventory::new(place, worker.clone()));
            let handle = Watcher::start(uri, Inbox::default(), inventory)?;
            self.0.push(Handle { first: None, ..handle });
        }
        Ok(())
    }

    /// Waits for the first connections of those whose URI is not the
    /// backend's, which was waited for already; false if a signal says stop.
    ///
    /// # Errors
    ///
    /// A sentence that says which URI cannot be reached, and why.
    pub(crate) fn await_first(&mut self, startup: &Startup<'_>) -> Result<bool, String> {
        let deadline = Instant::now() + START_LIMIT;
        for handle in &mut self.0 {
            let Some(first) = handle.first.take() else { continue };
            let reason = match await_first(&first, deadline, startup.signals, "libvirt")? {
                FirstAttempt::Interrupted => return Ok(false),
                FirstAttempt::Made(Ok(())) => continue,
                FirstAttempt::Made(Err(reason)) => reason,
                FirstAttempt::ThreadEnded => "its thread has ended".to_owned(),
                FirstAttempt::TimedOut => "it does not answer".to_owned(),
            };
            let uri = &handle.uri;
            return Err(format!(
                "{}: cannot connect to {uri}: {reason} (wait_for_init waits for it)",
                handle.name
            ));
        }
        Ok(true)
    }

    /// Tells them to close their connections and end, and waits for those
    /// that do by `deadline`. One that hangs with its libvirtd is left behind.
    pub(crate) fn stop(self, deadline: Instant) {
        for handle in &self.0 {
            handle.inbox.stop();
        }
        for handle in self.0 {
            if !super::threads::join_by(handle.thread, deadline) {
                warn!("{}: {} does not answer: ending without it", handle.name, handle.uri);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_with_another_host_is_not_local() {
        for local in [
            "qemu:///system",
            "test:///default",
            "test+unix:///default?socket=/run/x@y",
            "qemu+unix:///session",
            "qemu+unix://anything/system",
            "qemu+tcp://localhost/system",
            "qemu+ssh://root@127.0.0.1:2222/system",
            "qemu+tls://[::1]/system",
            "xen",
        ] {
            assert!(is_local(local), "{local}");
        }
        for remote in [
            "qemu://other/system",
            "qemu+ssh://root@other/system",
            "qemu+tcp://192.0.2.1:16509/system",
            "qemu+tls://[2001:db8::1]/system",
            "test+libssh2://user@other/default?socket=/x",
        ] {
            assert!(!is_local(remote), "{remote}");
        }
    }
}
