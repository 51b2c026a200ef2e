//! libvirt's callbacks: events about domains, the end of a connection, error messages and their numbers.
//! And calls about jobs, for which the virt crate has no function, or an unsound one (0.4.3).
//!
//! Each registered callback owns a reference to the handler, which libvirt frees when
//! the callback is unregistered or the connection is freed.

use std::os::raw::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use nix::errno::Errno;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

/// An event of a connection; domains by their UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LibvirtEvent {
    /// The domain was started, stopped, paused, defined or the like.
    Lifecycle([u8; 16], LifecycleChange),
    /// The domain has gained or lost a device.
    Devices([u8; 16]),
    /// The connection has ended: libvirtd is gone, or did not answer the keepalive.
    Closed,
}

/// Part of a lifecycle event that libvirt does not remember, should another event follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LifecycleChange {
    /// The domain has stopped, since it has migrated to another host.
    MovedAway,
    /// The domain runs, not paused by a migration that brings it.
    Active,
    /// Any other change.
    Other,
}

impl LifecycleChange {
    /// Takes the numbers of virDomainEventType and of its detail.
    fn new(event: c_int, detail: c_int) -> LifecycleChange {
        match (u32::try_from(event), u32::try_from(detail)) {
            (Ok(sys::VIR_DOMAIN_EVENT_STOPPED), Ok(sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED)) => {
                LifecycleChange::MovedAway
            }
            (Ok(sys::VIR_DOMAIN_EVENT_STARTED), Ok(sys::VIR_DOMAIN_EVENT_STARTED_MIGRATED)) => {
                LifecycleChange::Other
            }
            (Ok(sys::VIR_DOMAIN_EVENT_STARTED | sys::VIR_DOMAIN_EVENT_RESUMED), _) => LifecycleChange::Active,
            _ => LifecycleChange::Other,
        }
    }
}

/// Handler of events, called by the thread of libvirt's event loop: it must not block.
type EventHandler = dyn Fn(LibvirtEvent) + Send + Sync;
/// Value that libvirt keeps for a callback, in a box.
type Opaque = Arc<EventHandler>;

/// Callbacks of one connection, unregistered on drop. Drop it before the connection.
#[derive(Debug)]
pub(crate) struct Subscription {
    connect: sys::virConnectPtr,
    callbacks: Vec<c_int>,
    has_close: bool,
}

// SAFETY: libvirt's connections are usable from any thread, and our own reference keeps this one alive.
unsafe impl Send for Subscription {}

impl Subscription {
    /// Subscribes `handler` to the events of all domains, and to the end of the
    /// connection if its driver has a remote end.
    /// Errors: libvirt's, if there are no lifecycle events. The others are optional.
    pub(crate) fn new(connect: &Connect, handler: Arc<EventHandler>) -> Result<Subscription, Error> {
        let connect = connect.as_ptr();
        // SAFETY: the pointer is that of an open connection; drop releases the reference.
        if unsafe { sys::virConnectRef(connect) } < 0 {
            return Err(Error::last_error());
        }
        let mut subscription = Subscription { connect, callbacks: Vec::new(), has_close: false };
        // SAFETY: the callback has the type of VIR_DOMAIN_EVENT_ID_LIFECYCLE, virConnectDomainEventCallback.
        let lifecycle = unsafe { generic(on_lifecycle as *const c_void) };
        subscription.register(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, &handler)?;
        for event in [sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED] {
            // SAFETY: the callback has the type of both events, virConnectDomainEventDevice{Added,Removed}Callback.
            let device = unsafe { generic(on_device as *const c_void) };
            unless_unsupported(subscription.register(event, device, &handler))?;
        }
        let opaque = into_opaque(&handler);
        // SAFETY: the connection is open; libvirt frees the opaque value with `free` if it takes it.
        let registered =
            unsafe { sys::virConnectRegisterCloseCallback(connect, Some(on_close), opaque, Some(free)) };
        subscription.has_close = registered == 0;
        if !subscription.has_close {
            // SAFETY: libvirt did not take the value.
            unsafe { free(opaque) };
            unless_unsupported(Err(Error::last_error()))?;
        }
        Ok(subscription)
    }

