//! Shared libraries that are opened at run time: dlopen(3).

use std::ffi::{CStr, CString, OsStr, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A loaded library, which is never closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SharedLibrary(*mut c_void);

// SAFETY: a handle of dlopen(3) may be used in any thread.
unsafe impl Send for SharedLibrary {}
// SAFETY: as above; dlsym(3) is thread-safe.
unsafe impl Sync for SharedLibrary {}

/// Address of a function or variable in a loaded library.
pub(super) type Symbol = *mut c_void;

impl SharedLibrary {
    /// Loads a library by its soname; if it is loaded already, this only counts a reference.
    ///
    /// # Errors
    ///
    /// The words of dlerror(3).
    pub(super) fn open(soname: &CStr) -> Result<SharedLibrary, String> {
        // SAFETY: the name is a C string; the libraries that this suite opens have no harmful initialisers.
        let library = unsafe { libc::dlopen(soname.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() { Err(last_error()) } else { Ok(SharedLibrary(library)) }
    }

    /// Finds a symbol.
    ///
    /// # Errors
    ///
    /// The words of dlerror(3).
    pub(super) fn find(self, name: &str) -> Result<Symbol, String> {
        let name = CString::new(name).map_err(|error| error.to_string())?;
        // SAFETY: the library is loaded, and the name is a C string.
        let symbol = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if symbol.is_null() { Err(last_error()) } else { Ok(symbol) }
    }
}

/// Returns the file of the loaded object that has this address; none if no object has it.
pub(super) fn file_of(address: *const c_void) -> Option<PathBuf> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr(3) only compares the address, and the pointer to the result is valid.
    if unsafe { libc::dladdr(address, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: dladdr(3) has filled it.
    let name = unsafe { info.assume_init() }.dli_fname;
    if name.is_null() {
        return None;
    }
    // SAFETY: not null: it is a C string of the loaded object, which is never unloaded.
    let name = unsafe { CStr::from_ptr(name) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

fn last_error() -> String {
    // SAFETY: it returns null or a C string that is valid until this thread's next call.
    let error = unsafe { libc::dlerror() };
    if error.is_null() {
        return "unknown error".to_owned();
    }
    // SAFETY: not null, and valid as above.
    unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_symbols_that_are_missing_are_errors() {
        assert!(SharedLibrary::open(c"libno-such-library.so.1").unwrap_err().contains("libno-such-library"));
        let libc = SharedLibrary::open(c"libc.so.6").unwrap();
        assert!(libc.find("no_such_function").unwrap_err().contains("no_such_function"));
        let file = file_of(libc.find("strlen").unwrap()).unwrap();
        assert!(file.to_string_lossy().contains("libc.so"), "{}", file.display());
        assert_eq!(file_of(std::ptr::without_provenance(8)), None);
    }
}
