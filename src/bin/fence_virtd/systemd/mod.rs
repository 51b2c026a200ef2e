//! The service manager: readiness, watchdog and status line by sd_notify(3).

mod notify;
mod service_manager;

pub(crate) use notify::Notifier;
pub(crate) use service_manager::Manager;
