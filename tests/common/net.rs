//! Network namespaces and veth pairs between them.

use std::ffi::OsStr;
use std::process::Command;

use super::unique;

/// Network namespace with a loopback interface, removed when dropped.
pub struct Namespace(String);

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("ip (iproute2) runs");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Namespace {
    pub fn new() -> Namespace {
        let namespace = Namespace(unique());
        ip(&["netns", "add", &namespace.0]);
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    /// Runs `ip` inside it.
    pub fn ip(&self, args: &[&str]) {
        ip(&[&["-n", &self.0], args].concat());
    }

    /// Command inside it; `ip netns exec` keeps the process id.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }

    /// Runs `body` on a thread inside it.
    pub fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.0)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                body()
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Namespaces of a host and a guest, connected: 192.0.2.1 and fd00:2::1 on `eth0` of the
/// host, 192.0.2.2 and fd00:2::2 on `eth0` of the guest.
pub struct NamespacePair {
    pub host: Namespace,
    pub guest: Namespace,
}

pub const HOST_V4: &str = "192.0.2.1";
pub const HOST_V6: &str = "fd00:2::1";
pub const GUEST_V4: &str = "192.0.2.2";
pub const GUEST_V6: &str = "fd00:2::2";

impl NamespacePair {
    pub fn new() -> NamespacePair {
        let pair = NamespacePair { host: Namespace::new(), guest: Namespace::new() };
        pair.plug();
        pair
    }

    /// Makes the veth pair; `ip link del eth0` in the host removes it.
    pub fn plug(&self) {
        ip(&[
            "link",
            "add",
            "eth0",
            "netns",
            self.host.name(),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            self.guest.name(),
        ]);
        for (namespace, v4, v6) in [(&self.host, HOST_V4, HOST_V6), (&self.guest, GUEST_V4, GUEST_V6)] {
            namespace.ip(&["addr", "add", &format!("{v4}/24"), "dev", "eth0"]);
            namespace.ip(&["addr", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"]);
            namespace.ip(&["link", "set", "eth0", "up"]);
            namespace.ip(&["route", "add", "224.0.0.0/4", "dev", "eth0"]);
        }
    }
}
