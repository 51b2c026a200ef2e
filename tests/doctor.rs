//! `fence_virtd --doctor` on a healthy host, and on hosts with one fault each.
#![allow(clippy::panic, clippy::unwrap_used)]

#[path = "doctor/agents.rs"]
mod agents;
mod common;
#[path = "doctor/own_user.rs"]
mod own_user;

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use common::daemon::{Daemon, OURS, auth_keys, conf};
use common::guests::serial;
use common::libvirtd::{Libvirtd, libvirtd_installed};
use common::net::Namespace;
use common::node::{self, NODE1, NODE2, OFF, RUNNING, vm};
use common::{Dir, Missing, require, root_and_c_suite};

/// Limit of a run in which something hangs.
const BOUND: Duration = Duration::from_secs(15);

/// Host with a bridge br0 at 192.0.2.1, a key, and a libvirt with the VMs
/// node1, running, and node2, off.
struct Host {
    dir: Dir,
    namespace: Namespace,
    uri: String,
}

/// Exit code and output of `--doctor`.
struct DoctorReport {
    code: i32,
    text: String,
    took: Duration,
}

impl Host {
    fn new() -> Result<Host, Missing> {
        root_and_c_suite()?;
        let (dir, namespace) = (Dir::new(), Namespace::new());
        dir.key("key", b'k');
        let uri = node::node(&dir, "node.xml", &[vm("node1", NODE1, RUNNING), vm("node2", NODE2, OFF)]);
        namespace.ip(&["link", "add", "br0", "type", "bridge", "mcast_snooping", "0"]);
        namespace.ip(&["addr", "add", "192.0.2.1/24", "dev", "br0"]);
        namespace.ip(&["link", "set", "br0", "up"]);
        Ok(Host { dir, namespace, uri })
    }

    /// Runs a test.
    fn run(&self, body: impl FnOnce(&Host)) {
        body(self);
    }

    fn keys(&self, key: &str) -> String {
        auth_keys(&self.dir.path(key), "sha256", "sha256")
    }

    /// Configuration with this listener, additional settings of it, and groups.
    fn conf(&self, listener: &str, lines: &str, groups: &str) -> String {
        let keys = format!("{} {lines}", self.keys("key"));
        conf(listener, &keys, std::slice::from_ref(&self.uri), groups)
    }

    /// Configuration with a tcp listener that all guests reach.
    fn tcp(&self) -> String {
        self.conf("tcp", "address = \"192.0.2.1\";", "")
    }

    fn pid_file(&self) -> PathBuf {
        let entries = fs::read_dir(self.dir.path("")).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths
            .find(|path| path.extension().is_some_and(|end| end == "pid"))
            .unwrap_or(self.dir.path("none.pid"))
    }

