/// So many bytes of a message are kept, and no more.
pub const MESSAGE_KEPT_MAX: usize = 256;

/// How a process left the group: cpg_join(3) has the reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveReason {
    /// It left, or ended, while its node is in the cluster.
    Process,
    /// Its node left the cluster.
    Node,
}

/// A process that left the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftMember {
    /// Node id.
    pub node: u32,
    /// Process id.
    pub pid: u32,
    /// Reason, as corosync gives it.
    pub reason: LeaveReason,
}

/// A change of the group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MembershipChange {
    /// All members after it: node and process id.
    pub members: Vec<(u32, u32)>,
    /// Who left.
    pub left: Vec<LeftMember>,
    /// Who came.
    pub joined: Vec<(u32, u32)>,
}

/// What a member hears, in the order of the group; quorum has an order of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterEvent {
    /// A message, also one of our own.
    Message {
        /// The sender's node id.
        node: u32,
        /// The sender's process id.
        pid: u32,
        /// Its first [`MESSAGE_KEPT_MAX`] bytes.
        bytes: Vec<u8>,
        /// How many it has.
        length: usize,
    },
    /// The group has changed.
    Changed(MembershipChange),
    /// The cluster's membership, and whether this part of it has quorum.
    Quorum {
        /// Whether it has.
        is_quorate: bool,
        /// The ids of the nodes in this part.
        nodes: Vec<u32>,
    },
}
