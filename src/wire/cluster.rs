//! Messages between the daemons of a cluster, in a corosync group. docs/WIRE.md has the layouts.

use std::fmt;

use super::cursor::Cursor;
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
    Gone(Advertisement),
    /// Notice that the sender is of this suite.
    Hello {
        /// True if it has advertised all its VMs since its last hello without this.
        is_complete: bool,
    },
    /// Query: all members of this suite are to advertise all their VMs.
    AdvertiseAll {
        /// Number for [`ClusterMessage::AllAdvertised`].
        number: RequestNumber,
    },
    /// Notice that the sender has advertised all its VMs since a [`ClusterMessage::AdvertiseAll`].
    AllAdvertised {
        /// Node that sent the query.
        to: NodeId,
        /// Number of the query.
        number: RequestNumber,
    },
    /// Notice that a host was fenced since it left the cluster.
    HostFenced {
        /// Node of that host.
        node: NodeId,
    },
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
        }
    }
}

const REQUEST: u32 = 0;
const REPLY: u32 = 1;
const STORE: u32 = 2;
// Types of this suite, far from those of the C suite.
const GONE: u32 = 0x4656_0001;
const HELLO: u32 = 0x4656_0002;
const ADVERTISE_ALL: u32 = 0x4656_0003;
const ALL_ADVERTISED: u32 = 0x4656_0004;
const HOST_FENCED: u32 = 0x4656_0005;

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
            Self::Gone(_) => (GONE, RequestNumber(0), EVERY_NODE),
            Self::Hello { is_complete } => (HELLO, RequestNumber(u32::from(*is_complete)), EVERY_NODE),
            Self::AdvertiseAll { number } => (ADVERTISE_ALL, *number, EVERY_NODE),
            Self::AllAdvertised { to, number } => (ALL_ADVERTISED, *number, *to),
            Self::HostFenced { node } => (HOST_FENCED, RequestNumber(0), *node),
        };
        let mut out = [0; MESSAGE_LEN];
        out[..4].copy_from_slice(&kind.to_le_bytes());
        out[4..8].copy_from_slice(&number.0.to_le_bytes());
        out[8..12].copy_from_slice(&target.0.to_le_bytes());
        match self {
            Self::Request(call) => encode_call(call, 0, &mut out),
            Self::Reply { call, response } => encode_call(call, *response, &mut out),
            Self::Store(vm) | Self::Gone(vm) => encode_advertisement(vm, &mut out),
            Self::Hello { .. }
            | Self::AdvertiseAll { .. }
            | Self::AllAdvertised { .. }
            | Self::HostFenced { .. } => {}
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
        let _padding: [u8; 4] = cursor.take();
        match kind {
            REQUEST => decode_call(cursor, number, target).map(|(call, _)| Self::Request(call)),
            REPLY => {
                decode_call(cursor, number, target).map(|(call, response)| Self::Reply { call, response })
            }
            STORE => decode_advertisement(cursor).map(Self::Store),
            GONE => decode_advertisement(cursor).map(Self::Gone),
            HELLO => Ok(Self::Hello { is_complete: number != RequestNumber(0) }),
            ADVERTISE_ALL => Ok(Self::AdvertiseAll { number }),
            ALL_ADVERTISED => Ok(Self::AllAdvertised { to: target, number }),
            HOST_FENCED => Ok(Self::HostFenced { node: target }),
            other => Err(ClusterMessageError::Type(other)),
        }
    }
}

fn encode_call(call: &ClusterCall, response: u32, out: &mut [u8; MESSAGE_LEN]) {
    out[16..16 + call.name.len().min(CLUSTER_NAME_MAX)]
        .copy_from_slice(&call.name.as_bytes()[..call.name.len().min(CLUSTER_NAME_MAX)]);
    out[144..148].copy_from_slice(&u32::from(call.operation.to_wire()).to_le_bytes());
    out[148..152].copy_from_slice(&call.client_number.to_le_bytes());
    out[152..].copy_from_slice(&response.to_le_bytes());
}

