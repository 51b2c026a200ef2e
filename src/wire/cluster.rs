//! Messages between the daemons of a cluster, in a corosync group. docs/WIRE.md has the layouts.

use std::fmt;

pub use super::cluster_notice::{AGE_UNKNOWN, CopyFate, HostStanding, TableDigest};
use super::cursor::{Cursor, text};
use crate::fence::{Domain, Operation, PowerState, Uuid};

/// Name of the group.
pub const GROUP: &str = "fence-agents";

/// Size of every message, in bytes: 16 of header, 140 of body.
pub const MESSAGE_LEN: usize = 156;

/// A node of the cluster, as corosync numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number that a node gives to one of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestNumber(pub u32);

/// Number of no request.
pub const NO_REQUEST: RequestNumber = RequestNumber(0);

/// Node id that means every node.
pub const EVERY_NODE: NodeId = NodeId(u32::MAX);

/// Maximum length of the name in a request or reply, in bytes: 128 less the closing NUL.
pub const CLUSTER_NAME_MAX: usize = 127;

/// Maximum length of the name in an advertisement, in bytes. Longer names are cut, as by the C daemon.
pub const TOLD_NAME_MAX: usize = 64;

/// A message of the group. C daemons send and read the first three types only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterMessage {
    /// Request to carry out an operation.
    Request(ClusterCall),
    /// Outcome of a request.
    Reply {
        /// The request, with the node that asked as its target.
        call: ClusterCall,
        /// 0 success, 1 failure, 2 off; or any other number that was sent.
        response: u32,
    },
    /// Advertisement of a VM of the sender (`STORE_VM`).
    Store(Advertisement),
    /// Notice that the sender no longer has a VM.
    Gone {
        /// The VM.
        vm: Advertisement,
        /// True if it ran there last, and was destroyed and seen off: it has not moved.
        has_ended: bool,
    },
    /// Notice that the sender is of this suite.
    Hello {
        /// True if it has advertised all its VMs since its last hello without this.
        is_complete: bool,
    },
    /// Query: all members of this suite are to look for a VM, and to advertise what they find.
    Locate {
        /// Number for [`ClusterMessage::Located`].
        number: RequestNumber,
        /// Name or UUID of the VM, at most [`CLUSTER_NAME_MAX`] bytes of text.
        name: String,
    },
    /// Notice that the sender has looked for a VM, and advertised what it found.
    Located {
        /// Node that sent the query.
        to: NodeId,
        /// Number of the query.
        number: RequestNumber,
    },
    /// Outcome of a request, from a member of this suite to another.
    Report(Report),
    /// Notice that a host was fenced since it left the cluster.
    HostFenced {
        /// Node of that host.
        node: NodeId,
    },
    /// Question whether the caller of a request lives.
    ProveCaller {
        /// Node that asked for the request.
        to: NodeId,
        /// Number of the request.
        number: RequestNumber,
    },
    /// Answer to that.
    CallerProof {
        /// Node that asked whether the caller lives.
        to: NodeId,
        /// Number of the request.
        number: RequestNumber,
        /// True if the caller has shown that it lives.
        lives: bool,
    },
    /// Notice about a host that is not in the group, for members that have just joined.
    Host(HostNotice),
    /// Notice about a copy of a VM on a host that does not tell it itself, for the same.
    Copy {
        /// The copy, with the host as its owner.
        vm: Advertisement,
        /// What became of it.
        fate: CopyFate,
        /// Time since the host was last in the sender's group, in milliseconds, or [`AGE_UNKNOWN`].
        age_ms: u32,
    },
    /// Notice that the sender has told all its VMs, for members that know them: their digest.
    Table(TableDigest),
    /// Query: a member is to tell all its VMs, since the digest is not that of what the sender knows.
    TellAll {
        /// Node of that member.
        node: NodeId,
    },
}

/// Outcome of a request, with evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The request, with the node that asked as its target.
    pub call: ClusterCall,
    /// 0 success, 1 failure, 2 off; or any other number that was sent.
    pub response: u8,
    /// What carrying it out has shown, besides the verdict: 0 nothing, 1 the VM ended, 2 it ended while it was
    /// migrating, 3 it has moved away; or any other number that was sent.
    pub evidence: u8,
    /// Node that was seen to run the VM since it moved away; none if that is not known.
    pub moved_to: Option<NodeId>,
}

