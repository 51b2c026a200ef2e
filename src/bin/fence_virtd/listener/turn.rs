use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use super::lines::Lines;
use super::sessions::Sessions;
use super::{Front, Mail};
use crate::status::Counts;
use crate::worker::Message;
use fence_virt::fence::ListenerName;
use fence_virt::session::Policy;
use fence_virt::sys::mailbox::{Address, Mailbox, mailbox};
use fence_virt::sys::poll::{Interest, PollSet};

/// A bound listener, ready to be run by its thread.
pub(crate) struct Listener {
    counts: Arc<Counts>,
    kind: Kind,
    address: Address<Mail>,
    mailbox: Mailbox<Mail>,
}

enum Kind {
    /// Clients come, ask and go.
    Sessions { front: Box<dyn Front>, policy: Arc<Policy> },
    /// The lines of VMs, which watchers bring.
    Lines,
}

/// Where a listener's authenticated requests go.
pub(crate) type Outlet = Sender<Message>;

impl Listener {
    pub(super) fn of_sessions(
        name: ListenerName,
        front: Box<dyn Front>,
        policy: Arc<Policy>,
    ) -> Result<Listener, String> {
        Listener::new(name, Kind::Sessions { front, policy })
    }

    pub(super) fn of_lines(name: ListenerName) -> Result<Listener, String> {
        Listener::new(name, Kind::Lines)
    }

    fn new(name: ListenerName, kind: Kind) -> Result<Listener, String> {
        let (address, mailbox) = mailbox().map_err(|error| format!("{name}: {error}"))?;
        Ok(Listener { counts: Arc::new(Counts::new(name)), kind, address, mailbox })
    }

    /// Its name, as in the configuration.
    pub(crate) fn name(&self) -> &ListenerName {
        self.counts.name()
    }

    /// What it counts.
    pub(crate) fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Where to tell it to stop.
    pub(crate) fn address(&self) -> Address<Mail> {
        self.address.clone()
    }

    /// Takes requests and posts them to `jobs` until it is told to stop and
    /// all that it took are answered.
    ///
    /// # Errors
    ///
    /// poll(2)'s, with which no listener can go on.
    pub(crate) fn run(self, jobs: Outlet) -> io::Result<()> {
        match self.kind {
            Kind::Sessions { front, policy } => {
                let sessions = Sessions::new(self.counts, policy, jobs, self.address);
                Turns { front: Some(front), sessions, mailbox: self.mailbox }.run()
            }
            Kind::Lines => Lines::new(self.counts, jobs, self.address).run(&self.mailbox),
        }
    }
}

/// The loop of a listener with sessions.
struct Turns {
    front: Option<Box<dyn Front>>,
    sessions: Sessions,
    mailbox: Mailbox<Mail>,
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
                Mail::Answered { session, answer, report } => {
                    sessions.answered(session, &answer, &report, now)
                }
                Mail::Policy(policy) => sessions.adopt(policy),
                // Lines are the serial listener's.
                Mail::Line(_) => {}
                Mail::Stop => {
                    self.front = None;
                    sessions.close_unauthenticated();
                }
                Mail::Abort => {
                    self.front = None;
                    sessions.abort(now);
                }
            }
        }
    }
}
