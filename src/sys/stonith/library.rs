use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::mem;

use super::record::RawRecord;
use crate::sys::shared_library::{SharedLibrary, Symbol, file_of};

/// A stonith_t, whose layout depends on the version.
pub(super) type RawFencer = *mut c_void;

/// stonith_t of libstonithd.so.26 (pacemaker 2.x).
#[repr(C)]
struct RawFencer26 {
    state: c_int,
    call_id: c_int,
    call_timeout: c_int,
    private: *mut c_void,
    commands: *const RawCommands,
}

/// stonith_t of libstonithd.so.56 (pacemaker 3.x).
#[repr(C)]
struct RawFencer56 {
    state: c_int,
    call_id: c_int,
    private: *mut c_void,
    commands: *const RawCommands,
}

/// First functions of stonith_api_operations_t, the same in both.
#[repr(C)]
struct RawCommands {
    free: Symbol,
    connect: Symbol,
    /// From disconnect to confirm.
    unused: [Symbol; 13],
    history: Symbol,
    register_notification: Symbol,
}

pub(super) type Connect = unsafe extern "C" fn(RawFencer, *const c_char, *mut c_int) -> c_int;
pub(super) type AskHistory =
    unsafe extern "C" fn(RawFencer, c_int, *const c_char, *mut *mut RawRecord, c_int) -> c_int;
pub(super) type OnEvent = unsafe extern "C" fn(RawFencer, *mut c_void);
pub(super) type RegisterNotification = unsafe extern "C" fn(RawFencer, *const c_char, OnEvent) -> c_int;

/// Functions of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct FencerCommands {
    pub(super) connect: Connect,
    pub(super) history: AskHistory,
    pub(super) register_notification: RegisterNotification,
}

/// FencerLayout of stonith_t.
#[derive(Debug, Clone, Copy)]
enum FencerLayout {
    V26,
    V56,
}

/// Reason why the fencer's library cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LibraryError {
    /// It is not installed: the words of dlerror(3).
    Missing(String),
    /// It is not one that is known: a sentence.
    Unsupported(String),
}

impl fmt::Display for LibraryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LibraryError::Missing(reason) => write!(f, "pacemaker's libstonithd is not installed: {reason}"),
            LibraryError::Unsupported(reason) => write!(f, "unsupported version of libstonithd: {reason}"),
        }
    }
}

impl std::error::Error for LibraryError {}

/// The loaded library, which is never closed.
#[derive(Debug, Clone)]
pub struct FencerLibrary {
    layout: FencerLayout,
    file: String,
    pub(super) new: unsafe extern "C" fn() -> RawFencer,
    pub(super) delete: unsafe extern "C" fn(RawFencer),
    pub(super) free_history: unsafe extern "C" fn(*mut RawRecord),
}

const LIBRARIES: [(&CStr, FencerLayout); 2] =
    [(c"libstonithd.so.56", FencerLayout::V56), (c"libstonithd.so.26", FencerLayout::V26)];

impl FencerLibrary {
    /// Loads the library, of pacemaker 3.x or 2.x.
    ///
    /// # Errors
    ///
    /// If it is not installed, or not one that is known.
    pub fn open() -> Result<FencerLibrary, LibraryError> {
        FencerLibrary::open_first(&LIBRARIES)
    }

