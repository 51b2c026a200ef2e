//! Host with a daemon, guest with agents, and what the daemon has done.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use fence_virt::fence::Operation;

use crate::common::agent::{AgentRun, Programs};
use crate::common::daemon::{Daemon, OURS};
use crate::common::net::{HOST_V4, Namespace, NamespacePair};
use crate::common::node::{self, NODE1, NODE2, OFF, RUNNING, vm};
use crate::common::{Dir, Missing, Suite, root, until};
use crate::exchange::{LISTENERS, Listener};
use crate::relay::LIMIT;

pub const GROUP: Ipv4Addr = Ipv4Addr::new(225, 0, 0, 12);

/// Namespaces of a host and a guest, keys, and the VMs node1, which runs, and node2, which is off.
pub struct Lab {
    pub dir: Dir,
    pub pair: NamespacePair,
    programs: Programs,
}

impl Lab {
    pub fn new() -> Result<Lab, Missing> {
        root("for network namespaces")?;
        let dir = Dir::new();
        dir.key("key", b'k');
        dir.key("key-b", b'b');
        let programs = Programs::of(Suite::Ours, &dir);
        Ok(Lab { dir, pair: NamespacePair::new(), programs })
    }

    /// Starts a daemon, which has carried out nothing yet, with the listeners of the network in the host.
    pub fn daemon(&self) -> Daemon {
        self.daemon_with(&LISTENERS)
    }

    /// Starts a daemon with these listeners.
    pub fn daemon_with(&self, listeners: &[Listener]) -> Daemon {
        let uri = node::node(&self.dir, "node.xml", &[vm("node1", NODE1, RUNNING), vm("node2", NODE2, OFF)]);
        let section = |listener: &Listener| {
            let section = match listener {
                Listener::Tcp => format!("tcp {{ address = \"{HOST_V4}\";"),
                Listener::TcpB => {
                    format!("tcp = \"b\" {{ address = \"{HOST_V4}\"; port = \"{}\";", listener.port())
                }
                Listener::Multicast => "multicast { interface = \"eth0\";".to_owned(),
                Listener::Vsock => format!("vsock {{ port = \"{}\";", listener.port()),
            };
            let key = self.dir.path(listener.key());
            format!("{section} key_file = \"{}\"; hash = \"hmac-sha256\"; }}\n", key.display())
        };
        let sections: String = listeners.iter().map(section).collect();
        let names: Vec<&str> = listeners.iter().map(|listener| listener.name()).collect();
        let conf = format!(
            "fence_virtd {{ listener = \"{}\"; backend = \"libvirt\"; }}\n\
             listeners {{ {sections} }}\nbackends {{ libvirt {{ uri = \"{uri}\"; }} }}\n",
            names.join(", ")
        );
        Daemon::builder(&self.dir, &self.pair.host).start(&conf)
    }

    /// Agent in this namespace that asks for an operation on a VM, if it is one on a VM, and waits at most so many
    /// seconds.
    pub fn agent(
        &self,
        guest: &Namespace,
        listener: Listener,
        operation: Operation,
        vm: &str,
        seconds: u32,
    ) -> Command {
        let mut command = match listener {
            Listener::Multicast => guest.command(&self.programs.xvm),
            // Only call-back ports and lines have files in /run.
            _ => guest.command(crate::common::agent::OURS),
        };
        match listener {
            Listener::Multicast => command.args(["-i", "ipv4", "-r", "1"]),
            Listener::Vsock => command.args(["-S1", "-p", &listener.port().to_string()]),
            _ => command.args(["-T", HOST_V4, "-p", &listener.port().to_string()]),
        };
        let name = if operation == Operation::HostList { "list".to_owned() } else { operation.to_string() };
        command.args(["-c", "hmac-sha256", "-o", &name, "-t", &seconds.to_string()]);
        command.arg("-k").arg(self.dir.path(listener.key()));
        if operation.names_a_domain() {
            command.args(["-n", vm]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Counters of the daemon.
    pub fn counters(&self, daemon: &Daemon) -> Counters {
        let mut command = self.pair.host.command(OURS);
        let output = command.args(["--status", "--openmetrics", "-f"]).arg(daemon.conf()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Counters(String::from_utf8(output.stdout).unwrap())
    }

    /// Counters of the daemon once a listener has carried out so many requests: it counts them after it has answered.
    pub fn counters_after(&self, daemon: &Daemon, listener: Listener, count: usize) -> Counters {
        let are_all = || self.counters(daemon).carried_out(listener, None) >= count;
        until(&format!("{count} requests by {listener:?}"), LIMIT, are_all);
        self.counters(daemon)
    }
}

/// Counters of a daemon in OpenMetrics.
pub struct Counters(String);

impl Counters {
    /// Sum of the samples of a metric that have all these labels.
    fn sum(&self, metric: &str, labels: &[String]) -> usize {
        let is_it = |line: &&str| {
            line.starts_with(&format!("{metric}{{")) && labels.iter().all(|label| line.contains(label))
        };
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
        self.0.lines().filter(is_it).map(value).sum()
    }

    /// Requests that a listener has carried out, of an operation or all, whatever the answer was.
    pub fn carried_out(&self, listener: Listener, operation: Option<Operation>) -> usize {
        let mut labels = vec![format!("listener=\"{}\"", listener.name())];
        labels.extend(operation.map(|operation| format!("operation=\"{operation}\"")));
        self.sum("fence_virtd_requests_total", &labels)
    }

    /// Requests of all listeners that were carried out.
    pub fn all_carried_out(&self) -> usize {
        self.sum("fence_virtd_requests_total", &[])
    }

    /// Refusals of a listener for this reason.
    pub fn refused(&self, listener: Listener, reason: &str) -> usize {
        let labels = [format!("listener=\"{}\"", listener.name()), format!("reason=\"{reason}\"")];
        self.sum("fence_virtd_refusals_total", &labels)
    }

    /// Datagrams that were refused: for their signature, or before that since the daemon had stood still.
    pub fn refused_datagrams(&self) -> usize {
        self.refused(Listener::Multicast, "signature") + self.refused(Listener::Multicast, "late")
    }
}

/// Asserts that an agent has failed, and told nothing about VMs.
#[track_caller]
pub fn assert_failed(ran: &AgentRun, what: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{what}: {ran:?}");
}
