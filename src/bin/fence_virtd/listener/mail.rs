//! Messages to the listeners' threads, and the handle that sends them.

use std::sync::Arc;

use crate::job::Completion;
use crate::serial_event::{SerialEvent, SerialSink};
use fence_virt::fence::{Answer, ListenerName};
use fence_virt::session::Policy;
use fence_virt::sys::mailbox::MailboxSender;

/// The worker's answer to a request.
#[derive(Debug)]
pub(super) struct Answered {
    /// Number that the listener gave the request.
    pub(super) request: u64,
    pub(super) answer: Answer,
    pub(super) completion: Completion,
}

/// Message to a listener whose clients connect.
#[derive(Debug)]
pub(super) enum SessionMail {
    Answered(Answered),
    /// Authentication policy for clients that connect from now on.
    Policy(Arc<Policy>),
    /// Take no new requests, end when those in flight are answered.
    Stop,
    /// End now: requests in flight fail.
    Abort,
}

/// Message to the serial listener.
#[derive(Debug)]
pub(super) enum SerialMail {
    Answered(Answered),
    Line(SerialEvent),
    /// Take no new requests, end when those in flight are answered.
    Stop,
    /// End now: requests in flight fail.
    Abort,
}

impl SessionMail {
    /// Posts answers into a mailbox; a listener that has ended gives them back.
    pub(super) fn answers(mailbox: MailboxSender<SessionMail>) -> impl Fn(Answered) -> Result<(), Answered> {
        move |answered| match mailbox.post(SessionMail::Answered(answered)) {
            Err(SessionMail::Answered(answered)) => Err(answered),
            _ => Ok(()),
        }
    }
}

impl SerialMail {
    /// Posts answers into a mailbox; a listener that has ended gives them back.
    pub(super) fn answers(mailbox: MailboxSender<SerialMail>) -> impl Fn(Answered) -> Result<(), Answered> {
        move |answered| match mailbox.post(SerialMail::Answered(answered)) {
            Err(SerialMail::Answered(answered)) => Err(answered),
            _ => Ok(()),
        }
    }
}

/// A listener, as other threads hold it.
#[derive(Debug, Clone)]
pub(crate) struct ListenerHandle {
    pub(super) name: ListenerName,
    pub(super) mailbox: ListenerMailbox,
}

#[derive(Debug, Clone)]
pub(super) enum ListenerMailbox {
    Sessions(MailboxSender<SessionMail>),
    Serial(MailboxSender<SerialMail>),
}

// A listener that has ended needs no messages; its end ends the daemon.
impl ListenerHandle {
    /// Its name, as in the configuration.
    pub(crate) fn name(&self) -> &ListenerName {
        &self.name
    }

    /// Makes the listener take no new requests, and end when those in flight are answered.
    pub(crate) fn stop(&self) {
        match &self.mailbox {
            ListenerMailbox::Sessions(mailbox) => drop(mailbox.post(SessionMail::Stop)),
            ListenerMailbox::Serial(mailbox) => drop(mailbox.post(SerialMail::Stop)),
        }
    }

    /// Makes the listener end now; requests in flight fail.
    pub(crate) fn abort(&self) {
        match &self.mailbox {
            ListenerMailbox::Sessions(mailbox) => drop(mailbox.post(SessionMail::Abort)),
            ListenerMailbox::Serial(mailbox) => drop(mailbox.post(SerialMail::Abort)),
        }
    }

    /// Replaces the authentication policy; lines have none.
    pub(crate) fn adopt(&self, policy: Arc<Policy>) {
        if let ListenerMailbox::Sessions(mailbox) = &self.mailbox {
            drop(mailbox.post(SessionMail::Policy(policy)));
        }
    }

    /// Receiver for the lines of VMs, of a serial listener.
    pub(crate) fn serial_sink(&self) -> Option<SerialSink> {
        let ListenerMailbox::Serial(mailbox) = &self.mailbox else { return None };
        let mailbox = mailbox.clone();
        Some(Arc::new(move |event| drop(mailbox.post(SerialMail::Line(event)))))
    }
}
