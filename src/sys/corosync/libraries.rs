//! Functions of libcpg, libquorum and libcmap, loaded with dlopen(3).

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::mem;

use crate::sys::shared_library::{SharedLibrary, Symbol};

/// cpg_handle_t, quorum_handle_t, cmap_handle_t and cmap_iter_handle_t.
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
    ($(#[$doc:meta])* pub(super) struct $group:ident {
        $($name:ident: fn($($argument:ty),*) in $library:ident;)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(super) struct $group {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) -> Code,)*
        }

        impl $group {
            fn load() -> Result<$group, String> {
                Ok($group {
                    $($name: {
                        let symbol = find(open($library)?, stringify!($name))?;
                        // SAFETY: the type is that of this function in the headers of libcpg 4,
                        // libquorum 5 and libcmap 4.
                        unsafe { mem::transmute::<Symbol, unsafe extern "C" fn($($argument),*) -> Code>(symbol) }
                    },)*
                })
            }
        }
    };
}

functions! {
    /// Functions for the group and the quorum.
    pub(super) struct GroupFunctions {
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
}

functions! {
    /// Functions for corosync's configuration.
    pub(super) struct CmapFunctions {
        cmap_initialize: fn(*mut RawHandle) in CMAP;
        cmap_finalize: fn(RawHandle) in CMAP;
        cmap_get_uint32: fn(RawHandle, *const c_char, *mut u32) in CMAP;
        cmap_iter_init: fn(RawHandle, *const c_char, *mut RawHandle) in CMAP;
        cmap_iter_next: fn(RawHandle, RawHandle, *mut c_char, *mut usize, *mut c_int) in CMAP;
        cmap_iter_finalize: fn(RawHandle, RawHandle) in CMAP;
    }
}

/// The loaded libraries, which are never closed.
#[derive(Debug, Clone, Copy)]
pub struct Libraries {
    pub(super) group: GroupFunctions,
    /// None if libcmap is missing.
    pub(super) cmap: Option<CmapFunctions>,
}

impl Libraries {
    /// Loads the libraries.
    ///
    /// # Errors
    ///
    /// A sentence with the missing library and its package; not for libcmap, which is optional.
    pub fn open() -> Result<Libraries, String> {
        Ok(Libraries { group: GroupFunctions::load()?, cmap: CmapFunctions::load().ok() })
    }

    /// Checks that libcmap was loaded.
    ///
    /// # Errors
    ///
    /// A sentence with its package.
    pub fn check_cmap(&self) -> Result<(), String> {
        match self.cmap {
            Some(_) => Ok(()),
            None => CmapFunctions::load().map(|_| ()),
        }
    }
}

/// File name of a library, and its package in Debian and SUSE.
type Library = (&'static CStr, &'static str);
const CPG: Library = (c"libcpg.so.4", "libcpg4");
const QUORUM: Library = (c"libquorum.so.5", "libquorum5");
const CMAP: Library = (c"libcmap.so.4", "libcmap4");

/// Loads a library.
fn open((name, package): Library) -> Result<SharedLibrary, String> {
    SharedLibrary::open(name).map_err(|error| {
        let file = name.to_string_lossy();
        format!(
            "the cpg backend needs {file} of corosync: install the package {package} (Debian, SUSE) \
             or corosynclib (Fedora, RHEL): {error}"
        )
    })
}

fn find(library: SharedLibrary, name: &str) -> Result<Symbol, String> {
    library.find(name).map_err(|error| format!("unsupported version of corosync's libraries: {error}"))
}
