use std::cell::RefCell;
use std::ffi::c_void;
use std::slice;

use super::event::{ClusterEvent, LeaveReason, LeftMember, MESSAGE_KEPT_MAX, MembershipChange};
use super::libraries::{CpgAddress, CpgName, RawHandle};

const REASON_NODEDOWN: u32 = 3;

thread_local! {
    /// What the callbacks heard during a dispatch of this thread.
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
    let bytes = match length {
        0 => Vec::new(),
        // SAFETY: libcpg gives so many bytes, which are there during the callback.
        _ => unsafe { slice::from_raw_parts(message.cast::<u8>(), length.min(MESSAGE_KEPT_MAX)) }.to_vec(),
    };
    EVENTS.with_borrow_mut(|heard| heard.push(ClusterEvent::Message { node, pid, bytes, length }));
}

/// # Safety
///
/// `list` must have `entries` entries, or be null or anything else if that is 0.
unsafe fn addresses<'a>(list: *const CpgAddress, entries: usize) -> &'a [CpgAddress] {
    match entries {
        0 => &[],
        // SAFETY: as the caller says.
        _ => unsafe { slice::from_raw_parts(list, entries) },
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
    // SAFETY: libcpg gives lists of these lengths, which are there during the callback.
    let lists = unsafe {
        (addresses(members, members_count), addresses(left, left_count), addresses(joined, joined_count))
    };
    let who = |address: &CpgAddress| (address.node, address.pid);
    let left_member = |address: &CpgAddress| LeftMember {
        node: address.node,
        pid: address.pid,
        reason: if address.reason == REASON_NODEDOWN { LeaveReason::Node } else { LeaveReason::Process },
    };
    let change = MembershipChange {
        members: lists.0.iter().map(who).collect(),
        left: lists.1.iter().map(left_member).collect(),
        joined: lists.2.iter().map(who).collect(),
    };
    EVENTS.with_borrow_mut(|heard| heard.push(ClusterEvent::Changed(change)));
}

pub(super) unsafe extern "C" fn on_quorum(
    _handle: RawHandle,
    quorate: u32,
    _ring: u64,
    count: u32,
    nodes: *mut u32,
) {
    let nodes = match count {
        0 => Vec::new(),
        // SAFETY: libquorum gives so many ids, which are there during the callback.
        _ => unsafe { slice::from_raw_parts(nodes, count as usize) }.to_vec(),
    };
    EVENTS.with_borrow_mut(|heard| heard.push(ClusterEvent::Quorum { is_quorate: quorate != 0, nodes }));
}
