use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use super::Front;
use super::lines::Lines;
use super::mail::{ListenerHandle, ListenerMailbox, SerialMail, SessionMail};
use super::posting::Posting;
use super::sessions::Sessions;
use crate::inbox::Message;
use crate::status::Counts;
use fence_virt::fence::ListenerName;
use fence_virt::session::Policy;
use fence_virt::sys::mailbox::{Mailbox, MailboxSender, mailbox};
use fence_virt::sys::poll::{Interest, PollSet};

/// A bound listener, ready to be run by its thread.
pub(crate) struct Listener {
    counts: Arc<Counts>,
    kind: Kind,
}

enum Kind {
    /// Clients connect, ask and go.
    Sessions {
        front: Box<dyn Front>,
        policy: Arc<Policy>,
        address: MailboxSender<SessionMail>,
        mailbox: Mailbox<SessionMail>,
    },
    /// Watchers bring the lines of VMs.
    Serial { address: MailboxSender<SerialMail>, mailbox: Mailbox<SerialMail> },
}

/// Where a listener's authenticated requests go.
pub(crate) type Outlet = Sender<Message>;

impl Listener {
    pub(super) fn of_sessions(
        name: ListenerName,
        front: Box<dyn Front>,
        policy: Arc<Policy>,
    ) -> Result<Listener, String> {
        let (address, mailbox) = mailbox().map_err(|error| format!("{name}: {error}"))?;
        let kind = Kind::Sessions { front, policy, address, mailbox };
        Ok(Listener { counts: Arc::new(Counts::new(name)), kind })
    }

    pub(super) fn of_lines(name: ListenerName) -> Result<Listener, String> {
        let (address, mailbox) = mailbox().map_err(|error| format!("{name}: {error}"))?;
        Ok(Listener { counts: Arc::new(Counts::new(name)), kind: Kind::Serial { address, mailbox } })
    }

    /// Its counters.
    pub(crate) fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Handle for other threads.
    pub(crate) fn handle(&self) -> ListenerHandle {
        let mailbox = match &self.kind {
            Kind::Sessions { address, .. } => ListenerMailbox::Sessions(address.clone()),
            Kind::Serial { address, .. } => ListenerMailbox::Serial(address.clone()),
        };
        ListenerHandle { name: self.counts.name().clone(), mailbox }
    }

    /// Takes requests and posts them to `jobs` until it is told to stop and
    /// all that it took are answered.
    ///
    /// # Errors
    ///
    /// poll(2)'s, with which no listener can go on.
    pub(crate) fn run(self, jobs: Outlet) -> io::Result<()> {
        match self.kind {
            Kind::Sessions { front, policy, address, mailbox } => {
                let posting = Posting::new(self.counts.clone(), jobs, SessionMail::answers(address));
                let sessions = Sessions::new(self.counts, policy, posting);
                Turns { front: Some(front), sessions, mailbox }.run()
            }
            Kind::Serial { address, mailbox } => {
                let posting = Posting::new(self.counts.clone(), jobs, SerialMail::answers(address));
                Lines::new(self.counts, posting).run(&mailbox)
            }
        }
    }
}

/// The loop of a listener with sessions.
struct Turns {
    front: Option<Box<dyn Front>>,
    sessions: Sessions,
    mailbox: Mailbox<SessionMail>,
}

impl Turns {
    fn run(mut self) -> io::Result<()> {
        while self.front.is_some() || !self.sessions.is_empty() {
            self.turn()?;
        }
        Ok(())
    }

    /// One turn: wait, look at the clock once, attend to everything that is ready.
    fn turn(&mut self) -> io::Result<()> {
        let sessions = &mut self.sessions;
        let mut set = PollSet::new();
        let mail = set.add(self.mailbox.as_fd(), Interest::Read);
        let mut front_slots = Vec::new();
        if let Some(front) = &self.front {
            front.register(&mut set, &mut front_slots);
        }
        let session_slots = sessions.register(&mut set);
        let front_deadline = self.front.as_ref().and_then(|front| front.deadline());
        let wake = sessions.deadline().into_iter().chain(front_deadline).min();
        set.wait(wake.map(|at| at.saturating_duration_since(Instant::now())))?;

        let now = Instant::now();
        let mail = set.ready(mail);
        let front_ready: Vec<_> = front_slots.iter().map(|&slot| set.ready(slot)).collect();
        let session_ready: Vec<_> =
            session_slots.iter().map(|&(id, slot)| (id, set.ready(slot))).filter(|(_, r)| r.any()).collect();
        drop(set);

        // Deadlines first: what comes after them does not count. Then sessions, before mail: a hang-up
        // that came first is seen first.
        sessions.expire(now);
        for (id, ready) in session_ready {
            sessions.attend(id, ready, now);
        }
        if mail.any() {
            self.read_mail(now);
        }
        if let Some(front) = &mut self.front {
            front.attend(&front_ready, &mut self.sessions, now);
        }
        self.sessions.count();
        Ok(())
    }

    fn read_mail(&mut self, now: Instant) {
        let sessions = &mut self.sessions;
        for mail in self.mailbox.take() {
            match mail {
                SessionMail::Answered(answered) => sessions.answered(&answered, now),
                SessionMail::Policy(policy) => sessions.adopt(policy),
                SessionMail::Stop => {
                    self.front = None;
                    sessions.close_unauthenticated();
                }
                SessionMail::Abort => {
                    self.front = None;
                    sessions.abort(now);
                }
            }
        }
    }
}