/// What a member knows of a host that is not in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostNotice {
    /// The host.
    pub node: NodeId,
    /// Where it is.
    pub standing: HostStanding,
    /// Time since then, in milliseconds, or [`AGE_UNKNOWN`].
    pub age_ms: u32,
}

impl HostNotice {
    /// Notice that a member has VMs.
    pub fn has_vms(node: NodeId) -> HostNotice {
        HostNotice { node, standing: HostStanding::HasVms, age_ms: 0 }
    }
}

/// Contents of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterCall {
    /// Number from the node that asks.
    pub number: RequestNumber,
    /// In a request: node that is to carry it out, or [`EVERY_NODE`] for whichever has the VM. C daemons
    /// send that, and ignore the target.
    pub target: NodeId,
    /// Name or UUID of the VM, at most [`CLUSTER_NAME_MAX`] bytes of text.
    pub name: String,
    /// Off, reboot, on or status.
    pub operation: Operation,
    /// Number from the client; C daemons send it for off and on only.
    pub client_number: u32,
}

/// State of a VM, as a node advertises it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// Name, perhaps cut, and UUID.
    pub domain: Domain,
    /// Node that has the VM; the message is false if that is not the sender.
    pub owner: NodeId,
    /// Running, unless it is shut off.
    pub state: PowerState,
    /// True if it is neither off nor paused, nor in another state between. A VM that is just coming in
    /// from another host is paused.
    pub is_active: bool,
}

/// Reason why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterMessageError {
    /// Length other than [`MESSAGE_LEN`].
    Length(usize),
    /// Unknown type.
    Type(u32),
    /// Operation that is not for other hosts.
    Operation(i32),
    /// Name that no VM can have.
    Name,
    /// Malformed UUID.
    Uuid,
    /// Unknown contents of a notice about a host or a copy.
    Notice(u32),
}

impl fmt::Display for ClusterMessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Only the beginning of a long message is kept.
            Self::Length(length @ ..MESSAGE_LEN) => write!(f, "{length} bytes instead of {MESSAGE_LEN}"),
            Self::Length(length) => write!(f, "at least {length} bytes instead of {MESSAGE_LEN}"),
            Self::Type(kind) => write!(f, "unknown type {kind}"),
            Self::Operation(number) => write!(f, "invalid operation {number}"),
            Self::Name => f.write_str("invalid VM name"),
            Self::Uuid => f.write_str("invalid UUID"),
            Self::Notice(number) => write!(f, "unknown notice {number}"),
        }
    }
}

const REQUEST: u32 = 0;
const REPLY: u32 = 1;
const STORE: u32 = 2;
// Types of this suite, far from those of the C suite.
const GONE: u32 = 0x4656_0001;
const HELLO: u32 = 0x4656_0002;
const LOCATE: u32 = 0x4656_0003;
const LOCATED: u32 = 0x4656_0004;
const REPORT: u32 = 0x4656_0005;
const HOST: u32 = 0x4656_0006;
const COPY: u32 = 0x4656_0007;
const HOST_FENCED: u32 = 0x4656_0008;
const PROVE_CALLER: u32 = 0x4656_0009;
const CALLER_PROOF: u32 = 0x4656_000a;
const TABLE: u32 = 0x4656_000b;
const TELL_ALL: u32 = 0x4656_000c;

/// virDomainState: 1 is running, 3 paused, 5 shut off.
const RUNNING: i32 = 1;
const PAUSED: i32 = 3;
const SHUT_OFF: i32 = 5;

