//! Notifications of the service manager by sd_notify(3): readiness, watchdog and status line.
#![forbid(unsafe_code)]

mod notify;
mod service_manager;

pub(crate) use notify::Notifier;
pub(crate) use service_manager::ServiceManager;