    fn open_first(libraries: &[(&CStr, FencerLayout)]) -> Result<FencerLibrary, LibraryError> {
        if !cfg!(target_pointer_width = "64") {
            return Err(LibraryError::Unsupported("it is used on 64-bit systems only".to_owned()));
        }
        let mut reasons = Vec::new();
        for &(soname, layout) in libraries {
            match SharedLibrary::open(soname) {
                Ok(library) => return FencerLibrary::of(library, layout).map_err(LibraryError::Unsupported),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(LibraryError::Missing(reasons.join("; ")))
    }

    fn of(library: SharedLibrary, layout: FencerLayout) -> Result<FencerLibrary, String> {
        let new = library.find("stonith_api_new")?;
        let (delete, free_history) =
            (library.find("stonith_api_delete")?, library.find("stonith_history_free")?);
        let file = file_of(new).ok_or("the file of stonith_api_new is unknown")?;
        let file = file.canonicalize().unwrap_or(file);
        let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // SAFETY: the types are those of these functions in the header of both versions.
        unsafe {
            Ok(FencerLibrary {
                layout,
                file,
                new: mem::transmute::<Symbol, unsafe extern "C" fn() -> RawFencer>(new),
                delete: mem::transmute::<Symbol, unsafe extern "C" fn(RawFencer)>(delete),
                free_history: mem::transmute::<Symbol, unsafe extern "C" fn(*mut RawRecord)>(free_history),
            })
        }
    }

    /// Name of the library's file with its version, such as libstonithd.so.26.8.2.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Returns the functions of a connection, after a check that they are functions of this library: a
    /// version with another layout has something else in their places.
    ///
    /// # Safety
    ///
    /// `connection` must be one that `new` has returned, not null.
    pub(super) unsafe fn commands(&self, connection: RawFencer) -> Result<FencerCommands, LibraryError> {
        // SAFETY: the caller guarantees that the connection is valid; its size is at least that of RawFencer56,
        // and of RawFencer26 by the header of that version.
        let commands = unsafe {
            match self.layout {
                FencerLayout::V26 => (*connection.cast::<RawFencer26>()).commands,
                FencerLayout::V56 => (*connection.cast::<RawFencer56>()).commands,
            }
        };
        // SAFETY: the library allocates the table with the connection, and frees it with that.
        let table = unsafe { commands.as_ref() };
        let own = file_of(self.new as Symbol);
        let is_own = |symbol: Symbol| own.is_some() && file_of(symbol) == own;
        let Some(table) = table.filter(|table| {
            let used = [table.free, table.connect, table.history, table.register_notification];
            used.into_iter().chain(table.unused).all(is_own)
        }) else {
            return Err(LibraryError::Unsupported(format!("{} has another layout", self.file)));
        };
        // SAFETY: they are functions of the library, and the types are those of the header.
        unsafe {
            Ok(FencerCommands {
                connect: mem::transmute::<Symbol, Connect>(table.connect),
                history: mem::transmute::<Symbol, AskHistory>(table.history),
                register_notification: mem::transmute::<Symbol, RegisterNotification>(
                    table.register_notification,
                ),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_and_a_foreign_one_are_told_apart() {
        let missing = [
            (c"libno-such-fencer.so.26", FencerLayout::V26),
            (c"libno-such-fencer.so.56", FencerLayout::V56),
        ];
        let error = FencerLibrary::open_first(&missing).unwrap_err();
        if !cfg!(target_pointer_width = "64") {
            assert!(matches!(error, LibraryError::Unsupported(_)), "{error}");
            return;
        }
        let LibraryError::Missing(reason) = &error else { panic!("{error}") };
        assert!(
            reason.contains("fencer.so.26") && reason.contains("fencer.so.56"),
            "both are named: {reason}"
        );
        assert!(error.to_string().contains("not installed"));
        let error = FencerLibrary::open_first(&[missing[0], (c"libc.so.6", FencerLayout::V26)]).unwrap_err();
        let LibraryError::Unsupported(reason) = &error else { panic!("{error}") };
        assert!(reason.contains("stonith_api_new"), "{reason}");
    }

    #[test]
    fn a_table_of_other_functions_is_refused() {
        extern "C" fn new() -> RawFencer {
            std::ptr::null_mut()
        }
        extern "C" fn delete(_: RawFencer) {}
        extern "C" fn free_history(_: *mut RawRecord) {}
        let library = |layout| FencerLibrary { layout, file: "fake".to_owned(), new, delete, free_history };
        let own = new as Symbol;
        // A function of the C library does not belong to this program.
        let foreign = SharedLibrary::open(c"libc.so.6").unwrap().find("strlen").unwrap();
        for (connect, is_known) in [(own, true), (foreign, false), (std::ptr::null_mut(), false)] {
            let table = RawCommands {
                free: own,
                connect,
                unused: [own; 13],
                history: own,
                register_notification: own,
            };
            let private = std::ptr::null_mut();
            let mut old =
                RawFencer26 { state: 2, call_id: 0, call_timeout: 0, private, commands: &raw const table };
            let mut new = RawFencer56 { state: 2, call_id: 0, private, commands: &raw const table };
            // SAFETY: both connections are valid, with the layout that is said.
            let found = unsafe {
                [
                    library(FencerLayout::V26).commands((&raw mut old).cast()),
                    library(FencerLayout::V56).commands((&raw mut new).cast()),
                ]
            };
            assert!(found.iter().all(|found| found.is_ok() == is_known), "{found:?}");
        }
    }
}
