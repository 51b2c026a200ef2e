//! syslog(3).

use std::ffi::{CStr, CString};

/// Priority of syslog(3) and of the systemd journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Priority {
    /// LOG_ERR
    Error = 3,
    /// LOG_WARNING
    Warning = 4,
    /// LOG_NOTICE
    Notice = 5,
    /// LOG_INFO
    Info = 6,
    /// LOG_DEBUG
    Debug = 7,
}

/// Opens the log with this name, facility daemon, and the pid in each line.
pub fn open(name: &'static CStr) {
    // SAFETY: the name is static; openlog(3) keeps the pointer.
    unsafe { libc::openlog(name.as_ptr(), libc::LOG_PID, libc::LOG_DAEMON) };
}

/// Writes a line; NULs are replaced by blanks.
pub fn write(priority: Priority, line: &str) {
    let Ok(line) = CString::new(line.replace('\0', " ")) else { return };
    // SAFETY: the format is a literal with one `%s`, and `line` is a C string.
    unsafe { libc::syslog(priority as i32, c"%s".as_ptr(), line.as_ptr()) };
}
