//! Host with a tcp listener and a guest that asks it, each in its namespace.

use std::path::Path;
use std::process::Output;

use super::agent::{Agent, AgentTransport, Programs};
use super::daemon::{OURS, auth_keys, conf};
use super::net::{HOST_V4, NamespacePair};
use super::node::{Vm, node};
use super::{Dir, Missing, Suite, root_and_c_suite};

/// Host with these VMs, a guest, and the key that both have.
pub struct TcpHost {
    pub dir: Dir,
    pub pair: NamespacePair,
    /// URI of the VMs.
    pub uri: String,
}

impl TcpHost {
    pub fn new(vms: &[Vm]) -> Result<TcpHost, Missing> {
        root_and_c_suite()?;
        let dir = Dir::new();
        dir.key("key", b'k');
        let uri = node(&dir, "node.xml", vms);
        Ok(TcpHost { dir, pair: NamespacePair::new(), uri })
    }

    /// Configuration with the VMs of this URI and these groups.
    pub fn conf(&self, uri: &str, groups: &str) -> String {
        let keys = auth_keys(&self.dir.path("key"), "sha256", "sha256");
        let keys = format!("address = \"{HOST_V4}\"; {keys}");
        conf("tcp", &keys, &[uri.to_owned()], &format!("groups {{ {groups} }}"))
    }

    /// Runs the daemon's program with these arguments and this configuration; returns exit code and output.
    pub fn run(&self, args: &[&str], conf: &Path) -> (Option<i32>, String) {
        let mut command = self.pair.host.command(OURS);
        let Output { status, stdout, stderr } = command.args(args).arg("-f").arg(conf).output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8_lossy(&stderr))
    }

    /// Exit code of an agent in the guest.
    pub fn code(&self, operation: &str, vm: &str) -> i32 {
        let programs = Programs::of(Suite::Ours, &self.dir);
        let key = self.dir.path("key");
        Agent::new(&programs, &self.pair.guest, AgentTransport::Tcp(HOST_V4), &key).code(operation, vm)
    }
}
