use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, RawFd};
use std::{fmt, process};

use super::callbacks::{EVENTS, on_change, on_message, on_quorum};
use super::error::{CS_ERR_TRY_AGAIN, CorosyncError, check};
use super::event::ClusterEvent;
use super::libraries::{CpgAddress, CpgCallbacks, CpgName, Libraries, QuorumCallbacks, RawHandle};

/// A stack that is large enough for the thread which has a [`GroupHandle`], in bytes.
pub const STACK_SIZE: usize = 4 << 20;

/// A membership of this process in a group, and its view of the quorum.
/// Leaves the group when dropped.
pub struct GroupHandle {
    libraries: Libraries,
    cpg: RawHandle,
    quorum: Option<RawHandle>,
    node: u32,
    fds: [RawFd; 2],
    /// libcpg's handles are no thread's but the one that made them.
    not_send: PhantomData<*const ()>,
}

impl fmt::Debug for GroupHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupHandle").field("node", &self.node).finish_non_exhaustive()
    }
}

/// More than libcpg gives: its answer has room for 384 (PROCESSOR_COUNT_MAX).
const MEMBERS_MAX: usize = 1024;
const DISPATCH_ONE_NONBLOCKING: u32 = 4;
const TYPE_AGREED: u32 = 2;
const TRACK_CURRENT_AND_CHANGES: u32 = 1 | 2;

impl GroupHandle {
    /// Connects to the corosync of this machine and joins a group, whose name
    /// has at most 128 bytes.
    ///
    /// # Errors
    ///
    /// The call that failed, a temporary one included.
    pub fn join(libraries: &Libraries, group: &str) -> Result<GroupHandle, CorosyncError> {
        let member = GroupHandle::connect(libraries)?;
        let name = name(group);
        // SAFETY: the handle is open, the name valid during the call.
        check("cpg_join", unsafe { (libraries.cpg_join)(member.cpg, &name) })?;
        Ok(member)
    }

    /// The same without joining any group: who looks on hears of the quorum only,
    /// and nobody hears of it.
    ///
    /// # Errors
    ///
    /// The call that failed, a temporary one included.
    pub fn connect(libraries: &Libraries) -> Result<GroupHandle, CorosyncError> {
        let mut cpg: RawHandle = 0;
        let mut callbacks = CpgCallbacks { deliver: on_message, change: on_change };
        // SAFETY: both pointers are valid during the call; libcpg copies the callbacks.
        check("cpg_initialize", unsafe { (libraries.cpg_initialize)(&mut cpg, &mut callbacks) })?;
        EVENTS.with_borrow_mut(Vec::clear);
        let mut member = GroupHandle {
            libraries: *libraries,
            cpg,
            quorum: None,
            node: 0,
            fds: [-1; 2],
            not_send: PhantomData,
        };
        member.node = member.local_id()?;
        // SAFETY: as above.
        check("cpg_fd_get", unsafe { (libraries.cpg_fd_get)(cpg, &mut member.fds[0]) })?;
        member.track_quorum()?;
        Ok(member)
    }

    fn track_quorum(&mut self) -> Result<(), CorosyncError> {
        let (mut quorum, mut kind): (RawHandle, u32) = (0, 0);
        let mut callbacks = QuorumCallbacks { notify: on_quorum };
        let initialized =
            // SAFETY: the pointers are valid during the call; libquorum copies the callbacks.
            unsafe { (self.libraries.quorum_initialize)(&mut quorum, &mut callbacks, &mut kind) };
        check("quorum_initialize", initialized)?;
        self.quorum = Some(quorum);
        // SAFETY: the handle is open, the pointer valid.
        check("quorum_fd_get", unsafe { (self.libraries.quorum_fd_get)(quorum, &mut self.fds[1]) })?;
        const QUORUM_FREE: u32 = 0;
        if kind == QUORUM_FREE {
            // Nobody counts votes: then there is no quorum.
            return Ok(());
        }
        // SAFETY: the handle is open.
        let tracking = unsafe { (self.libraries.quorum_trackstart)(quorum, TRACK_CURRENT_AND_CHANGES) };
        check("quorum_trackstart", tracking)
    }

