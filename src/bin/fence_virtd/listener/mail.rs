//! Messages to a listener's thread.

use crate::job::Completion;
use fence_virt::fence::Answer;

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
    /// Message that only this kind of listener receives.
    Update(Update),
    /// Take no more requests; end once those in flight are answered.
    Stop,
    /// End now; requests in flight fail.
    Abort,
}
