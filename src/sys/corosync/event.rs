/// So many bytes of a message are kept, and no more.
pub const KEPT: usize = 256;

/// How a process left the group: cpg_join(3) has the reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It left, or ended, while its node is in the cluster.
    Process,
    /// Its node left the cluster.
    Node,
}

/// A change of the group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// All members after it: node and process id.
    pub members: Vec<(u32, u32)>,
    /// Who left.
    pub left: Vec<(u32, u32, Departure)>,
    /// Who came.
    pub joined: Vec<(u32, u32)>,
}

/// What a member hears, in the order of the group; quorum has an order of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A message, also one of our own.
    Message {
        /// The sender's node id.
        node: u32,
        /// The sender's process id.
        pid: u32,
        /// Its first [`KEPT`] bytes.
        bytes: Vec<u8>,
        /// How many it has.
        length: usize,
    },
    /// The group has changed.
    Changed(Change),
    /// The cluster's membership, and whether this part of it has quorum.
    Quorum {
        /// Whether it has.
        is_quorate: bool,
        /// The ids of the nodes in this part.
        nodes: Vec<u32>,
    },
}
