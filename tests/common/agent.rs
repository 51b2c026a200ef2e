//! The deployed agents.

use std::path::Path;
use std::process::Output;

use super::net::Namespace;

pub const VIRT: &str = "/usr/sbin/fence_virt";
pub const XVM: &str = "/usr/sbin/fence_xvm";

/// What an agent did.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// How an agent reaches the daemon.
#[derive(Debug, Clone, Copy)]
pub enum Way<'a> {
    /// `fence_virt -T address`
    Tcp(&'a str),
    /// `fence_xvm -i ipv4` or `ipv6`
    Multicast(&'a str),
}

/// An agent with its options.
#[derive(Clone)]
pub struct Agent<'a> {
    pub namespace: &'a Namespace,
    pub way: Way<'a>,
    pub key: &'a Path,
    pub hash: &'a str,
    pub auth: &'a str,
    /// Seconds that it may take.
    pub timeout: u32,
}

impl Agent<'_> {
    /// Runs it for an operation on a VM ("" for none).
    pub fn run(&self, operation: &str, vm: &str) -> Ran {
        let mut command = match self.way {
            Way::Tcp(address) => {
                let mut command = self.namespace.command(VIRT);
                command.args(["-T", address]);
                command
            }
            Way::Multicast(family) => {
                let mut command = self.namespace.command(XVM);
                command.args(["-i", family, "-r", "5"]);
                command
            }
        };
        command.arg("-k").arg(self.key).args(["-c", self.hash, "-C", self.auth]);
        command.args(["-o", operation, "-t", &self.timeout.to_string()]);
        if !vm.is_empty() {
            command.args(["-n", vm]);
        }
        command.output().unwrap().into()
    }

    /// Its exit code.
    pub fn code(&self, operation: &str, vm: &str) -> i32 {
        self.run(operation, vm).code
    }
}
