//! Ends of sessions without an answer: hang-ups, misconduct, refusals.

use std::sync::Arc;
use std::{fmt, io};

use log::debug;

use super::call_back::with_sender;
use super::probe_rows::is_quiet;
use super::sessions::{LiveSession, SessionId, Sessions};
use crate::job::RequestLabel;
use crate::status::Refusal;
use fence_virt::fence::{KeyedSource, ListenerName, Request, Source};
use fence_virt::session::{Misconduct, is_probe};
use fence_virt::sys::error_text;
use fence_virt::time::Instant;

impl LiveSession {
    /// Requester, as far as the client has proven it: the VM whose own key it has, or its address.
    pub(super) fn proven_source(&self) -> Source {
        match self.machine.holder() {
            Some(holder) => {
                Source::Key(Arc::new(KeyedSource { holder: holder.clone(), via: self.source.clone() }))
            }
            None => self.source.clone(),
        }
    }

    /// Notes what the session's signed request asks for, if that is a question of a probe; logs it if not.
    pub(super) fn note_request(&mut self, listener: &ListenerName, request: &Request) {
        if is_probe(request.operation, request.target.as_str()) {
            self.probe = Some(Box::new(request.target.clone()));
        } else {
            debug!("{listener}: {}: {}: well-formed and signed", self.source, RequestLabel(request));
        }
    }
}

impl Sessions {
    pub(super) fn hung_up(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get(&id) else { return };
        if let Some(misconduct) = session.machine.on_hang_up() {
            return self.refuse_misconduct(id, misconduct, now);
        }
        debug!("{}: {}: the client hung up", self.dispatcher.log.listener(), session.source);
        self.sessions.remove(&id);
    }

    pub(super) fn refuse_misconduct(&mut self, id: SessionId, misconduct: Misconduct, now: Instant) {
        self.refuse(id, Refusal::from(&misconduct), misconduct, now);
    }

    pub(super) fn refuse_unreachable(&mut self, id: SessionId, error: io::Error, now: Instant) {
        let callback = self.sessions.get(&id).and_then(|session| session.callback.as_ref());
        let port = callback.map_or(0, |callback| callback.address.port());
        let reason =
            format!("cannot call back to TCP port {port}: {} (blocked by a firewall?)", error_text(&error));
        self.refuse(id, Refusal::Unreachable, reason, now);
    }

    /// Closes a session without an answer. The worker drops its request, unless it has begun it.
    pub(super) fn refuse(
        &mut self,
        id: SessionId,
        refusal: Refusal,
        reason: impl fmt::Display,
        now: Instant,
    ) {
        let Some(session) = self.sessions.remove(&id) else { return };
        session.cancel.cancel();
        if let Some(name) = session.probe.as_deref().filter(|_| is_quiet(refusal)) {
            // One that the worker has, or has answered, counts with its answer.
            if session.machine.is_authenticated() {
                return;
            }
            if self.log().may_be_quiet(now) {
                return self.log().log_probe(&session.source, name, now);
            }
        }
        if refusal == Refusal::HungUp && session.machine.is_waiting() {
            // The line of its answer, which is still to come, says so at every level.
            debug!("{}: {}: {reason}", self.dispatcher.log.listener(), session.source);
            return self.log().count_refusal(refusal);
        }
        let reason = with_sender(session.callback.as_ref(), reason);
        self.log().log_refusal(refusal, Some(&session.source), reason, now);
    }
}
