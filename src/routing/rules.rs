//! Rules that the administrator has stated.

use std::time::Duration;

use super::vocabulary::Names;

/// State of a VM that was never seen on any node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Unknown; every operation fails.
    Fail,
    /// Off, the rule of the C daemon.
    Off,
}

/// Rules from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Identifiers by which VMs can be requested.
    pub names: Names,
    /// Time after its loss from a quorate cluster in which a host is certainly off; none if not stated.
    pub host_fence_delay: Option<Duration>,
    /// State of a VM that was never seen.
    pub unknown: Unknown,
}