    fn register(
        &mut self,
        event: sys::virDomainEventID,
        callback: sys::virConnectDomainEventGenericCallback,
        handler: &Opaque,
    ) -> Result<(), Error> {
        let opaque = into_opaque(handler);
        // SAFETY: the connection is open, a null domain means all domains; libvirt frees the opaque value
        // with `free` if it takes it.
        let id = unsafe {
            sys::virConnectDomainEventRegisterAny(
                self.connect,
                ptr::null_mut(),
                event as c_int,
                callback,
                opaque,
                Some(free),
            )
        };
        if id < 0 {
            let error = Error::last_error();
            // SAFETY: libvirt did not take the value.
            unsafe { free(opaque) };
            return Err(error);
        }
        self.callbacks.push(id);
        Ok(())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for &id in &self.callbacks {
            // On a connection that has ended this fails, but only after it has unregistered on this side.
            // SAFETY: we hold a reference to the connection, and the id is one of its callbacks.
            unsafe { sys::virConnectDomainEventDeregisterAny(self.connect, id) };
        }
        if self.has_close {
            // SAFETY: as above, and the callback is registered.
            unsafe { sys::virConnectUnregisterCloseCallback(self.connect, Some(on_close)) };
        }
        // SAFETY: releases the reference that `new` took.
        unsafe { sys::virConnectClose(self.connect) };
    }
}

fn unless_unsupported(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.code() == ErrorNumber::NoSupport => Ok(()),
        other => other,
    }
}

fn into_opaque(handler: &Opaque) -> *mut c_void {
    Box::into_raw(Box::new(handler.clone())).cast()
}

/// # Safety
///
/// `callback` must be a function that libvirt may call for the event that it is registered for.
unsafe fn generic(callback: *const c_void) -> sys::virConnectDomainEventGenericCallback {
    // SAFETY: function pointers have one size; libvirt casts it back before the call.
    Some(unsafe { std::mem::transmute::<*const c_void, unsafe extern "C" fn(_, _, _)>(callback) })
}

unsafe extern "C" fn free(opaque: *mut c_void) {
    // SAFETY: the value came from `into_opaque` and is freed once.
    drop(unsafe { Box::from_raw(opaque.cast::<Opaque>()) });
}

/// # Safety
///
/// `opaque` must come from `into_opaque` and not be freed yet, `domain` must be valid or null.
unsafe fn notify(domain: sys::virDomainPtr, opaque: *mut c_void, event: impl Fn([u8; 16]) -> LibvirtEvent) {
    let mut uuid = [0; 16];
    // SAFETY: the buffer has VIR_UUID_BUFLEN (16) bytes, and libvirt keeps the domain during the callback.
    if unsafe { sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) } == 0 {
        // SAFETY: libvirt frees the value only after the callback.
        let handler = unsafe { &*opaque.cast::<Opaque>() };
        handler(event(uuid));
    }
}

unsafe extern "C" fn on_lifecycle(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    let change = LifecycleChange::new(event, detail);
    // SAFETY: libvirt passes the value that was registered.
    unsafe { notify(domain, opaque, |uuid| LibvirtEvent::Lifecycle(uuid, change)) };
    0
}

unsafe extern "C" fn on_device(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _alias: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt passes the value that was registered.
    unsafe { notify(domain, opaque, LibvirtEvent::Devices) };
}

unsafe extern "C" fn on_close(_connect: sys::virConnectPtr, _reason: c_int, opaque: *mut c_void) {
    // SAFETY: libvirt passes the value that was registered, and frees it only after the callback.
    let handler = unsafe { &*opaque.cast::<Opaque>() };
    handler(LibvirtEvent::Closed);
}

