//! syslog(3).

use std::ffi::{CStr, CString};

/// A priority of syslog(3) and of the systemd journal.
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

/// Opens the log under this name, facility daemon, each line with the pid.
pub fn open(name: &'static CStr) {
    // SAFETY: the name lives as long as the process, as openlog(3) asks.
    unsafe { libc::openlog(name.as_ptr(), libc::LOG_PID, libc::LOG_DAEMON) };
}

/// Writes a line. A NUL in it would end it early and is replaced.
pub fn write(priority: Priority, line: &str) {
    let Ok(line) = CString::new(line.replace('\0', " ")) else { return };
    // SAFETY: the format is a literal that takes one string, and `line` is one.
    unsafe { libc::syslog(priority as i32, c"%s".as_ptr(), line.as_ptr()) };
}
