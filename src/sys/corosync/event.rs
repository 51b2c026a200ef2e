/// Maximum bytes of a message that are kept; the rest is dropped.
pub const MESSAGE_KEPT_MAX: usize = 256;

/// Reason why a process left the group: cpg_join(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveReason {
    /// The process left or ended; its node is still in the cluster.
    Process,
    /// The node left the cluster.
    Node,
}

/// Process that left the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftMember {
    /// Node id.
    pub node: u32,
    /// Process id.
    pub pid: u32,
    /// Reason.
    pub reason: LeaveReason,
}

/// Change of the group's membership.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MembershipChange {
    /// All members after the change: node and process id.
    pub members: Vec<(u32, u32)>,
    /// Members that left.
    pub left: Vec<LeftMember>,
    /// Members that joined: node and process id.
    pub joined: Vec<(u32, u32)>,
}

/// Event of the group or of the quorum. Those of the group have the same order
/// at all members; quorum events are ordered among themselves only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterEvent {
    /// Message, also one of our own.
    Message {
        /// Node id of the sender.
        node: u32,
        /// Process id of the sender.
        pid: u32,
        /// First [`MESSAGE_KEPT_MAX`] bytes.
        bytes: Vec<u8>,
        /// Length of the whole message, in bytes.
        length: usize,
    },
    /// Change of the group's membership.
    Changed(MembershipChange),
    /// Membership of this partition of the cluster.
    Quorum {
        /// True if this partition has quorum.
        is_quorate: bool,
        /// Node ids of this partition.
        nodes: Vec<u32>,
    },
}
