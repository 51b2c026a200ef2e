//! Datagrams of a multicast listener, and the call-backs to the addresses in them.

use std::fmt;

use log::debug;

use super::call_back::{CallBack, with_sender};
use super::dispatcher::late;
use super::sessions::Sessions;
use super::stream::{NO_DESCRIPTOR, NonblockingStream, is_out_of_descriptors};
use crate::job::RequestLabel;
use crate::status::Refusal;
use fence_virt::fence::{Request, Source};
use fence_virt::session::{ServerSession, is_probe};
use fence_virt::sys::error_text;
use fence_virt::time::Instant;
use fence_virt::wire::PACKET_LEN;

impl Sessions {
    /// Drops a datagram that may have waited since this time: an agent that still waits repeats it.
    pub(super) fn drop_late_datagram(
        &mut self,
        bytes: &[u8; PACKET_LEN],
        since: Instant,
        sender: Option<&Source>,
        now: Instant,
    ) {
        if let (Some(sender), Ok(checked)) = (sender, self.policy.check(bytes)) {
            let Request { operation, target, .. } = &checked.packet.request;
            if is_probe(*operation, target.as_str()) && self.log().may_be_quiet(now) {
                return self.log().log_probe(sender, target, now);
            }
        }
        self.drop_datagram(Refusal::Late, sender, late(since), now);
    }

    /// Checks a datagram of this sender, received on the interface with this index, and calls back the
    /// address in it.
    pub(super) fn call_back(
        &mut self,
        bytes: &[u8; PACKET_LEN],
        interface: u32,
        sender: Option<Source>,
        now: Instant,
    ) {
        let checked = match self.policy.check(bytes) {
            Ok(checked) => checked,
            Err(misconduct) => {
                return self.drop_datagram(Refusal::from(&misconduct), sender.as_ref(), misconduct, now);
            }
        };
        let address = match checked.packet.callback(interface) {
            Ok(address) => address,
            Err(error) => return self.drop_datagram(Refusal::Malformed, sender.as_ref(), error, now),
        };
        let request = &checked.packet.request;
        let source = Source::ip(address.ip());
        let sender = sender.filter(|sender| *sender != source);
        let callback = CallBack { address, identity: checked.identity(), sender };
        let is_it = |other: &CallBack| other.address == address && other.identity == callback.identity;
        let is_in_progress =
            self.sessions.values().any(|session| session.callback.as_ref().is_some_and(is_it));
        if is_in_progress || self.dispatcher.is_duplicate(&callback.identity, now) {
            if is_probe(request.operation, request.target.as_str()) {
                return;
            }
            let listener = self.log().listener();
            return debug!("{listener}: {address}: {}: dropped as a duplicate", RequestLabel(request));
        }
        let Some(nonce) = self.nonce(now) else { return };
        let mut connected = NonblockingStream::connect(address);
        let shortage = connected.as_ref().err().is_some_and(is_out_of_descriptors);
        if shortage && self.make_room(Some(&source), Some(&callback), NO_DESCRIPTOR, now) {
            connected = NonblockingStream::connect(address);
        }
        match connected {
            Ok(stream) => {
                let machine = ServerSession::called_back(self.policy.clone(), nonce, &checked, now);
                let id = self.admit(stream, machine, source, Some(callback), now);
                if let Some(session) = id.and_then(|id| self.sessions.get_mut(&id)) {
                    session.note_request(self.dispatcher.log.listener(), request);
                }
            }
            Err(error) => {
                let port = address.port();
                let reason = format!("cannot call back to TCP port {port}: {}", error_text(&error));
                let reason = with_sender(Some(&callback), reason);
                self.log().log_refusal(Refusal::Unreachable, Some(&source), reason, now);
            }
        }
    }

    fn drop_datagram(
        &mut self,
        refusal: Refusal,
        sender: Option<&Source>,
        reason: impl fmt::Display,
        now: Instant,
    ) {
        self.log().log_refusal(refusal, sender, format_args!("dropped a datagram: {reason}"), now);
    }
}
