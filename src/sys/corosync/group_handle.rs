use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, RawFd};
use std::process;

use super::callbacks::{EVENTS, on_change, on_message, on_quorum};
use super::cmap;
use super::error::{CS_ERR_TRY_AGAIN, CorosyncError, check};
use super::event::ClusterEvent;
use super::libraries::{
    CmapFunctions, CpgAddress, CpgCallbacks, CpgName, GroupFunctions, Libraries, QuorumCallbacks, RawHandle,
};

/// Stack size for a thread with a [`GroupHandle`], in bytes.
pub const STACK_SIZE: usize = 4 << 20;

/// Membership of this process in a group, and its connection to the quorum service. Leaves the group
/// when dropped. After an error that is not temporary, the connection is lost: drop the handle.
#[derive(Debug)]
pub struct GroupHandle {
    functions: GroupFunctions,
    cmap: Option<CmapFunctions>,
    cpg: RawHandle,
    quorum: Option<RawHandle>,
    node: u32,
    fds: [RawFd; 2],
    /// Keeps the handle in its thread: see the module.
    not_send: PhantomData<*const ()>,
}

/// Room for more members than libcpg returns, which is 384 (PROCESSOR_COUNT_MAX).
const MEMBERS_MAX: usize = 1024;
const DISPATCH_ONE_NONBLOCKING: u32 = 4;
const TYPE_AGREED: u32 = 2;
const TRACK_CURRENT_AND_CHANGES: u32 = 1 | 2;

impl GroupHandle {
    /// Connects to the corosync of this machine and joins a group; its name has at most 128 bytes.
    pub fn join(libraries: &Libraries, group: &str) -> Result<GroupHandle, CorosyncError> {
        let handle = GroupHandle::connect(libraries)?;
        let name = name(group);
        // SAFETY: the handle is open, the name valid during the call.
        check("cpg_join", unsafe { (handle.functions.cpg_join)(handle.cpg, &name) })?;
        Ok(handle)
    }

    /// Connects without joining a group: an observer that receives quorum events
    /// only and is invisible to the members.
    pub fn connect(libraries: &Libraries) -> Result<GroupHandle, CorosyncError> {
        let mut cpg: RawHandle = 0;
        let mut callbacks = CpgCallbacks { deliver: on_message, change: on_change };
        // SAFETY: both pointers are valid during the call; libcpg copies the callbacks.
        check("cpg_initialize", unsafe { (libraries.group.cpg_initialize)(&mut cpg, &mut callbacks) })?;
        EVENTS.with_borrow_mut(Vec::clear);
        let mut handle = GroupHandle {
            functions: libraries.group,
            cmap: libraries.cmap,
            cpg,
            quorum: None,
            node: 0,
            fds: [-1; 2],
            not_send: PhantomData,
        };
        handle.node = handle.local_id()?;
        // SAFETY: as above.
        check("cpg_fd_get", unsafe { (libraries.group.cpg_fd_get)(cpg, &mut handle.fds[0]) })?;
        handle.track_quorum()?;
        Ok(handle)
    }

    fn track_quorum(&mut self) -> Result<(), CorosyncError> {
        let mut quorum: RawHandle = 0;
        let mut kind = 0;
        let mut callbacks = QuorumCallbacks { notify: on_quorum };
        let initialized =
            // SAFETY: the pointers are valid during the call; libquorum copies the callbacks.
            unsafe { (self.functions.quorum_initialize)(&mut quorum, &mut callbacks, &mut kind) };
        check("quorum_initialize", initialized)?;
        self.quorum = Some(quorum);
        // SAFETY: the handle is open, the pointer valid.
        check("quorum_fd_get", unsafe { (self.functions.quorum_fd_get)(quorum, &mut self.fds[1]) })?;
        const QUORUM_FREE: u32 = 0;
        if kind == QUORUM_FREE {
            // No votequorum is configured: this node never has quorum.
            return Ok(());
        }
        // SAFETY: the handle is open.
        let tracking = unsafe { (self.functions.quorum_trackstart)(quorum, TRACK_CURRENT_AND_CHANGES) };
        check("quorum_trackstart", tracking)
    }

    /// Id of this node.
    pub fn node(&self) -> u32 {
        self.node
    }

    /// Queries corosync for the id of this node. Blocks while corosync is frozen.
    pub fn local_id(&self) -> Result<u32, CorosyncError> {
        let mut node = 0;
        // SAFETY: the handle is open, the pointer valid.
        check("cpg_local_get", unsafe { (self.functions.cpg_local_get)(self.cpg, &mut node) })?;
        Ok(node)
    }

