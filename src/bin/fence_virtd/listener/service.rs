//! Interfaces between the event loop and the two kinds of listeners, and their messages.

use std::os::fd::BorrowedFd;

use super::liveness::SignOfLife;
use crate::caller::LifeQuestion;
use crate::job::Completion;
use fence_virt::fence::Answer;
use fence_virt::sys::poll::{Interest, PollSet, Readiness, Slot};
use fence_virt::time::Instant;

/// Answer of the worker to the request of a client.
#[derive(Debug)]
pub(super) struct Answered<Id> {
    /// Connection of the client.
    pub(super) client: Id,
    pub(super) answer: Answer,
    pub(super) completion: Completion,
}

/// Message to a listener with clients of type `Id`.
#[derive(Debug)]
pub(super) enum Mail<Id, Update> {
    Answered(Answered<Id>),
    /// Question of the worker whether the client of this connection lives.
    LifeQuestion(Id, LifeQuestion),
    /// Message that only this kind of listener receives.
    Update(Update),
    /// Take no more requests; end once those in flight are answered.
    Stop,
    /// End now; requests in flight fail.
    Abort,
}

/// Open connections of a listener, each with the state machine of its client.
pub(super) trait Service {
    /// Id of a connection; never reused.
    type Id: Copy;
    /// Message that only this kind of listener receives.
    type Update;

    /// Number of open connections.
    fn open_count(&self) -> usize;

    /// Sets the time since which the input of this turn may have waited, unread; none if it came just now.
    fn set_waiting_since(&mut self, since: Option<Instant>);

    /// True if `register` passes all connections in a turn that begins at `now`.
    fn polls_all(&self, now: Instant) -> bool;

    /// Next deadline of all connections, in a turn that begins at `now`.
    fn deadline(&self, now: Instant) -> Option<Instant>;

    /// Calls `add` for each connection to poll in the turn that begins at `now`.
    fn register<'a>(&'a mut self, now: Instant, add: impl FnMut(Self::Id, BorrowedFd<'a>, Interest));

    /// Handles the deadlines that have passed.
    fn expire(&mut self, now: Instant);

    /// Handles a connection that is ready, after it was polled for `interest`.
    fn attend(&mut self, id: Self::Id, interest: Interest, ready: Readiness, now: Instant);

    /// Sends the worker's answer to its client, and logs it.
    fn answered(&mut self, answered: Answered<Self::Id>, now: Instant);

    /// Seeks a sign of life of a client that came after `after`. A connection that no longer exists
    /// has hung up.
    fn sign_of_life(&mut self, id: Self::Id, after: Instant, now: Instant) -> SignOfLife;

    /// Applies a message of its own kind.
    fn update(&mut self, update: Self::Update, now: Instant);

    /// Closes all connections without a request in flight, and takes no more requests.
    fn stop(&mut self, now: Instant);

    /// Answers failure to all requests in flight, and closes all connections.
    fn abort(&mut self, now: Instant);
}

/// Message to a listener with this service.
pub(super) type ServiceMail<S> = Mail<<S as Service>::Id, <S as Service>::Update>;

/// Sockets that bring new connections to a service.
pub(super) trait Acceptor<S>: Send {
    /// Adds its descriptors to the poll set of a turn.
    fn register<'a>(&'a self, set: &mut PollSet<'a>) -> Vec<Slot>;

    /// Deadline for the next call of `accept`, even if no descriptor is ready.
    fn deadline(&self) -> Option<Instant>;

    /// Accepts new connections; `ready` has one flag per registered descriptor.
    fn accept(&mut self, ready: &[bool], service: &mut S, now: Instant);
}