impl ClusterMessage {
    /// Encodes the message. Bytes that C daemons leave uninitialised are zero.
    pub fn encode(&self) -> [u8; MESSAGE_LEN] {
        let (kind, number, target) = match self {
            Self::Request(call) => (REQUEST, call.number, call.target),
            Self::Reply { call, .. } => (REPLY, call.number, call.target),
            Self::Store(_) => (STORE, RequestNumber(0), EVERY_NODE),
            Self::Gone { has_ended, .. } => (GONE, RequestNumber(u32::from(*has_ended)), EVERY_NODE),
            Self::Hello { is_complete } => (HELLO, RequestNumber(u32::from(*is_complete)), EVERY_NODE),
            Self::Locate { number, .. } => (LOCATE, *number, EVERY_NODE),
            Self::Located { to, number } => (LOCATED, *number, *to),
            Self::Report(Report { call, .. }) => (REPORT, call.number, call.target),
            Self::HostFenced { node } => (HOST_FENCED, RequestNumber(0), *node),
            Self::ProveCaller { to, number } => (PROVE_CALLER, *number, *to),
            Self::CallerProof { to, number, .. } => (CALLER_PROOF, *number, *to),
            Self::Host(notice) => (HOST, RequestNumber(notice.node.0), EVERY_NODE),
            Self::Copy { fate, .. } => (COPY, RequestNumber(*fate as u32), EVERY_NODE),
            Self::Table(digest) => (TABLE, RequestNumber(digest.vms), EVERY_NODE),
            Self::TellAll { node } => (TELL_ALL, RequestNumber(0), *node),
        };
        let mut out = [0; MESSAGE_LEN];
        out[..4].copy_from_slice(&kind.to_le_bytes());
        out[4..8].copy_from_slice(&number.0.to_le_bytes());
        out[8..12].copy_from_slice(&target.0.to_le_bytes());
        match self {
            Self::Request(call) => encode_call(call, 0, &mut out),
            Self::Reply { call, response } => encode_call(call, *response, &mut out),
            Self::Store(vm) | Self::Gone { vm, .. } => encode_advertisement(vm, &mut out),
            Self::Copy { vm, age_ms, .. } => {
                encode_advertisement(vm, &mut out);
                out[12..16].copy_from_slice(&age_ms.to_le_bytes());
            }
            Self::Hello { .. }
            | Self::Located { .. }
            | Self::HostFenced { .. }
            | Self::ProveCaller { .. }
            | Self::TellAll { .. } => {}
            Self::CallerProof { lives, .. } => out[12..16].copy_from_slice(&u32::from(*lives).to_le_bytes()),
            Self::Table(digest) => out[16..48].copy_from_slice(&digest.sha256),
            Self::Locate { name, .. } => encode_name(name, &mut out),
            Self::Report(Report { call, response, evidence, moved_to }) => {
                encode_call(call, u32::from_le_bytes([*response, *evidence, 0, 0]), &mut out);
                out[12..16].copy_from_slice(&moved_to.map_or(0, |node| node.0).to_le_bytes());
            }
            Self::Host(HostNotice { standing, age_ms, .. }) => {
                out[16..20].copy_from_slice(&(*standing as u32).to_le_bytes());
                out[20..24].copy_from_slice(&age_ms.to_le_bytes());
            }
        }
        out
    }

    /// Decodes a message.
    ///
    /// # Errors
    ///
    /// If the bytes are not a message.
    pub fn decode(bytes: &[u8]) -> Result<ClusterMessage, ClusterMessageError> {
        let bytes: &[u8; MESSAGE_LEN] =
            bytes.try_into().map_err(|_| ClusterMessageError::Length(bytes.len()))?;
        let mut cursor = Cursor::new(bytes);
        let kind = u32::from_le_bytes(cursor.take());
        let number = RequestNumber(u32::from_le_bytes(cursor.take()));
        let target = NodeId(u32::from_le_bytes(cursor.take()));
        let extra = u32::from_le_bytes(cursor.take());
        match kind {
            REQUEST => decode_call(cursor, number, target).map(|(call, _)| Self::Request(call)),
            REPLY => {
                decode_call(cursor, number, target).map(|(call, response)| Self::Reply { call, response })
            }
            STORE => decode_advertisement(cursor).map(Self::Store),
            GONE => decode_advertisement(cursor)
                .map(|vm| Self::Gone { vm, has_ended: number != RequestNumber(0) }),
            HELLO => Ok(Self::Hello { is_complete: number != RequestNumber(0) }),
            LOCATE => decode_name(&mut cursor).map(|name| Self::Locate { number, name }),
            HOST_FENCED => Ok(Self::HostFenced { node: target }),
            PROVE_CALLER => Ok(Self::ProveCaller { to: target, number }),
            CALLER_PROOF => Ok(Self::CallerProof { to: target, number, lives: extra == 1 }),
            LOCATED => Ok(Self::Located { to: target, number }),
            REPORT => decode_call(cursor, number, target).map(|(call, response)| {
                let [response, evidence, ..] = response.to_le_bytes();
                let moved_to = Some(NodeId(extra)).filter(|node| node.0 != 0);
                Self::Report(Report { call, response, evidence, moved_to })
            }),
            HOST => {
                let code = u32::from_le_bytes(cursor.take());
                let standing = HostStanding::decode(code).ok_or(ClusterMessageError::Notice(code))?;
                let age_ms = u32::from_le_bytes(cursor.take());
                Ok(Self::Host(HostNotice { node: NodeId(number.0), standing, age_ms }))
            }
            COPY => {
                let fate = CopyFate::decode(number.0).ok_or(ClusterMessageError::Notice(number.0))?;
                decode_advertisement(cursor).map(|vm| Self::Copy { vm, fate, age_ms: extra })
            }
            TABLE => Ok(Self::Table(TableDigest { vms: number.0, sha256: cursor.take() })),
            TELL_ALL => Ok(Self::TellAll { node: target }),
            other => Err(ClusterMessageError::Type(other)),
        }
    }
}

