use std::ffi::{CStr, CString, c_int, c_void};
use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr::{self, NonNull};

use super::error::{FencerError, check};
use super::library::{FencerCommands, FencerLibrary, RawFencer};
use super::record::{FencingRecord, copy_all};

/// Kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FencerEvent {
    /// A fencing action has ended while the fencer watched.
    FencingEnded,
    /// The fencer takes over records of other nodes, which may be of any age.
    HistorySynced,
}

impl FencerEvent {
    fn name(self) -> &'static CStr {
        match self {
            FencerEvent::FencingEnded => c"st_notify_fence",
            FencerEvent::HistorySynced => c"st_notify_history_synced",
        }
    }
}

/// Connection to the fencer of this host. After an error it is lost: drop the handle.
#[derive(Debug)]
pub struct FencerHandle {
    library: FencerLibrary,
    connection: NonNull<c_void>,
    commands: FencerCommands,
    fd: RawFd,
    /// Keeps the handle in its thread: see the module.
    not_send: PhantomData<*const ()>,
}

/// st_opt_cs_nodeid: the target is a node id of corosync.
const BY_NODE_ID: c_int = 0x200;
/// st_opt_sync_call.
const SYNC_CALL: c_int = 0x1000;
/// Timeout of queries in seconds, to which the library adds a minute.
const QUERY_TIMEOUT: c_int = 1;

/// A connection is only asked whether it is readable.
unsafe extern "C" fn ignore(_connection: RawFencer, _event: *mut c_void) {}

impl FencerHandle {
    /// Connects under a name for the fencer's log; the error is a sentence.
    pub fn connect(library: &FencerLibrary, name: &CStr) -> Result<FencerHandle, String> {
        // SAFETY: the function has no preconditions.
        let connection = NonNull::new(unsafe { (library.new)() }).ok_or("libstonithd has no memory")?;
        // SAFETY: the connection is valid: it was just made.
        let commands = unsafe { library.commands(connection.as_ptr()) };
        // A connection of unknown layout is not freed: even that is unknown.
        let commands = commands.map_err(|error| error.to_string())?;
        let library = library.clone();
        let mut handle = FencerHandle { library, connection, commands, fd: -1, not_send: PhantomData };
        // SAFETY: the connection is valid, and so are name and descriptor during the call.
        let code = unsafe { (commands.connect)(connection.as_ptr(), name.as_ptr(), &mut handle.fd) };
        check("connect", code).map_err(|error| error.to_string())?;
        Ok(handle)
    }

    /// Makes the descriptor readable at the next event of this kind. Each handle is for one kind.
    pub fn await_event(&mut self, event: FencerEvent) -> Result<(), FencerError> {
        // SAFETY: the connection is valid; the library keeps the pointers to the name, which is static, and
        // to the function.
        let code = unsafe {
            (self.commands.register_notification)(self.connection.as_ptr(), event.name().as_ptr(), ignore)
        };
        check("register_notification", code)
    }

    /// Descriptor to poll for input. A connection that is lost is readable too.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: it stays open until the connection is deleted, which only drop does.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// Queries the fencing actions on a node, in no order.
    pub fn history(&mut self, node: u32) -> Result<Vec<FencingRecord>, FencerError> {
        let mut first = ptr::null_mut();
        // Digits contain no NUL.
        let target = CString::new(node.to_string()).unwrap_or_default();
        // SAFETY: the connection is valid, and so are target and result during the call.
        let code = unsafe {
            (self.commands.history)(
                self.connection.as_ptr(),
                SYNC_CALL | BY_NODE_ID,
                target.as_ptr(),
                &mut first,
                QUERY_TIMEOUT,
            )
        };
        // SAFETY: the list is null or valid.
        let records = unsafe { copy_all(first) };
        // SAFETY: the list is null or was allocated by the library, and is not used afterwards.
        unsafe { (self.library.free_history)(first) };
        check("history", code)?;
        Ok(records)
    }
}

impl Drop for FencerHandle {
    fn drop(&mut self) {
        // SAFETY: the connection is valid, and not used afterwards.
        unsafe { (self.library.delete)(self.connection.as_ptr()) };
    }
}