fn decode_call(
    mut body: Cursor<'_>,
    number: RequestNumber,
    target: NodeId,
) -> Result<(ClusterCall, u32), ClusterMessageError> {
    let name: [u8; 128] = body.take();
    let operation = i32::from_le_bytes(body.take());
    let client_number = u32::from_le_bytes(body.take());
    let response = u32::from_le_bytes(body.take());
    debug_assert!(body.is_at_end());
    let name = text(&name, CLUSTER_NAME_MAX).ok_or(ClusterMessageError::Name)?;
    let operation = u8::try_from(operation)
        .ok()
        .and_then(Operation::from_wire)
        .filter(|operation| operation.names_a_domain())
        .ok_or(ClusterMessageError::Operation(operation))?;
    Ok((ClusterCall { number, target, name: name.to_owned(), operation, client_number }, response))
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

/// Returns the text before the first NUL, if it is printable and has at most `max` bytes.
fn text(field: &[u8], max: usize) -> Option<&str> {
    let bytes = field.split(|&byte| byte == 0).next().filter(|bytes| bytes.len() <= max)?;
    std::str::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::ClusterMessage::*;
    use super::*;

    fn call(name: &str) -> ClusterCall {
        let (number, target, operation, client_number) =
            (RequestNumber(0x0102_0304), NodeId(3_000_000_000), Operation::Off, 9);
        ClusterCall { number, target, name: name.to_owned(), operation, client_number }
    }

    fn told(name: &str, state: PowerState, is_active: bool) -> Advertisement {
        let domain = Domain { name: name.to_owned(), uuid: Uuid::from_bytes([0x5a; 16]) };
        Advertisement { domain, owner: NodeId(3_000_000_000), state, is_active }
    }

    #[test]
    fn fields_are_where_the_c_daemon_has_them() {
        let bytes = Reply { call: call("vm1"), response: 2 }.encode();
        assert_eq!(&bytes[..16], &[1, 0, 0, 0, 4, 3, 2, 1, 0x00, 0x5e, 0xd0, 0xb2, 0, 0, 0, 0]);
        assert_eq!(&bytes[16..20], b"vm1\0");
        assert!(bytes[20..144].iter().all(|&byte| byte == 0));
        assert_eq!(&bytes[144..], &[1, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0]);
        let bytes = Store(told("vm1", PowerState::Off, false)).encode();
        assert_eq!(&bytes[..16], &[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(&bytes[81..117], b"5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a");
        assert_eq!(&bytes[148..], &[0x00, 0x5e, 0xd0, 0xb2, 5, 0, 0, 0]);
    }

    #[test]
    fn encoded_messages_are_decoded() {
        let long = "n".repeat(TOLD_NAME_MAX);
        for message in [
            Request(call("kn\u{f6}del")),
            Reply { call: call(&"x".repeat(CLUSTER_NAME_MAX)), response: u32::MAX },
            Store(told(&long, PowerState::Running, true)),
            Store(told("a", PowerState::Running, false)),
            Gone(told("a", PowerState::Off, false)),
            Hello { is_complete: true },
            Hello { is_complete: false },
            AdvertiseAll { number: RequestNumber(7) },
            AllAdvertised { to: NodeId(u32::MAX - 1), number: RequestNumber(7) },
            HostFenced { node: NodeId(3_000_000_000) },
        ] {
            assert_eq!(ClusterMessage::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn stray_bytes_are_not_trusted_and_long_names_are_cut_between_characters() {
        let name = format!("{}\u{f6}", "n".repeat(TOLD_NAME_MAX - 1));
        let mut bytes = Store(told(&name, PowerState::Off, false)).encode();
        // The C daemon leaves these uninitialised, and cuts names between bytes.
        (bytes[79], bytes[80], bytes[145], bytes[146], bytes[12]) = (0xc3, 0xff, b'x', 0xff, 7);
        let Ok(Store(told)) = ClusterMessage::decode(&bytes) else { panic!("it is whole") };
        assert_eq!(told.domain.name, "n".repeat(TOLD_NAME_MAX - 1));
    }

    #[test]
    fn malformed_messages_are_refused() {
        let good = Request(call("a")).encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            ClusterMessage::decode(&bytes)
        };
        for length in [0, 4, 155, 157, 1000] {
            assert_eq!(ClusterMessage::decode(&vec![0; length]), Err(ClusterMessageError::Length(length)));
        }
        assert_eq!(with(0, 3), Err(ClusterMessageError::Type(3)));
        assert_eq!(with(144, 0), Err(ClusterMessageError::Operation(0)));
        assert_eq!(with(145, 1), Err(ClusterMessageError::Operation(257)), "not cut to a byte");
        assert_eq!(with(144, 6), Err(ClusterMessageError::Operation(6)));
        assert_eq!(with(16, b'\n'), Err(ClusterMessageError::Name));
        let endless: Vec<u8> =
            good[..16].iter().copied().chain([b'x'; 128]).chain(good[144..].to_vec()).collect();
        assert_eq!(ClusterMessage::decode(&endless), Err(ClusterMessageError::Name));
        let mut store = Store(told("a", PowerState::Off, false)).encode();
        store[81] = b'g';
        assert_eq!(ClusterMessage::decode(&store), Err(ClusterMessageError::Uuid));
        store[16] = 0;
        assert_eq!(ClusterMessage::decode(&store), Err(ClusterMessageError::Name));
    }
}
