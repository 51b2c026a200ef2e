//! Control of a listener by other threads.

use std::sync::Arc;

use super::serial_lines::SerialMail;
use super::service::Mail;
use super::sessions::{SessionMail, SessionsUpdate};
use crate::serial_event::SerialSink;
use crate::status::{KeysInForce, Reception};
use fence_virt::fence::ListenerName;
use fence_virt::origins::Prefix;
use fence_virt::session::Policy;
use fence_virt::sys::mailbox::MailboxSender;

/// Handle of a listener.
#[derive(Debug, Clone)]
pub(crate) struct ListenerHandle {
    pub(super) name: ListenerName,
    pub(super) mailbox: ListenerMailbox,
    pub(super) keys: KeysInForce,
    pub(super) reception: Reception,
}

/// Mailbox of a listener, by its kind.
#[derive(Debug, Clone)]
pub(super) enum ListenerMailbox {
    Sessions(MailboxSender<SessionMail>),
    Serial(MailboxSender<SerialMail>),
}

// Messages to a listener that has ended are dropped: its end ends the daemon.
impl ListenerHandle {
    /// Name in the configuration.
    pub(crate) fn name(&self) -> &ListenerName {
        &self.name
    }

    /// Makes the listener take no more requests, and end once those in flight are answered.
    pub(crate) fn stop(&self) {
        match &self.mailbox {
            ListenerMailbox::Sessions(mailbox) => drop(mailbox.post(Mail::Stop)),
            ListenerMailbox::Serial(mailbox) => drop(mailbox.post(Mail::Stop)),
        }
    }

    /// Makes the listener end now; requests in flight fail.
    pub(crate) fn abort(&self) {
        match &self.mailbox {
            ListenerMailbox::Sessions(mailbox) => drop(mailbox.post(Mail::Abort)),
            ListenerMailbox::Serial(mailbox) => drop(mailbox.post(Mail::Abort)),
        }
    }

    /// Replaces the authentication policy for requests from now on; serial lines have none.
    pub(crate) fn set_policy(&self, policy: Arc<Policy>) {
        if let ListenerMailbox::Sessions(mailbox) = &self.mailbox {
            self.keys.set(&policy);
            drop(mailbox.post(Mail::Update(SessionsUpdate::Policy(policy))));
        }
    }

    /// Replaces the prefixes of this host's links. Returns false if the listener needs none, or has ended.
    pub(super) fn set_prefixes(&self, prefixes: &Arc<[Prefix]>) -> bool {
        let ListenerMailbox::Sessions(mailbox) = &self.mailbox else { return false };
        mailbox.post(Mail::Update(SessionsUpdate::Prefixes(prefixes.clone()))).is_ok()
    }

    /// Reception, to be set by who connects to the lines of a serial listener.
    pub(crate) fn reception(&self) -> &Reception {
        &self.reception
    }

    /// Returns the receiver for the lines of VMs, if this is a serial listener.
    pub(crate) fn serial_sink(&self) -> Option<SerialSink> {
        let ListenerMailbox::Serial(mailbox) = &self.mailbox else { return None };
        let mailbox = mailbox.clone();
        Some(Arc::new(move |event| drop(mailbox.post(Mail::Update(event)))))
    }
}