fn encode_name(name: &str, out: &mut [u8; MESSAGE_LEN]) {
    let name = &name.as_bytes()[..name.len().min(CLUSTER_NAME_MAX)];
    out[16..16 + name.len()].copy_from_slice(name);
}

fn decode_name(body: &mut Cursor<'_>) -> Result<String, ClusterMessageError> {
    let name: [u8; 128] = body.take();
    text(&name, CLUSTER_NAME_MAX).map(str::to_owned).ok_or(ClusterMessageError::Name)
}

fn encode_call(call: &ClusterCall, response: u32, out: &mut [u8; MESSAGE_LEN]) {
    encode_name(&call.name, out);
    out[144..148].copy_from_slice(&u32::from(call.operation.to_wire()).to_le_bytes());
    out[148..152].copy_from_slice(&call.client_number.to_le_bytes());
    out[152..].copy_from_slice(&response.to_le_bytes());
}

fn decode_call(
    mut body: Cursor<'_>,
    number: RequestNumber,
    target: NodeId,
) -> Result<(ClusterCall, u32), ClusterMessageError> {
    let name = decode_name(&mut body)?;
    let operation = i32::from_le_bytes(body.take());
    let client_number = u32::from_le_bytes(body.take());
    let response = u32::from_le_bytes(body.take());
    debug_assert!(body.is_at_end());
    let operation = u8::try_from(operation)
        .ok()
        .and_then(Operation::from_wire)
        .filter(|operation| operation.names_a_domain())
        .ok_or(ClusterMessageError::Operation(operation))?;
    Ok((ClusterCall { number, target, name, operation, client_number }, response))
}

fn encode_advertisement(vm: &Advertisement, out: &mut [u8; MESSAGE_LEN]) {
    let name = cut(&vm.domain.name);
    out[16..16 + name.len()].copy_from_slice(name.as_bytes());
    out[81..81 + 36].copy_from_slice(vm.domain.uuid.to_string().as_bytes());
    out[148..152].copy_from_slice(&vm.owner.0.to_le_bytes());
    let state = match (vm.state, vm.is_active) {
        (PowerState::Off, _) => SHUT_OFF,
        (PowerState::Running, true) => RUNNING,
        (PowerState::Running, false) => PAUSED,
    };
    out[152..].copy_from_slice(&state.to_le_bytes());
}

fn decode_advertisement(mut body: Cursor<'_>) -> Result<Advertisement, ClusterMessageError> {
    let name: [u8; TOLD_NAME_MAX] = body.take();
    let _stray: [u8; 1] = body.take();
    let uuid: [u8; 64] = body.take();
    let _stray: [u8; 3] = body.take();
    let owner = NodeId(u32::from_le_bytes(body.take()));
    let state = i32::from_le_bytes(body.take());
    debug_assert!(body.is_at_end());
    let name =
        text(whole(&name), TOLD_NAME_MAX).filter(|name| !name.is_empty()).ok_or(ClusterMessageError::Name)?;
    let uuid = text(&uuid, uuid.len()).and_then(Uuid::parse).ok_or(ClusterMessageError::Uuid)?;
    let is_active = state == RUNNING;
    let state = if state == SHUT_OFF { PowerState::Off } else { PowerState::Running };
    Ok(Advertisement { domain: Domain { name: name.to_owned(), uuid }, owner, state, is_active })
}

/// Returns the name of a VM as advertised: at most [`TOLD_NAME_MAX`] bytes of it.
pub fn cut(name: &str) -> &str {
    let mut end = name.len().min(TOLD_NAME_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// Removes the first bytes of a character that was cut at the end of a long name.
fn whole(name: &[u8]) -> &[u8] {
    match std::str::from_utf8(name) {
        Err(error) if error.error_len().is_none() => &name[..error.valid_up_to()],
        _ => name,
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