    fn files(&self) -> BTreeSet<PathBuf> {
        fs::read_dir(self.dir.path("")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn doctor(&self, conf: &str) -> DoctorReport {
        self.doctor_with(&[], conf)
    }

    /// Runs it with further options.
    fn doctor_with(&self, options: &[&str], conf: &str) -> DoctorReport {
        let path = self.dir.write("doctor.conf", conf);
        let before = self.files();
        let mut command = self.namespace.command(OURS);
        command.arg("--doctor").args(options).arg("-f").arg(path).arg("-p").arg(self.pid_file());
        let began = Instant::now();
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
        let took = began.elapsed();
        let text = String::from_utf8(stdout).unwrap();
        assert_eq!(String::from_utf8_lossy(&stderr), "", "all is on stdout");
        assert_eq!(self.files(), before, "it makes no file");
        DoctorReport { code: status.code().unwrap(), text, took }
    }
}

impl DoctorReport {
    fn assert_code(&self, expected: i32) -> &DoctorReport {
        assert_eq!(self.code, expected, "{}", self.text);
        self
    }

    fn assert_error(&self, subject: &str, words: &str, remedy: &str) -> &DoctorReport {
        self.assert_finding("ERROR", subject, words, remedy)
    }

    fn assert_warning(&self, subject: &str, words: &str, remedy: &str) -> &DoctorReport {
        self.assert_finding("warning", subject, words, remedy)
    }

    fn assert_note(&self, subject: &str, words: &str, remedy: &str) -> &DoctorReport {
        self.assert_finding("note", subject, words, remedy)
    }

    /// Asserts a line of this severity about `subject` that contains `words`,
    /// followed by a line with a remedy that contains `remedy`.
    fn assert_finding(&self, severity: &str, subject: &str, words: &str, remedy: &str) -> &DoctorReport {
        let begin = format!("{severity:9}{subject}");
        let lines: Vec<&str> = self.text.lines().collect();
        let is_meant = |pair: &[&str]| {
            let below = pair[1].trim_start().strip_prefix("-> ");
            pair[0].starts_with(&begin)
                && pair[0].contains(words)
                && below.is_some_and(|below| below.contains(remedy))
        };
        assert!(lines.windows(2).any(is_meant), "{begin:?}, {words:?}, {remedy:?} in\n{}", self.text);
        self
    }

    fn assert_ok(&self, words: &str) -> &DoctorReport {
        let is_meant = |line: &str| line.starts_with("ok ") && line.contains(words);
        assert!(self.text.lines().any(is_meant), "ok with {words:?} in\n{}", self.text);
        self
    }

    /// Asserts how the first line begins, which has the counts.
    fn assert_summary(&self, expected: &str) -> &DoctorReport {
        let first = self.text.lines().next().unwrap();
        assert!(first.starts_with(expected) && first.ends_with(" passed"), "{}", self.text);
        self
    }
}

#[test]
fn a_host_that_is_well() {
    require!(Host::new()).run(|host| {
        let socket = host.dir.path("line");
        let vms = [(vm("node1", NODE1, RUNNING), serial(&socket)), (vm("node2", NODE2, OFF), String::new())];
        let uri = node::node_with_devices(&host.dir, "lines.xml", &vms);
        let (keys, directory) = (host.keys("key"), host.dir.path(""));
        let conf = format!(
            "fence_virtd {{ listener = \"multicast, tcp, tcp:b, serial\"; backend = \"libvirt\"; }}\n\
             listeners {{ multicast {{ {keys} interface = \"br0\"; }} tcp {{ {keys} address = \"192.0.2.1\"; }}\n\
             tcp = \"b\" {{ {keys} address = \"192.0.2.1\"; port = \"1230\"; }} serial {{ path = \"{}\"; }} }}\n\
             backends {{ libvirt {{ uri = \"{uri}\"; }} }}\n\
             groups {{ group {{ name = \"g\"; uuid = \"NODE1\"; uuid = \"{NODE2}\"; ip = \"192.0.2.2\"; }} }}\n",
            directory.display()
        );
        let report = host.doctor(&conf);
        report.assert_code(0).assert_summary("0 errors, 0 warnings, ");
        report.assert_ok("multicast: 225.0.0.12 can be received on br0").assert_ok("multicast: key file");
        report.assert_ok("tcp: 192.0.2.1:1229 is available").assert_ok("tcp:b: 192.0.2.1:1230 is available");
        report.assert_ok("VMs: 2, running: 1").assert_ok("group g: all members");
        report.assert_ok("mode bind) in").assert_ok("directory");
        report.assert_note("daemon", "fence_virtd is not running", "start it");
    });
}

#[test]
fn errors_alone_and_json() {
    require!(Host::new()).run(|host| {
        let groups = "groups { group { name = \"g\"; uuid = \"node7\"; ip = \"192.0.2.2\"; } }";
        let conf = host.conf("tcp", "address = \"192.0.2.9\";", groups);
        let all = host.doctor(&conf);
        all.assert_code(2).assert_summary("1 error, 1 warning, ");
        all.assert_warning("group g:", "node7", "virsh");
        let errors = host.doctor_with(&["--errors-only"], &conf);
        errors.assert_code(2).assert_error("tcp:", "does not have the address 192.0.2.9", "ip -br address");
        let summary = all.text.lines().next().unwrap();
        assert_eq!(errors.text.lines().next(), Some(summary), "the counts are those of all");
        assert_eq!(errors.text.lines().count(), 3, "{}", errors.text);
        let json = host.doctor_with(&["--json"], &conf);
        json.assert_code(2);
        assert!(json.text.starts_with("{\"errors\":1,\"warnings\":1,\"notes\":"), "{}", json.text);
        assert!(
            json.text.contains("{\"level\":\"error\",\"subject\":\"tcp\",\"text\":\"this host"),
            "{}",
            json.text
        );
        let findings = all.text.lines().filter(|line| !line.contains("  -> ")).count() - 1;
        assert_eq!(json.text.matches("\"level\":").count(), findings, "{}", json.text);
        let json = host.doctor_with(&["--json", "--errors-only"], &conf);
        assert_eq!(json.assert_code(2).text.matches("\"level\":").count(), 1, "{}", json.text);
    });
}

#[test]
fn a_daemon_that_runs_may_have_its_ports() {
    require!(Host::new()).run(|host| {
        let conf = host.tcp();
        let daemon = Daemon::builder(&host.dir, &host.namespace).start(&conf);
        let report = host.doctor(&conf);
        report.assert_code(0).assert_ok(&format!("running with process id {}", daemon.pid()));
        report
            .assert_ok(&format!("192.0.2.1:1229 is in use by the running daemon (process {})", daemon.pid()));
        // A port of another process is taken, though a daemon runs.
        let _other = host.namespace.inside(|| TcpListener::bind("192.0.2.1:1230").unwrap());
        let report = host.doctor(&host.conf("tcp", "address = \"192.0.2.1\"; port = \"1230\";", ""));
        report.assert_code(2).assert_error("tcp:", "192.0.2.1:1230 is in use by", "ss -ltnp");
        // The daemon still runs.
        assert!(daemon.stop(BOUND).success());
    });
}

#[test]
fn keys() {
    require!(Host::new()).run(|host| {
        let with = |key: &str| host.tcp().replace("/key\"", &format!("/{key}\""));
        host.doctor(&with("none")).assert_code(2).assert_error(
            "tcp:",
            "cannot read the key file",
            "head -c 4096 /dev/urandom",
        );
        let path = host.dir.key("open", b'o');
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        host.doctor(&with("open"))
            .assert_code(2)
            .assert_error("tcp:", "has mode 0644", "chmod 0600")
            .assert_summary("1 error, 0 warnings, ");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644, "it changes nothing");
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        host.doctor(&with("open")).assert_code(2).assert_error("tcp:", "user id 12345", "chown root");
        host.dir.write("short", "secret");
        host.doctor(&with("short")).assert_code(1).assert_warning("tcp:", "only 6 bytes", "head -c 4096");
        host.dir.key("old", b'o');
        let old = |name: &str| {
            let line =
                format!("address = \"192.0.2.1\"; old_key_file = \"{}\";", host.dir.path(name).display());
            host.doctor(&host.conf("tcp", &line, ""))
        };
        old("old").assert_code(0).assert_note("tcp:", "is still accepted", "remove `old_key_file`");
        old("gone").assert_code(2).assert_error("tcp:", "cannot read the key file", "remove `old_key_file`");
    });
}

#[test]
fn interfaces() {
    require!(Host::new()).run(|host| {
        let on = |name: &str| host.doctor(&host.conf("multicast", &format!("interface = \"{name}\";"), ""));
        on("br0").assert_code(0).assert_ok("225.0.0.12 can be received on br0");
        on("br9").assert_code(2).assert_error("multicast:", "no interface br9", "br0");
        let waits = host
            .conf("multicast", "interface = \"br9\";", "")
            .replace("backend =", "wait_for_init = \"1\"; backend =");
        host.doctor(&waits).assert_code(1).assert_warning("multicast:", "no interface br9", "br0");
        host.namespace.ip(&["link", "add", "tap0", "type", "veth", "peer", "name", "tap1"]);
        on("tap1").assert_code(2).assert_error("multicast:", "tap1 is down", "ip link set tap1 up");
        host.namespace.ip(&["link", "set", "tap0", "master", "br0", "up"]);
        on("tap0").assert_code(2).assert_error("multicast:", "port of the bridge br0", "interface = \"br0\"");
        host.namespace.ip(&["link", "set", "tap1", "up", "multicast", "off"]);
        on("tap1").assert_code(2).assert_error("multicast:", "tap1 has multicast disabled", "multicast on");
        on("tap1").assert_warning("multicast:", "no IPv4 address", "ip address add");
        host.namespace.ip(&["link", "set", "br0", "type", "bridge", "mcast_snooping", "1"]);
        on("br0").assert_code(1).assert_warning("multicast:", "without a querier", "multicast_querier");
        let all = host.doctor(&host.conf("multicast", "", ""));
        all.assert_code(1).assert_ok("br0").assert_warning(
            "multicast:",
            "without a querier",
            "multicast_querier",
        );
        all.assert_note("multicast:", "no route to 225.0.0.12", "ip route add");
        host.namespace.ip(&["route", "add", "224.0.0.0/4", "dev", "br0"]);
        assert!(!host.doctor(&host.conf("multicast", "", "")).text.contains("no route"));
        host.namespace.ip(&["link", "set", "br0", "down"]);
        host.namespace.ip(&["link", "set", "tap1", "down"]);
        let none = host.doctor(&host.conf("multicast", "", ""));
        none.assert_code(1).assert_warning("multicast:", "no requests of guests", "ip link set");
    });
}

#[test]
fn addresses_and_ports() {
    require!(Host::new()).run(|host| {
        let at = |address: &str| host.doctor(&host.conf("tcp", &format!("address = \"{address}\";"), ""));
        at("192.0.2.1").assert_code(0);
        at("192.0.2.9").assert_code(2).assert_error(
            "tcp:",
            "does not have the address 192.0.2.9",
            "ip -br address",
        );
        at("127.0.0.1").assert_code(0).assert_note("tcp:", "guests cannot reach it", "`address`");
        let taken = host.namespace.inside(|| TcpListener::bind("0.0.0.0:1229").unwrap());
        let by = format!("(process {})", std::process::id());
        at("192.0.2.1")
            .assert_code(2)
            .assert_error("tcp:", &by, "ss -ltnp")
            .assert_summary("1 error, 0 warnings, ");
        drop(taken);
        at("192.0.2.1").assert_code(0);
        let _taken = host.namespace.inside(|| UdpSocket::bind("0.0.0.0:1229").unwrap());
        let report = host.doctor(&host.conf("multicast", "interface = \"br0\";", ""));
        report.assert_code(2).assert_error("multicast:", "cannot listen on 225.0.0.12", &by);
    });
}

#[test]
fn backends_and_groups() {
    require!(Host::new()).run(|host| {
        let dead = format!("test+unix:///default?socket={}", host.dir.path("nobody").display());
        let keys = host.keys("key") + "address = \"192.0.2.1\";";
        let group =
            "groups { group { name = \"g\"; uuid = \"node1\"; uuid = \"node7\"; ip = \"192.0.2.2\"; } }";
        let report = host.doctor(&conf("tcp", &keys, &[host.uri.clone(), dead.clone()], group));
        let remedy = format!("virsh -c '{dead}' list");
        report.assert_code(2).assert_error("backend libvirt:", "cannot connect to test+unix", &remedy);
        // The other URIs are checked, and VMs that may be on the dead one are not reported.
        report.assert_ok("VMs: 2, running: 1").assert_note(
            "groups:",
            "cannot check the members without",
            "again",
        );
        let report = host.doctor(&conf("tcp", &keys, std::slice::from_ref(&host.uri), group));
        report
            .assert_code(1)
            .assert_warning("group g:", ": node7", "virsh list --all")
            .assert_summary("0 errors, 1 warning, ");
        let twin = node::node(&host.dir, "twin.xml", &[vm("node1", NODE2, RUNNING)]);
        let report = host.doctor(&conf("tcp", &keys, &[host.uri.clone(), twin], ""));
        report.assert_code(1).assert_warning("backend libvirt:", "two VMs each", "rename");
    });
}

#[test]
fn lines() {
    require!(Host::new()).run(|host| {
        let of = |lines: &str| host.doctor(&conf("serial", lines, std::slice::from_ref(&host.uri), ""));
        let remedy = "<serial type='unix'>";
        of("").assert_code(1).assert_warning("serial:", "running VMs: 1, with a serial port", remedy);
        of("path = \"/nonexistent/lines\";").assert_warning(
            "serial:",
            "does not exist",
            "mkdir -p /nonexistent/lines",
        );
        of("uri = \"test+ssh://198.51.100.1/default\";").assert_code(1).assert_warning(
            "serial:",
            "is on another host",
            "`uri`",
        );
    });
}

#[test]
fn configurations() {
    require!(Host::new()).run(|host| {
        let report = host.doctor(&host.tcp().replace("address", "adress"));
        report.assert_code(2).assert_error("configuration:", "doctor.conf:2:", "--check -f");
        // A daemon would start with it, so the rest is checked.
        report.assert_ok("VMs: 2, running: 1");
        let report = host.doctor("fence_virtd { listener = \"tcp\"; backend = \"nonsense\"; }");
        report.assert_code(2).assert_error("configuration:", "nonsense", "correct line 1");
        let mut command = host.namespace.command(OURS);
        let output = command.args(["--doctor", "-f", "/nonexistent/x.conf"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.code() == Some(2) && text.contains("/nonexistent/x.conf"), "{text}");
    });
}

#[test]
fn a_frozen_libvirtd_holds_it_up_within_bounds() {
    require!(libvirtd_installed());
    require!(Host::new()).run(|host| {
        let libvirtd = Libvirtd::started(&host.dir, &host.namespace, "lv");
        let keys = host.keys("key") + "address = \"192.0.2.1\";";
        let groups = "groups { group { uuid = \"node1\"; ip = \"192.0.2.2\"; } }";
        let conf = format!(
            "fence_virtd {{ listener = \"tcp, serial\"; backend = \"libvirt\"; }}\n\
             listeners {{ tcp {{ {keys} }} }}\n\
             backends {{ libvirt {{ uri = \"{}\"; uri1 = \"{}\"; }} }} {groups}\n",
            libvirtd.uri(),
            host.uri
        );
        libvirtd.freeze();
        let report = host.doctor(&conf);
        libvirtd.thaw();
        assert!(report.took < BOUND, "{:?}", report.took);
        let remedy = "systemctl restart libvirtd";
        report.assert_code(2).assert_error("backend libvirt:", "does not answer within 5 s", remedy);
        report.assert_ok("tcp: 192.0.2.1:1229 is available").assert_ok("VMs: 2, running: 1");
        report.assert_note("groups:", "cannot check the members without test+unix", "again");
        assert_eq!(report.text.matches("does not answer").count(), 1, "{}", report.text);
        let report = host.doctor(&conf);
        report.assert_ok("default?socket=").assert_warning("serial:", "with a serial port", "<serial");
    });
}

#[test]
fn a_host_without_corosync() {
    require!(Host::new()).run(|host| {
        let conf = host.tcp().replace("backend = \"libvirt\"", "backend = \"cpg\"");
        let report = host.doctor(&conf);
        report
            .assert_code(2)
            .assert_ok("backend cpg: test:///")
            .assert_ok("tcp: 192.0.2.1:1229 is available");
        // Corosync is not running, or its libraries are missing: either is reported.
        report.assert_error("backend cpg:", "corosync", "");
        // Pacemaker does not run in this namespace, or its library is missing.
        let is_meant = |line: &str| line.contains("backend cpg: no fence of a host is known: pacemaker's ");
        assert!(report.text.lines().any(is_meant), "{}", report.text);
        let none = conf.replace("backends {", "backends { cpg { host_fencing = \"none\"; }");
        let report = host.doctor(&none);
        report.assert_warning("backend cpg:", "host_fence_delay is not set", "seconds after which");
        assert!(!report.text.contains("pacemaker"), "{}", report.text);
    });
}
