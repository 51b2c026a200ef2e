//! What members of this suite tell those that have just joined: about hosts that are not in the group, and
//! about the VMs that they have told before.

/// Age in a notice that is not known, as that of a daemon which was never in the group, or does not fit.
pub const AGE_UNKNOWN: u32 = u32::MAX;

/// Where a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostStanding {
    /// In the cluster, as far as is known.
    Up,
    /// Left the cluster in order.
    Stopped,
    /// Lost.
    Lost,
    /// Lost, and fenced since.
    Fenced,
    /// In the group, with a daemon that has VMs, and tells them unless it hangs.
    HasVms,
}

/// What became of a copy of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFate {
    /// Its host left the group.
    Away,
    /// It ran, and is gone from its host.
    Vanished,
    /// It ran, was seen to end, and is gone from its host.
    Ended,
}

/// Digest of all VMs that a member has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableDigest {
    /// Number of VMs.
    pub vms: u32,
    /// SHA-256 over them, in the order of their UUIDs; docs/WIRE.md has the layout.
    pub sha256: [u8; 32],
}

impl HostStanding {
    pub(super) fn decode(number: u32) -> Option<HostStanding> {
        let all = [Self::Up, Self::Stopped, Self::Lost, Self::Fenced, Self::HasVms];
        all.into_iter().find(|standing| *standing as u32 == number)
    }
}

impl CopyFate {
    pub(super) fn decode(number: u32) -> Option<CopyFate> {
        let all = [Self::Away, Self::Vanished, Self::Ended];
        all.into_iter().find(|fate| *fate as u32 == number)
    }
}
