use std::cell::RefCell;
use std::ffi::c_void;
use std::slice;

use super::event::{ClusterEvent, LeaveReason, LeftMember, MESSAGE_KEPT_MAX, MembershipChange};
use super::libraries::{CpgAddress, CpgName, RawHandle};

const REASON_NODEDOWN: u32 = 3;

thread_local! {
    /// Events that the callbacks collect during a dispatch of this thread.
    pub(super) static EVENTS: RefCell<Vec<ClusterEvent>> = const { RefCell::new(Vec::new()) };
}

pub(super) unsafe extern "C" fn on_message(
    _handle: RawHandle,
    _group: *const CpgName,
    node: u32,
    pid: u32,
    message: *mut c_void,
    length: usize,
) {
    // SAFETY: libcpg passes `length` bytes, valid during the callback.
    let bytes = unsafe { list(message.cast::<u8>(), length.min(MESSAGE_KEPT_MAX)) }.to_vec();
    EVENTS.with_borrow_mut(|events| events.push(ClusterEvent::Message { node, pid, bytes, length }));
}

/// # Safety
///
/// `first` must point to `count` items, valid for `'a`; it may be anything if `count` is 0.
unsafe fn list<'a, T>(first: *const T, count: usize) -> &'a [T] {
    match count {
        0 => &[],
        // SAFETY: the caller guarantees it.
        _ => unsafe { slice::from_raw_parts(first, count) },
    }
}

pub(super) unsafe extern "C" fn on_change(
    _handle: RawHandle,
    _group: *const CpgName,
    members: *const CpgAddress,
    members_count: usize,
    left: *const CpgAddress,
    left_count: usize,
    joined: *const CpgAddress,
    joined_count: usize,
) {
    // SAFETY: libcpg passes lists of these lengths, valid during the callback.
    let [members, left, joined] =
        unsafe { [list(members, members_count), list(left, left_count), list(joined, joined_count)] };
    let member = |address: &CpgAddress| (address.node, address.pid);
    let left_member = |address: &CpgAddress| LeftMember {
        node: address.node,
        pid: address.pid,
        reason: if address.reason == REASON_NODEDOWN { LeaveReason::Node } else { LeaveReason::Process },
    };
    let change = MembershipChange {
        members: members.iter().map(member).collect(),
        left: left.iter().map(left_member).collect(),
        joined: joined.iter().map(member).collect(),
    };
    EVENTS.with_borrow_mut(|events| events.push(ClusterEvent::Changed(change)));
}

pub(super) unsafe extern "C" fn on_quorum(
    _handle: RawHandle,
    quorate: u32,
    _ring: u64,
    count: u32,
    nodes: *mut u32,
) {
    // SAFETY: libquorum passes `count` ids, valid during the callback.
    let nodes = unsafe { list(nodes, count as usize) }.to_vec();
    EVENTS.with_borrow_mut(|events| events.push(ClusterEvent::Quorum { is_quorate: quorate != 0, nodes }));
}
