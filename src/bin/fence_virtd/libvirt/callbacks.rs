//! libvirt's events about VMs and the end of a connection, as calls of a closure.
//!
//! Each callback owns a reference to the closure, which libvirt gives back
//! when the callback is unregistered or the connection is freed.

use std::os::raw::{c_int, c_void};
use std::ptr;
use std::sync::Arc;

use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};
use virt::sys;

/// What libvirt tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A VM was started, stopped, paused, defined or the like.
    Lifecycle([u8; 16]),
    /// A VM was given a device, or lost one.
    Devices([u8; 16]),
    /// The connection has ended: libvirtd is gone, or did not answer its keepalive.
    Closed,
}

/// Takes the notices, in the thread of libvirt's event loop: it must not block.
type Listener = dyn Fn(Notice) + Send + Sync;
/// What libvirt keeps for a callback: a box with this in it.
type Opaque = Arc<Listener>;

/// The callbacks of one connection; unregistered when dropped, which must
/// come before the connection's own end.
#[derive(Debug)]
pub(crate) struct Subscription {
    connect: sys::virConnectPtr,
    callbacks: Vec<c_int>,
    has_close: bool,
}

// SAFETY: libvirt's connections may be used by any thread, and a reference of our own keeps this one.
unsafe impl Send for Subscription {}

impl Subscription {
    /// Has `listener` told of what happens to the VMs of a connection, and of
    /// its end if it can end.
    ///
    /// # Errors
    ///
    /// libvirt's, without lifecycle events. Drivers without the other ones are taken as they are.
    pub(crate) fn new(connect: &Connect, listener: Arc<Listener>) -> Result<Subscription, Error> {
        let connect = connect.as_ptr();
        // SAFETY: the pointer is that of an open connection; the reference is given back in drop.
        if unsafe { sys::virConnectRef(connect) } < 0 {
            return Err(Error::last_error());
        }
        let mut subscription = Subscription { connect, callbacks: Vec::new(), has_close: false };
        // SAFETY: each is a callback of the type that belongs to its event: virConnectDomainEventRegisterAny(3).
        let (lifecycle, device) =
            unsafe { (generic(on_lifecycle as *const c_void), generic(on_device as *const c_void)) };
        subscription.register(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, &listener)?;
        for event in [sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED] {
            unless_unsupported(subscription.register(event, device, &listener))?;
        }
        let opaque = into_opaque(&listener);
        // SAFETY: the connection is open; libvirt frees the opaque value with `free` if it takes it.
        let registered =
            unsafe { sys::virConnectRegisterCloseCallback(connect, Some(on_close), opaque, Some(free)) };
        subscription.has_close = registered == 0;
        if !subscription.has_close {
            // SAFETY: libvirt did not take it.
            unsafe { free(opaque) };
            unless_unsupported(Err(Error::last_error()))?;
        }
        Ok(subscription)
    }

    fn register(
        &mut self,
        event: sys::virDomainEventID,
        callback: sys::virConnectDomainEventGenericCallback,
        listener: &Opaque,
    ) -> Result<(), Error> {
        let opaque = into_opaque(listener);
        // SAFETY: the connection is open, no VM means all VMs; libvirt frees the opaque value with `free` if
        // it takes it.
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
            // SAFETY: libvirt did not take it.
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
            // On a connection that has ended this fails, after it has done its work on this side.
            // SAFETY: we hold a reference to the connection, and the id is one of its.
            unsafe { sys::virConnectDomainEventDeregisterAny(self.connect, id) };
        }
        if self.has_close {
            // SAFETY: as above, and the callback was registered.
            unsafe { sys::virConnectUnregisterCloseCallback(self.connect, Some(on_close)) };
        }
        // SAFETY: gives back the reference of `new`.
        unsafe { sys::virConnectClose(self.connect) };
    }
}

fn unless_unsupported(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.code() == ErrorNumber::NoSupport => Ok(()),
        other => other,
    }
}

fn into_opaque(listener: &Opaque) -> *mut c_void {
    Box::into_raw(Box::new(listener.clone())).cast()
}

/// # Safety
///
/// `callback` must be a function that libvirt may call for the event that it is registered for.
unsafe fn generic(callback: *const c_void) -> sys::virConnectDomainEventGenericCallback {
    // SAFETY: function pointers have one size; libvirt casts it back before it calls it.
    Some(unsafe { std::mem::transmute::<*const c_void, unsafe extern "C" fn(_, _, _)>(callback) })
}

unsafe extern "C" fn free(opaque: *mut c_void) {
    // SAFETY: it came from `into_opaque`, and is freed once.
    drop(unsafe { Box::from_raw(opaque.cast::<Opaque>()) });
}

/// # Safety
///
/// `opaque` must come from `into_opaque` and not be freed yet, `domain` be valid or null.
unsafe fn tell(domain: sys::virDomainPtr, opaque: *mut c_void, notice: fn([u8; 16]) -> Notice) {
    let mut uuid = [0; 16];
    // SAFETY: the buffer has VIR_UUID_BUFLEN (16) bytes, and libvirt keeps the VM during the callback.
    if unsafe { sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) } == 0 {
        // SAFETY: libvirt frees it only after the callback.
        let listener = unsafe { &*opaque.cast::<Opaque>() };
        listener(notice(uuid));
    }
}

unsafe extern "C" fn on_lifecycle(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _event: c_int,
    _detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: libvirt calls it with what was registered.
    unsafe { tell(domain, opaque, Notice::Lifecycle) };
    0
}

unsafe extern "C" fn on_device(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _alias: *const std::os::raw::c_char,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt calls it with what was registered.
    unsafe { tell(domain, opaque, Notice::Devices) };
}

unsafe extern "C" fn on_close(_connect: sys::virConnectPtr, _reason: c_int, opaque: *mut c_void) {
    // SAFETY: libvirt calls it with what was registered, and frees that only afterwards.
    let listener = unsafe { &*opaque.cast::<Opaque>() };
    listener(Notice::Closed);
}