/// Keeps libvirt from printing errors on stderr, in the whole process: the daemon logs them.
pub(super) fn silence_errors() {
    unsafe extern "C" fn ignore(_data: *mut c_void, _error: sys::virErrorPtr) {}
    // SAFETY: the handler dereferences neither argument, and a function lives forever.
    unsafe { sys::virSetErrorFunc(ptr::null_mut(), Some(ignore)) };
}

/// Error number of the system call behind an error. None if libvirt gives none, or if this thread
/// has called libvirt since and the error is not its last one.
pub(super) fn errno_of(error: &Error) -> Option<Errno> {
    if error.code() != ErrorNumber::SystemError || Error::last_error() != *error {
        return None;
    }
    // SAFETY: null, or the thread's own error, which nothing changes before its next libvirt call.
    let number = unsafe { sys::virGetLastError().as_ref() }?.int1;
    // virReportSystemError puts errno there, and -1 where it had none.
    (number > 0).then(|| Errno::from_raw(number))
}

/// Returns the state of libvirt's control of a running domain. libvirt answers at once, also while other
/// calls hold the domain.
pub(super) fn control_state(domain: &Domain) -> Result<sys::virDomainControlState, Error> {
    let mut info = sys::virDomainControlInfo { state: 0, details: 0, stateTime: 0 };
    // SAFETY: the domain is valid as long as it is borrowed; libvirt fills the structure during the call.
    if unsafe { sys::virDomainGetControlInfo(domain.as_ptr(), &mut info, 0) } < 0 {
        return Err(Error::last_error());
    }
    Ok(info.state)
}

/// Returns the operation of the job that is active on a running domain, unknown if libvirt does not name it;
/// none if no job is active.
pub(super) fn job_operation(domain: &Domain) -> Result<Option<sys::virDomainJobOperation>, Error> {
    let (mut kind, mut count, mut operation) = (0, 0, 0);
    let mut params = ptr::null_mut();
    // SAFETY: the domain is valid as long as it is borrowed; libvirt sets the other values during the call.
    let asked = unsafe { sys::virDomainGetJobStats(domain.as_ptr(), &mut kind, &mut params, &mut count, 0) };
    if asked < 0 {
        return Err(Error::last_error());
    }
    // SAFETY: libvirt has returned `count` parameters, null if 0; they are freed once, and not used after that.
    unsafe {
        // If it is not among them, or no int, the value stays.
        sys::virTypedParamsGetInt(params, count, sys::VIR_DOMAIN_JOB_OPERATION.as_ptr(), &mut operation);
        sys::virTypedParamsFree(params, count);
    }
    let is_active = u32::try_from(kind).is_ok_and(|kind| kind != sys::VIR_DOMAIN_JOB_NONE);
    let operation = u32::try_from(operation).unwrap_or(sys::VIR_DOMAIN_JOB_OPERATION_UNKNOWN);
    Ok(is_active.then_some(operation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_and_a_start_are_told_apart_from_a_domain_that_just_comes_in() {
        let change = |event: u32, detail: u32| LifecycleChange::new(event as c_int, detail as c_int);
        let moved = change(sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED);
        let failed = change(sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_FAILED);
        let booted = change(sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_STARTED_BOOTED);
        let comes = change(sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_STARTED_MIGRATED);
        let has_come = change(sys::VIR_DOMAIN_EVENT_RESUMED, sys::VIR_DOMAIN_EVENT_RESUMED_MIGRATED);
        assert_eq!(
            [moved, failed, comes],
            [LifecycleChange::MovedAway, LifecycleChange::Other, LifecycleChange::Other]
        );
        assert_eq!([booted, has_come], [LifecycleChange::Active; 2]);
        assert_eq!(LifecycleChange::new(-1, -1), LifecycleChange::Other);
    }
}
