//! Keeps libvirt from printing its errors on stderr: the daemon logs each in its own words.

/// Silences libvirt's own error messages in the whole process.
pub(crate) fn silence() {
    /// Takes an error and does nothing with it.
    unsafe extern "C" fn ignore(_data: *mut libc::c_void, _error: virt::sys::virErrorPtr) {}
    // SAFETY: the handler touches neither of its arguments, and a function lives for ever.
    unsafe { virt::sys::virSetErrorFunc(std::ptr::null_mut(), Some(ignore)) };
}
