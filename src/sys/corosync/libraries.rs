//! The functions of libcpg and libquorum, opened with dlopen(3).

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::mem;

/// cpg_handle_t and quorum_handle_t.
pub(super) type RawHandle = u64;

/// cs_error_t.
type Code = c_int;

/// struct cpg_name: a name and its length, at most 128 bytes.
#[repr(C)]
pub(super) struct CpgName {
    pub(super) length: u32,
    pub(super) value: [u8; 128],
}

/// struct cpg_address.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CpgAddress {
    pub(super) node: u32,
    pub(super) pid: u32,
    pub(super) reason: u32,
}

pub(super) type OnMessage = unsafe extern "C" fn(RawHandle, *const CpgName, u32, u32, *mut c_void, usize);
pub(super) type OnChange = unsafe extern "C" fn(
    RawHandle,
    *const CpgName,
    *const CpgAddress,
    usize,
    *const CpgAddress,
    usize,
    *const CpgAddress,
    usize,
);
pub(super) type OnQuorum = unsafe extern "C" fn(RawHandle, u32, u64, u32, *mut u32);

/// cpg_callbacks_t.
#[repr(C)]
pub(super) struct CpgCallbacks {
    pub(super) deliver: OnMessage,
    pub(super) change: OnChange,
}

/// quorum_callbacks_t.
#[repr(C)]
pub(super) struct QuorumCallbacks {
    pub(super) notify: OnQuorum,
}

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) in $library:ident;)*) => {
        /// The libraries, open; they are never closed.
        #[derive(Debug, Clone, Copy)]
        pub struct Libraries {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) -> Code,)*
        }

        impl Libraries {
            /// Opens them.
            ///
            /// # Errors
            ///
            /// A sentence that names the library, and the package that has it.
            pub fn open() -> Result<Libraries, String> {
                Ok(Libraries {
                    $($name: {
                        let name = concat!(stringify!($name), "\0");
                        let symbol = find(open($library)?, name)?;
                        // SAFETY: it is the function of this name in corosync's headers, version 4
                        // of libcpg and 5 of libquorum, whose type this is.
                        unsafe { mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> Code>(symbol) }
                    },)*
                })
            }
        }
    };
}

functions! {
    cpg_initialize: fn(*mut RawHandle, *mut CpgCallbacks) in CPG;
    cpg_finalize: fn(RawHandle) in CPG;
    cpg_fd_get: fn(RawHandle, *mut c_int) in CPG;
    cpg_dispatch: fn(RawHandle, c_uint) in CPG;
    cpg_join: fn(RawHandle, *const CpgName) in CPG;
    cpg_leave: fn(RawHandle, *const CpgName) in CPG;
    cpg_mcast_joined: fn(RawHandle, c_uint, *const libc::iovec, c_uint) in CPG;
    cpg_membership_get: fn(RawHandle, *mut CpgName, *mut CpgAddress, *mut c_int) in CPG;
    cpg_local_get: fn(RawHandle, *mut c_uint) in CPG;
    quorum_initialize: fn(*mut RawHandle, *mut QuorumCallbacks, *mut u32) in QUORUM;
    quorum_finalize: fn(RawHandle) in QUORUM;
    quorum_fd_get: fn(RawHandle, *mut c_int) in QUORUM;
    quorum_dispatch: fn(RawHandle, c_uint) in QUORUM;
    quorum_trackstart: fn(RawHandle, c_uint) in QUORUM;
}

/// A library, and the package that has it in Debian and SUSE.
type Library = (&'static CStr, &'static str);
const CPG: Library = (c"libcpg.so.4", "libcpg4");
const QUORUM: Library = (c"libquorum.so.5", "libquorum5");

/// Opens a library; once more, if it is open, costs nothing.
fn open((name, package): Library) -> Result<*mut c_void, String> {
    // SAFETY: the name is a C string; corosync's libraries run no code that matters when they are opened.
    let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if !library.is_null() {
        return Ok(library);
    }
    let file = name.to_string_lossy();
    Err(format!(
        "the cpg backend needs {file} of corosync: install the package {package} (Debian, SUSE) \
         or corosynclib (Fedora, RHEL): {}",
        last_error()
    ))
}

fn find(library: *mut c_void, name: &'static str) -> Result<*mut c_void, String> {
    // SAFETY: the library is open, and the name ends with a NUL.
    let symbol = unsafe { libc::dlsym(library, name.as_ptr().cast::<c_char>()) };
    if symbol.is_null() {
        return Err(format!("corosync's library is of another version: {}", last_error()));
    }
    Ok(symbol)
}

fn last_error() -> String {
    // SAFETY: it gives a C string that is valid until the next call of this thread, or null.
    let error = unsafe { libc::dlerror() };
    if error.is_null() {
        return "no reason is given".to_owned();
    }
    // SAFETY: as above, and it is not null.
    unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned()
}
