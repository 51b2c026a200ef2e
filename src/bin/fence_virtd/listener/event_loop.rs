//! The poll(2) loop that all listeners share.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::life_questions::LifeQuestions;
use super::service::{Acceptor, Mail, Service, ServiceMail};
use crate::pauses::PauseReader;
use crate::status::Counts;
use fence_virt::sys::mailbox::Mailbox;
use fence_virt::sys::poll::{Interest, PollSet};
use fence_virt::time::Instant;

/// Event loop of a listener's thread.
pub(super) struct EventLoop<S: Service> {
    counts: Arc<Counts>,
    acceptor: Option<Box<dyn Acceptor<S>>>,
    pub(super) service: S,
    mailbox: Mailbox<ServiceMail<S>>,
    questions: LifeQuestions<S::Id>,
    pauses: PauseReader,
    /// Time since which connections that were not polled at that look may have input.
    unseen_since: Option<Instant>,
    is_stopping: bool,
}

impl<S: Service> EventLoop<S> {
    pub(super) fn new(
        counts: Arc<Counts>,
        acceptor: Option<Box<dyn Acceptor<S>>>,
        service: S,
        mailbox: Mailbox<ServiceMail<S>>,
        pauses: PauseReader,
    ) -> EventLoop<S> {
        EventLoop {
            counts,
            acceptor,
            service,
            mailbox,
            questions: LifeQuestions::default(),
            pauses,
            unseen_since: None,
            is_stopping: false,
        }
    }

    /// Runs until it is stopped, the last connection is closed, and the last question answered.
    /// Errors: error of poll(2).
    pub(super) fn run(mut self) -> io::Result<()> {
        while !self.is_stopping || self.service.open_count() > 0 || !self.questions.is_empty() {
            self.turn()?;
        }
        Ok(())
    }

    /// Waits once, then handles everything that is ready, with one reading of the clock:
    /// deadlines first, since input after them is too late; then updates, before connections, as a key
    /// that was taken away must not accept what is read later; then connections, before the
    /// other mail, so that a hang-up is seen before the answer; then questions, and new connections last.
    /// After a pause, input comes before deadlines, so that those who wait are told.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        let began = Instant::now();
        let service_deadline = self.service.deadline(began);
        let acceptor_deadline = self.acceptor.as_ref().and_then(|acceptor| acceptor.deadline());
        let deadlines = [service_deadline, acceptor_deadline, self.questions.deadline(began)];
        let deadline = deadlines.into_iter().flatten().min();
        let polls_all = self.service.polls_all(began);
        let mut set = PollSet::new();
        let mail = set.add(self.mailbox.as_fd(), Interest::Read);
        let new = self.acceptor.as_ref().map_or_else(Vec::new, |acceptor| acceptor.register(&mut set));
        let mut polled = Vec::new();
        self.service.register(began, |id, fd, interest| polled.push((id, interest, set.add(fd, interest))));
        let deadline = self.unseen_since.map_or(deadline, |_| Some(began));
        set.wait(deadline.map(|at| at.saturating_duration_since(began)))?;

        let now = Instant::now();
        let paused_since = self.pauses.look(began, now);
        let waiting_since = paused_since.or(self.unseen_since);
        self.unseen_since = paused_since.filter(|_| !polls_all);
        let has_mail = set.ready(mail).any();
        let new: Vec<bool> = new.iter().map(|&slot| set.ready(slot).any()).collect();
        let ready = polled.into_iter().map(|(id, interest, slot)| (id, interest, set.ready(slot)));
        let ready: Vec<_> = ready.filter(|(.., ready)| ready.any()).collect();
        drop(set);

        self.service.set_waiting_since(waiting_since);
        if waiting_since.is_none() {
            self.service.expire(now);
        }
        let mail = if has_mail { self.apply_updates(now) } else { Vec::new() };
        for (id, interest, ready) in ready {
            self.service.attend(id, interest, ready, now);
        }
        if waiting_since.is_some() {
            self.service.expire(now);
        }
        self.read_mail(mail, now);
        self.questions.answer(now, |id, after| self.service.sign_of_life(id, after, now));
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.accept(&new, &mut self.service, now);
        }
        self.counts.set_open(self.service.open_count());
        Ok(())
    }

    /// Takes the mail, applies the updates in it, and returns the rest.
    fn apply_updates(&mut self, now: Instant) -> Vec<ServiceMail<S>> {
        let mut rest = Vec::new();
        for mail in self.mailbox.take() {
            match mail {
                Mail::Update(update) => self.service.update(update, now),
                other => rest.push(other),
            }
        }
        rest
    }

    fn read_mail(&mut self, mail: Vec<ServiceMail<S>>, now: Instant) {
        for mail in mail {
            if matches!(mail, Mail::Stop | Mail::Abort) {
                self.is_stopping = true;
                self.acceptor = None;
            }
            match mail {
                Mail::Answered(answered) => self.service.answered(answered, now),
                Mail::LifeQuestion(client, question) => self.questions.add(client, question, now),
                Mail::Update(update) => self.service.update(update, now),
                Mail::Stop => self.service.stop(now),
                Mail::Abort => {
                    self.service.abort(now);
                    self.questions = LifeQuestions::default();
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "event_loop_tests.rs"]
mod tests;
