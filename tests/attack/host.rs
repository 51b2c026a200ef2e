//! The host that is attacked: a daemon with several listeners, and the namespace of its guests.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use crate::common::daemon::{Daemon, auth_keys};
use crate::common::guests::{Socket, serial};
use crate::common::net::{HOST_V4, HOST_V6, NamespacePair};
use crate::common::node::{self, RUNNING, Vm, vm};
use crate::common::{Dir, Missing, root_and_c_suite};

/// VMs of the host, all running; the first asks over a serial line where there is one.
pub const VICTIMS: [(&str, &str); 5] = [
    ("victim0", "00000000-aaaa-4000-8000-000000000000"),
    ("victim1", "11111111-aaaa-4000-8000-000000000000"),
    ("victim2", "22222222-aaaa-4000-8000-000000000000"),
    ("victim3", "33333333-aaaa-4000-8000-000000000000"),
    ("victim4", "44444444-aaaa-4000-8000-000000000000"),
];

/// Host with a daemon, and the namespaces of host and guests.
pub struct AttackedHost {
    pub dir: Dir,
    pub pair: NamespacePair,
    pub uris: Vec<String>,
}

impl AttackedHost {
    /// Prepares a host with [`VICTIMS`] and the key of the letter k.
    pub fn new() -> Result<AttackedHost, Missing> {
        root_and_c_suite()?;
        let vms: Vec<Vm> = VICTIMS.iter().map(|(name, uuid)| vm(name, uuid, RUNNING)).collect();
        let dir = Dir::new();
        let uri = node::node(&dir, "node.xml", &vms);
        Ok(AttackedHost::with(dir, vec![uri]))
    }

    /// Prepares a host with the VMs of these URIs and the key of the letter k.
    pub fn with(dir: Dir, uris: Vec<String>) -> AttackedHost {
        dir.key("key", b'k');
        AttackedHost { dir, pair: NamespacePair::new(), uris }
    }

    /// Prepares a host with [`VICTIMS`], of which the first has a serial line.
    pub fn with_line() -> Result<(AttackedHost, Socket), Missing> {
        root_and_c_suite()?;
        let dir = Dir::new();
        let line = Socket::bind(dir.path("line"));
        let vms = VICTIMS.map(|(name, uuid)| {
            let devices = if name == VICTIMS[0].0 { serial(&line.path) } else { String::new() };
            (vm(name, uuid, RUNNING), devices)
        });
        let uri = node::node_with_devices(&dir, "node.xml", &vms);
        Ok((AttackedHost::with(dir, vec![uri]), line))
    }

    /// Gives the guests' namespace further addresses of 192.0.2.0/24.
    pub fn own(&self, numbers: &[u8]) {
        for number in numbers {
            self.pair.guest.ip(&["addr", "add", &format!("{}/24", guest(*number)), "dev", "eth0"]);
        }
    }

    /// Section of a serial listener.
    pub fn serial(&self) -> (String, String) {
        ("serial".to_owned(), format!("path = \"{}\";", self.dir.path("").display()))
    }

    /// Listener section with the key, hash and auth sha256.
    pub fn listener(&self, name: &str, settings: &str) -> (String, String) {
        let keys = auth_keys(&self.dir.path("key"), "sha256", "sha256");
        (name.to_owned(), format!("{settings} {keys}"))
    }

    pub fn conf(&self, listeners: &[(String, String)], groups: &str) -> String {
        let names: Vec<&str> = listeners.iter().map(|(name, _)| name.as_str()).collect();
        let section = |(name, settings): &(String, String)| match name.split_once(':') {
            Some((kind, label)) => format!("{kind} = \"{label}\" {{ {settings} }}\n"),
            None => format!("{name} {{ {settings} }}\n"),
        };
        let sections: String = listeners.iter().map(section).collect();
        let uri = |(at, uri): (usize, &String)| format!("uri{} = \"{uri}\"; ", at + 1);
        let uris: String = self.uris.iter().enumerate().map(uri).collect();
        format!(
            "fence_virtd {{ listener = \"{}\"; backend = \"libvirt\"; }}\n\
             listeners {{ {sections} }}\nbackends {{ libvirt {{ {uris} }} }}\n{groups}\n",
            names.join(", ")
        )
    }

    /// Starts a daemon in the host's namespace.
    pub fn start(&self, conf: &str) -> Daemon {
        Daemon::builder(&self.dir, &self.pair.host).start(conf)
    }

    /// Starts a daemon with a tcp listener without groups.
    pub fn tcp(&self) -> Daemon {
        self.start(&self.conf(&[self.listener("tcp", &format!("address = \"{HOST_V4}\";"))], ""))
    }
}

/// Port 1229 of the host over IPv4.
pub fn tcp4() -> SocketAddr {
    port(1229)
}

/// A port of the host over IPv4.
pub fn port(port: u16) -> SocketAddr {
    SocketAddr::new(HOST_V4.parse().unwrap(), port)
}

/// Port 1229 of the host over IPv6.
pub fn tcp6() -> SocketAddr {
    SocketAddr::new(HOST_V6.parse().unwrap(), 1229)
}

/// Address of the test's network, 192.0.2.0/24.
pub fn guest(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}

/// Resources of a process.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// VmRSS, in KiB.
    pub resident: u64,
    pub threads: u64,
    pub descriptors: u64,
}

impl Usage {
    pub fn of(daemon: &Daemon) -> Usage {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let number = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            value.split_whitespace().next().unwrap().parse().unwrap()
        };
        let descriptors = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
        Usage { resident: number("VmRSS:"), threads: number("Threads:"), descriptors: descriptors as u64 }
    }
}

/// Asserts that the log consists of the daemon's own lines, without control characters.
pub fn assert_clean_log(daemon: &Daemon) {
    let log = daemon.log();
    for line in log.lines() {
        assert!(line.starts_with("fence_virtd: "), "a line that is not the daemon's: {line:?}");
        assert!(!line.contains(char::is_control), "control characters: {line:?}");
        assert!(!line.contains(char::REPLACEMENT_CHARACTER), "bytes that are no text: {line:?}");
    }
}
