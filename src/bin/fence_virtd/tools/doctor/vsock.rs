//! Checks for a vsock listener.

use std::io;
use std::path::Path;

use super::process::RunningDaemon;
use crate::tools::finding::Finding;
use fence_virt::config::VsockConfig;
use fence_virt::fence::ListenerName;
use fence_virt::sys::error_text;
use fence_virt::sys::vsock;

/// Devices and the modules that provide them.
const VHOST: (&str, &str) = ("/dev/vhost-vsock", "vhost_vsock");
const VSOCK: (&str, &str) = ("/dev/vsock", "vsock");

/// Facts about the host.
#[derive(Debug)]
pub(super) struct VsockFacts {
    bound: io::Result<()>,
    has_vhost: bool,
    has_vsock: bool,
    running: Option<RunningDaemon>,
}

/// Inspects the host. The socket never listens and is closed at once.
pub(super) fn inspect(config: &VsockConfig, running: Option<RunningDaemon>) -> VsockFacts {
    let exists = |(path, _): (&str, &str)| Path::new(path).exists();
    let bound = vsock::reserve(config.port).map(drop);
    VsockFacts { bound, has_vhost: exists(VHOST), has_vsock: exists(VSOCK), running }
}

pub(super) fn judge(name: &ListenerName, config: &VsockConfig, facts: &VsockFacts) -> Vec<Finding> {
    let port = config.port;
    let mut findings = vec![match (&facts.bound, facts.running) {
        (Ok(()), _) => Finding::ok(name, format!("port {port} is available")),
        (Err(error), Some(RunningDaemon { pid, .. })) if error.kind() == io::ErrorKind::AddrInUse => {
            let what = format!("port {port} is in use, presumably by the running daemon (process {pid})");
            Finding::ok(name, what)
        }
        (Err(error), _) => {
            let what = format!("cannot bind port {port}: {}: the daemon does not start", error_text(error));
            Finding::error(name, what, remedy(error))
        }
    }];
    for ((path, module), exists) in [(VHOST, facts.has_vhost), (VSOCK, facts.has_vsock)] {
        if !exists {
            let what = format!("{path} does not exist: VMs cannot reach this host");
            let remedy = format!(
                "run `modprobe {module}`; to load it at boot, run `echo {module} > /etc/modules-load.d/{module}.conf`"
            );
            findings.push(Finding::warning(name, what, remedy));
        }
    }
    findings
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => "the kernel lacks vsock support: run `modprobe vhost_vsock`",
        Some(libc::EACCES) => "ports below 1024 need root: run this as root, or choose another `port`",
        Some(libc::EADDRINUSE) => {
            "`ss -l --vsock -p` shows the process (needs the module vsock_diag): stop it, or choose another `port`"
        }
        _ => "choose another `port`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::finding::{Level, auth, shown};

    fn judged(error: Option<i32>, devices: [bool; 2], running: Option<u32>) -> Vec<(Level, String)> {
        let bound = error.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)));
        let running = running.map(|pid| RunningDaemon { pid, uid: Some(0) });
        let facts = VsockFacts { bound, has_vhost: devices[0], has_vsock: devices[1], running };
        let config = VsockConfig { auth: auth(), port: 1229 };
        shown(judge(&ListenerName::new("vsock", None), &config, &facts))
    }

    #[test]
    fn devices_and_port() {
        assert_eq!(judged(None, [true; 2], None), [(Level::Ok, "port 1229 is available / ".to_owned())]);
        let found = judged(None, [false; 2], None);
        let levels: Vec<Level> = found.iter().map(|found| found.0).collect();
        assert_eq!(levels, [Level::Ok, Level::Warning, Level::Warning]);
        assert!(found[1].1.contains("modprobe vhost_vsock"), "{found:?}");
        assert!(found[2].1.contains("modprobe vsock"), "{found:?}");
    }

    #[test]
    fn a_port_that_cannot_be_bound() {
        assert_eq!(judged(Some(libc::EADDRINUSE), [true; 2], Some(7))[0].0, Level::Ok);
        for (code, words) in
            [(libc::EADDRINUSE, "ss -l --vsock"), (libc::EAFNOSUPPORT, "modprobe"), (libc::EACCES, "1024")]
        {
            let found = judged(Some(code), [true; 2], None);
            assert!(found[0].0 == Level::Error && found[0].1.contains(words), "{found:?}");
        }
    }
}
