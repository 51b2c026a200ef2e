//! Numbers that must not be mixed up.

/// A client's request, as the router's caller numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// A job of this node, as the router numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// A request under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskId(pub(super) u64);

/// Position in the total order of the group's messages; 0 precedes all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sequence(u64);

impl Sequence {
    /// Position that precedes every message.
    pub(super) const START: Sequence = Sequence(0);

    /// Returns the position that follows.
    pub(super) fn next(self) -> Sequence {
        Sequence(self.0 + 1)
    }
}
