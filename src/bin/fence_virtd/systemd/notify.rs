//! Datagrams of sd_notify(3).

use fence_virt::sys::error_text;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Socket of the service manager (`$NOTIFY_SOCKET`) and interval of its watchdog (`$WATCHDOG_USEC`).
#[derive(Debug)]
pub(crate) struct Notifier {
    target: Option<OsString>,
    watchdog: Option<Duration>,
}

impl Notifier {
    pub(crate) fn from_environment() -> Notifier {
        let variable = |name: &str| std::env::var(name).ok();
        let pid = std::process::id().to_string();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), &pid);
        Notifier { target: std::env::var_os("NOTIFY_SOCKET"), watchdog }
    }

    /// Returns a notifier with this interval whose socket does not exist.
    #[cfg(test)]
    pub(crate) fn watched(every: Duration) -> Notifier {
        Notifier { target: Some("@fence_virtd-nobody".into()), watchdog: Some(every) }
    }

    /// Returns true if there is a service manager to notify.
    pub(crate) fn is_active(&self) -> bool {
        self.target.is_some()
    }

    /// Returns the interval of `WATCHDOG=1`: half of the timeout, as sd_watchdog_enabled(3)
    /// recommends. None without a watchdog.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.target.is_some())
    }

    /// Sends a state such as `READY=1`.
    pub(crate) fn send(&self, state: &str) {
        let Some(target) = &self.target else { return };
        if let Err(error) = send(target.as_bytes(), state) {
            log::warn!(
                "cannot notify the service manager at NOTIFY_SOCKET={target:?}: {}",
                error_text(&error)
            );
        }
    }
}

fn watchdog(usec: Option<String>, pid: Option<String>, own_pid: &str) -> Option<Duration> {
    if pid.is_some_and(|pid| pid != own_pid) {
        return None;
    }
    let usec: u64 = usec?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec / 2))
}

fn send(target: &[u8], state: &str) -> io::Result<()> {
    let address = match target {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_twice_per_timeout() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(watchdog(text("180000000"), None, "7"), Some(Duration::from_secs(90)));
        assert_eq!(watchdog(text("180000000"), text("7"), "7"), Some(Duration::from_secs(90)));
        assert_eq!(watchdog(text("180000000"), text("8"), "7"), None, "it is for another process");
        for wrong in ["", "0", "-1", "soon"] {
            assert_eq!(watchdog(text(wrong), None, "7"), None, "{wrong}");
        }
        assert_eq!(watchdog(None, None, "7"), None);
    }
}
