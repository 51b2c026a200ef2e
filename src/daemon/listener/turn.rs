use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use super::sessions::Sessions;
use super::{Front, Mail};
use crate::daemon::worker::Message;
use crate::session::Policy;
use crate::sys::mailbox::{Address, Mailbox, mailbox};
use crate::sys::poll::{Interest, PollSet};

/// A bound listener, ready to be run by its thread.
pub(crate) struct Listener {
    name: &'static str,
    front: Option<Box<dyn Front>>,
    policy: Arc<Policy>,
    address: Address<Mail>,
    mailbox: Mailbox<Mail>,
}

/// Where a listener's authenticated requests go.
pub(crate) type Outlet = Sender<Message>;

impl Listener {
    pub(super) fn new(
        name: &'static str,
        front: Box<dyn Front>,
        policy: Arc<Policy>,
    ) -> Result<Listener, String> {
        let (address, mailbox) = mailbox().map_err(|error| format!("{name}: {error}"))?;
        Ok(Listener { name, front: Some(front), policy, address, mailbox })
    }

    /// Its kind, as in the configuration.
    pub(crate) fn name(&self) -> &'static str {
        self.name
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
    pub(crate) fn run(mut self, jobs: Outlet) -> io::Result<()> {
        let mut sessions = Sessions::new(self.name, self.policy.clone(), jobs, self.address.clone());
        loop {
            self.turn(&mut sessions)?;
            if self.front.is_none() && sessions.is_empty() {
                return Ok(());
            }
        }
    }

    /// One turn: wait, look at the clock once, attend to everything that is ready.
    fn turn(&mut self, sessions: &mut Sessions) -> io::Result<()> {
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
            self.read_mail(sessions, now);
        }
        if let Some(front) = &mut self.front {
            front.attend(&front_ready, sessions, now);
        }
        Ok(())
    }

    fn read_mail(&mut self, sessions: &mut Sessions, now: Instant) {
        for mail in self.mailbox.take() {
            match mail {
                Mail::Answered { session, answer, report } => {
                    sessions.answered(session, &answer, &report, now)
                }
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
