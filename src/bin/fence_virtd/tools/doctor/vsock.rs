//! Whether VMs can reach this host by vsock.

use std::io;
use std::path::Path;

use super::finding::Finding;
use super::process::Running;
use fence_virt::config::VsockConfig;
use fence_virt::fence::ListenerName;
use fence_virt::sys::vsock;

/// The devices, and the modules that make them.
const VHOST: (&str, &str) = ("/dev/vhost-vsock", "vhost_vsock");
const VSOCK: (&str, &str) = ("/dev/vsock", "vsock");

/// What was seen of the host.
#[derive(Debug)]
pub(super) struct Facts {
    bound: io::Result<()>,
    has_vhost: bool,
    has_vsock: bool,
    running: Option<Running>,
}

/// Looks. The socket never listens, and is closed at once.
pub(super) fn look(config: &VsockConfig, running: Option<Running>) -> Facts {
    let is_there = |(path, _): (&str, &str)| Path::new(path).exists();
    let bound = vsock::reserve(config.port).map(drop);
    Facts { bound, has_vhost: is_there(VHOST), has_vsock: is_there(VSOCK), running }
}

pub(super) fn judge(name: &ListenerName, config: &VsockConfig, facts: &Facts) -> Vec<Finding> {
    let port = config.port;
    let mut findings = vec![match (&facts.bound, facts.running) {
        (Ok(()), _) => Finding::ok(name, format!("port {port} can be had")),
        (Err(error), Some(running)) if error.kind() == io::ErrorKind::AddrInUse => {
            Finding::ok(name, format!("port {port} is in use, as the daemon runs (process {})", running.pid))
        }
        (Err(error), _) => {
            let what = format!("port {port} cannot be had: {error}: no daemon starts");
            Finding::error(name, what, remedy(error))
        }
    }];
    for ((path, module), is_there) in [(VHOST, facts.has_vhost), (VSOCK, facts.has_vsock)] {
        if !is_there {
            let what = format!("there is no {path}: no VM reaches this host");
            let remedy = format!(
                "`modprobe {module}`, and at each boot: `echo {module} > /etc/modules-load.d/{module}.conf`"
            );
            findings.push(Finding::warning(name, what, remedy));
        }
    }
    findings
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => "this kernel has no vsock; load its module: `modprobe vhost_vsock`",
        Some(libc::EACCES) => "ports below 1024 are root's: run this as root, or choose another `port`",
        Some(libc::EADDRINUSE) => {
            "`ss -l --vsock -p` shows by whom (it needs the module vsock_diag): stop that, or choose another `port`"
        }
        _ => "choose another `port`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::doctor::finding::Level;
    use fence_virt::auth::HashKind;
    use fence_virt::config::AuthConfig;

    fn judged(error: Option<i32>, devices: [bool; 2], running: Option<u32>) -> Vec<(Level, String)> {
        let (hash, old_key_file) = (HashKind::Sha256, None);
        let auth = AuthConfig { key_file: "/k".into(), old_key_file, hash, auth: hash };
        let bound = error.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)));
        let running = running.map(|pid| Running { pid, uid: Some(0) });
        let facts = Facts { bound, has_vhost: devices[0], has_vsock: devices[1], running };
        let findings = judge(&ListenerName::new("vsock", None), &VsockConfig { auth, port: 1229 }, &facts);
        findings.into_iter().map(|finding| (finding.level, finding.remedy.unwrap_or_default())).collect()
    }

    #[test]
    fn devices_and_port() {
        assert_eq!(judged(None, [true; 2], None), [(Level::Ok, String::new())]);
        let found = judged(None, [false; 2], None);
        assert_eq!(
            found.iter().map(|found| found.0).collect::<Vec<_>>(),
            [Level::Ok, Level::Warning, Level::Warning]
        );
        assert!(
            found[1].1.contains("modprobe vhost_vsock") && found[2].1.contains("modprobe vsock"),
            "{found:?}"
        );
    }

    #[test]
    fn a_port_that_cannot_be_had() {
        assert_eq!(judged(Some(libc::EADDRINUSE), [true; 2], Some(7))[0].0, Level::Ok);
        for (code, words) in
            [(libc::EADDRINUSE, "ss -l --vsock"), (libc::EAFNOSUPPORT, "modprobe"), (libc::EACCES, "1024")]
        {
            let found = judged(Some(code), [true; 2], None);
            assert!(found[0].0 == Level::Error && found[0].1.contains(words), "{found:?}");
        }
    }
}
