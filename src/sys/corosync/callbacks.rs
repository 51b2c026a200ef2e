use std::cell::RefCell;
use std::ffi::c_void;
use std::slice;

use super::event::{Change, Departure, Heard, KEPT};
use super::libraries::{Address, Handle, Name};

const REASON_NODEDOWN: u32 = 3;

thread_local! {
    /// What the callbacks heard during a dispatch of this thread.
    pub(super) static HEARD: RefCell<Vec<Heard>> = const { RefCell::new(Vec::new()) };
}

pub(super) unsafe extern "C" fn on_message(
    _handle: Handle,
    _group: *const Name,
    node: u32,
    pid: u32,
    message: *mut c_void,
    length: usize,
) {
    let bytes = match length {
        0 => Vec::new(),
        // SAFETY: libcpg gives so many bytes, which are there during the callback.
        _ => unsafe { slice::from_raw_parts(message.cast::<u8>(), length.min(KEPT)) }.to_vec(),
    };
    HEARD.with_borrow_mut(|heard| heard.push(Heard::Message { node, pid, bytes, length }));
}

/// # Safety
///
/// `list` must have `entries` entries, or be null or anything else if that is 0.
unsafe fn addresses<'a>(list: *const Address, entries: usize) -> &'a [Address] {
    match entries {
        0 => &[],
        // SAFETY: as the caller says.
        _ => unsafe { slice::from_raw_parts(list, entries) },
    }
}

pub(super) unsafe extern "C" fn on_change(
    _handle: Handle,
    _group: *const Name,
    members: *const Address,
    members_count: usize,
    left: *const Address,
    left_count: usize,
    joined: *const Address,
    joined_count: usize,
) {
    // SAFETY: libcpg gives lists of these lengths, which are there during the callback.
    let lists = unsafe {
        (addresses(members, members_count), addresses(left, left_count), addresses(joined, joined_count))
    };
    let who = |address: &Address| (address.node, address.pid);
    let how = |address: &Address| match address.reason {
        REASON_NODEDOWN => Departure::Node,
        _ => Departure::Process,
    };
    let change = Change {
        members: lists.0.iter().map(who).collect(),
        left: lists.1.iter().map(|address| (address.node, address.pid, how(address))).collect(),
        joined: lists.2.iter().map(who).collect(),
    };
    HEARD.with_borrow_mut(|heard| heard.push(Heard::Changed(change)));
}

pub(super) unsafe extern "C" fn on_quorum(
    _handle: Handle,
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
    HEARD.with_borrow_mut(|heard| heard.push(Heard::Quorum { is_quorate: quorate != 0, nodes }));
}