    /// Queries the members of any group: node and process id. Blocks while corosync is frozen.
    pub fn members(&self, group: &str) -> Result<Vec<(u32, u32)>, CorosyncError> {
        let mut name = name(group);
        let mut list = [CpgAddress { node: 0, pid: 0, reason: 0 }; MEMBERS_MAX];
        let mut count = 0;
        // SAFETY: the handle is open, the pointers are valid; libcpg writes at most
        // PROCESSOR_COUNT_MAX entries, fewer than `list` has.
        let asked = unsafe {
            (self.functions.cpg_membership_get)(self.cpg, &mut name, list.as_mut_ptr(), &mut count)
        };
        check("cpg_membership_get", asked)?;
        let count = usize::try_from(count).unwrap_or(0);
        Ok(list.iter().take(count).map(|member| (member.node, member.pid)).collect())
    }

    /// Reads the node ids of corosync's nodelist, in ascending order. None if libcmap is missing, or the
    /// nodelist, or the id of a node in it. Blocks while corosync is frozen.
    pub fn configured_nodes(&self) -> Result<Option<Vec<u32>>, CorosyncError> {
        self.cmap.map_or(Ok(None), cmap::node_ids)
    }

    /// Process id of this process, which identifies it in the group.
    pub fn pid(&self) -> u32 {
        process::id()
    }

    /// Descriptors to poll for input: the group's and the quorum's.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        // SAFETY: both stay open until their handles are finalized, which only drop does.
        self.fds.map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// Appends the pending events to `events`, at most `limit` each of group and
    /// quorum; returns true if none is left.
    ///
    /// # Errors
    ///
    /// The connection is lost; `events` has those received before.
    pub fn dispatch(&mut self, limit: usize, events: &mut Vec<ClusterEvent>) -> Result<bool, CorosyncError> {
        let GroupFunctions { cpg_dispatch, quorum_dispatch, .. } = self.functions;
        let cpg = self.cpg;
        // SAFETY: the handles are open; the callbacks only access this thread's buffer.
        let group = drain(limit, "cpg_dispatch", || unsafe { cpg_dispatch(cpg, DISPATCH_ONE_NONBLOCKING) });
        let votes = self.quorum.map_or(Ok(true), |quorum| {
            // SAFETY: as above.
            drain(limit, "quorum_dispatch", || unsafe { quorum_dispatch(quorum, DISPATCH_ONE_NONBLOCKING) })
        });
        EVENTS.with_borrow_mut(|buffer| events.append(buffer));
        Ok(group? && votes?)
    }

    /// Sends a message to all members, this one included, in the total order of the group.
    pub fn send(&mut self, message: &[u8]) -> Result<(), CorosyncError> {
        let part = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        // SAFETY: the handle is open; libcpg only reads the bytes, during the call.
        check("cpg_mcast_joined", unsafe {
            (self.functions.cpg_mcast_joined)(self.cpg, TYPE_AGREED, &part, 1)
        })
    }

    /// Leaves the group, so that the other members notice it before this process ends.
    pub fn leave(self, group: &str) {
        let name = name(group);
        // SAFETY: the handle is open, the name valid during the call. On failure, drop leaves the group.
        let _ = unsafe { (self.functions.cpg_leave)(self.cpg, &name) };
    }
}

impl Drop for GroupHandle {
    fn drop(&mut self) {
        // SAFETY: the handles are open and not used afterwards. They are invalid whatever is returned.
        unsafe {
            (self.functions.cpg_finalize)(self.cpg);
            if let Some(quorum) = self.quorum {
                (self.functions.quorum_finalize)(quorum);
            }
        }
    }
}

/// Dispatches event by event; returns true if none is left.
fn drain(limit: usize, call: &'static str, one: impl Fn() -> i32) -> Result<bool, CorosyncError> {
    for _ in 0..limit {
        match check(call, one()) {
            Ok(()) => {}
            Err(CorosyncError { code: CS_ERR_TRY_AGAIN, .. }) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn name(text: &str) -> CpgName {
    let mut name = CpgName { length: 0, value: [0; 128] };
    let length = text.len().min(name.value.len());
    name.value[..length].copy_from_slice(&text.as_bytes()[..length]);
    name.length = u32::try_from(length).unwrap_or(0);
    name
}