    /// The id of this node.
    pub fn node(&self) -> u32 {
        self.node
    }

    /// The same, asked of corosync anew. Blocks while that is frozen.
    ///
    /// # Errors
    ///
    /// A temporary one if corosync cannot say it now; else the connection is lost.
    pub fn local_id(&self) -> Result<u32, CorosyncError> {
        let mut node = 0;
        // SAFETY: the handle is open, the pointer valid.
        check("cpg_local_get", unsafe { (self.libraries.cpg_local_get)(self.cpg, &mut node) })?;
        Ok(node)
    }

    /// Who is in a group, whether this process is or not: node and process id.
    /// Blocks while corosync is frozen.
    ///
    /// # Errors
    ///
    /// A temporary one if corosync cannot say it now; else the connection is lost.
    pub fn members(&self, group: &str) -> Result<Vec<(u32, u32)>, CorosyncError> {
        let mut name = name(group);
        let mut list = [CpgAddress { node: 0, pid: 0, reason: 0 }; MEMBERS_MAX];
        let mut count = 0;
        // SAFETY: the handle is open, the pointers valid; libcpg writes at most as many entries as
        // its answer has room for, which are fewer than these.
        let asked = unsafe {
            (self.libraries.cpg_membership_get)(self.cpg, &mut name, list.as_mut_ptr(), &mut count)
        };
        check("cpg_membership_get", asked)?;
        let count = usize::try_from(count).unwrap_or(0);
        Ok(list.iter().take(count).map(|member| (member.node, member.pid)).collect())
    }

    /// The process id under which this member is known in the group.
    pub fn pid(&self) -> u32 {
        process::id()
    }

    /// What to poll for input: the group's descriptor and the quorum's.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        // SAFETY: both are open as long as their handles, which are finalized in drop only.
        self.fds.map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// Hears what there is, at most `limit` things of group and quorum each;
    /// whether that was all.
    ///
    /// # Errors
    ///
    /// The connection is lost; what was heard before it is in `heard`.
    pub fn dispatch(&mut self, limit: usize, heard: &mut Vec<ClusterEvent>) -> Result<bool, CorosyncError> {
        let (cpg, quorum) = (self.cpg, self.quorum);
        let (of_cpg, of_quorum) = (self.libraries.cpg_dispatch, self.libraries.quorum_dispatch);
        // SAFETY: the handles are open; the callbacks only touch this thread's buffer.
        let group = drain(limit, "cpg_dispatch", || unsafe { of_cpg(cpg, DISPATCH_ONE_NONBLOCKING) });
        let votes = quorum.map_or(Ok(true), |quorum| {
            // SAFETY: as above.
            drain(limit, "quorum_dispatch", || unsafe { of_quorum(quorum, DISPATCH_ONE_NONBLOCKING) })
        });
        EVENTS.with_borrow_mut(|buffer| heard.append(buffer));
        Ok(group? && votes?)
    }

    /// Sends a message to all members, this one included, in the one order that all of them see.
    ///
    /// # Errors
    ///
    /// A temporary one if corosync cannot take it now; else the connection is lost.
    pub fn send(&mut self, message: &[u8]) -> Result<(), CorosyncError> {
        let part = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        // SAFETY: the handle is open; libcpg only reads the bytes, during the call.
        check("cpg_mcast_joined", unsafe {
            (self.libraries.cpg_mcast_joined)(self.cpg, TYPE_AGREED, &part, 1)
        })
    }

    /// Leaves the group, so that the others know it before this process ends.
    pub fn leave(self, group: &str) {
        let name = name(group);
        // SAFETY: the handle is open, the name valid during the call. If it fails, drop does it.
        let _ = unsafe { (self.libraries.cpg_leave)(self.cpg, &name) };
    }
}

impl Drop for GroupHandle {
    fn drop(&mut self) {
        // SAFETY: the handles are open, and not used any more. They are gone whatever this says.
        unsafe {
            (self.libraries.cpg_finalize)(self.cpg);
            if let Some(quorum) = self.quorum {
                (self.libraries.quorum_finalize)(quorum);
            }
        }
    }
}

/// Dispatches one by one; whether nothing is left.
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
