//! Start and stop of the daemon, and refusals to start.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use common::client::{Client, packet};
use common::daemon::{Daemon, OURS, auth_keys, conf};
use common::guests::{Socket, serial};
use common::net::Namespace;
use common::node::{self, NODE1, RUNNING, vm};
use common::{Dir, Missing, key_bytes, ready, require, root_and_c_suite, until};
use fence_virt::auth::HashKind;
use fence_virt::fence::Operation;
use fence_virt::sys::vsock;

const DEFAULT: &str = "test:///default";

fn tcp(dir: &Dir, key: &str) -> String {
    conf("tcp", &auth_keys(&dir.path(key), "sha256", "sha256"), &[DEFAULT.into()], "")
}

/// Runs our daemon until it exits; returns exit code and output.
fn run(dir: &Dir, namespace: &Namespace, conf: &str, args: &[&str]) -> (i32, String) {
    let conf = dir.write("run.conf", conf);
    let mut command = namespace.command(OURS);
    command.arg("-f").arg(conf).arg("-p").arg(dir.path("run.pid")).args(args);
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert!(!text.contains("(os error "), "use sys::error_text for errors of the system: {text}");
    (status.code().unwrap_or(-1), text)
}

#[test]
fn never_a_start_without_the_authentication_asked_for() {
    require!(root_and_c_suite());
    let (dir, namespace) = (Dir::new(), Namespace::new());
    let refused = |words: &[&str]| {
        for args in [&["-F"] as &[&str], &[]] {
            let (code, text) = run(&dir, &namespace, &tcp(&dir, "key"), args);
            assert_eq!(code, 1, "{text}");
            assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
        }
    };
    refused(&["tcp: cannot read the key file", "No such file", "head -c 4096 /dev/urandom"]);
    fs::write(dir.path("key"), "").unwrap();
    fs::set_permissions(dir.path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    refused(&["is empty"]);
    fs::write(dir.path("key"), [7; 4096]).unwrap();
    fs::set_permissions(dir.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    refused(&["mode 0644", "chmod 0600"]);
    fs::set_permissions(dir.path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(dir.path("key"), Some(12345), None).unwrap();
    refused(&["owned by user id 12345", "chown root"]);
}

#[test]
fn what_cannot_be_had_is_named() {
    require!(root_and_c_suite());
    let (dir, namespace) = (Dir::new(), Namespace::new());
    dir.key("key", b'k');
    let keys = auth_keys(&dir.path("key"), "sha256", "sha256");
    let cases = [
        (tcp(&dir, "key").replace("tcp {", "tcp { address = \"198.51.100.9\";"), "198.51.100.9"),
        (conf("tcp", &keys, &["nonsense:///x".into()], ""), "nonsense:///x"),
        (conf("multicast", &format!("{keys} interface = \"br-none\";"), &[DEFAULT.into()], ""), "br-none"),
        (conf("serial", "uri = \"nonsense:///y\";", &[DEFAULT.into()], ""), "nonsense:///y"),
        (
            conf("vsock", "key_file = \"/nowhere/key\";", &[DEFAULT.into()], ""),
            "vsock: cannot read the key file",
        ),
        (
            tcp(&dir, "key").replace("backend = \"libvirt\"", "backend = \"cpg\""),
            "cannot join the cluster's group: corosync is not running",
        ),
        (tcp(&dir, "key").replace("sha256", "sha255"), "sha255"),
    ];
    for (conf, word) in cases {
        for args in [&["-F"] as &[&str], &[]] {
            let (code, text) = run(&dir, &namespace, &conf, args);
            assert_eq!(code, 1, "{text}");
            assert!(text.contains(word), "{word:?} in {text}");
            assert!(!dir.path("run.pid").exists(), "no pid file is left behind");
        }
    }
    let (code, text) = run(&dir, &namespace, "", &["-F", "--nonsense"]);
    assert_eq!((code, text.contains("nonsense")), (1, true), "{text}");
}

#[test]
fn a_start_that_fails_says_once_why_and_what_helps() {
    require!(root_and_c_suite());
    let (dir, namespace) = (Dir::new(), Namespace::new());
    dir.key("key", b'k');
    let away = tcp(&dir, "key").replace(DEFAULT, "qemu+unix:///system?socket=/nonexistent/socket");
    let (code, text) = run(&dir, &namespace, &away, &["-F"]);
    assert_eq!((code, text.matches("/nonexistent/socket'").count()), (1, 1), "{text}");
    assert!(text.contains("; start libvirt, or start with -w to wait for it"), "{text}");

    let daemon = Daemon::builder(&dir, &namespace).start(&tcp(&dir, "key"));
    let (code, text) = run(&dir, &namespace, &tcp(&dir, "key"), &["-F"]);
    let owner = format!("fence_virtd (process {}) has the port", daemon.pid());
    assert!(code == 1 && text.contains(&owner), "{owner:?} in {text}");
}

#[test]
fn never_a_start_with_groups_that_would_be_skipped() {
    require!(root_and_c_suite());
    let (dir, namespace) = (Dir::new(), Namespace::new());
    dir.key("key", b'k');
    let groups = "groups { group { uuid = \"a\"; ip = \"192.0.2.1\"; } }";
    let tcp = tcp(&dir, "key");
    for (conf, words) in [
        (tcp.replace("listeners {", &format!("listeners {{ {groups}")), "misplaced section"),
        (format!("{tcp}\n{groups} groups {{ }}"), "is already on line 6"),
        (format!("{tcp}{}", groups.replace("192.0.2.1", "192.0.2.300")), "\"192.0.2.300\" is no IP address"),
    ] {
        for args in [&["-F"] as &[&str], &[], &["--check"], &["--check", "--lenient"]] {
            let (code, text) = run(&dir, &namespace, &conf, args);
            assert!(code == 1 && text.contains(words) && text.contains("run.conf:"), "{args:?}: {text}");
        }
    }
}

#[test]
fn check_says_what_would_run_and_starts_nothing() {
    require!(root_and_c_suite());
    let (dir, namespace) = (Dir::new(), Namespace::new());
    dir.key("key", b'k');
    let (code, text) = run(&dir, &namespace, &tcp(&dir, "key"), &["--check"]);
    assert_eq!(code, 0, "{text}");
    for word in ["tcp 127.0.0.1 port 1229", DEFAULT, "0 errors"] {
        assert!(text.contains(word), "{word:?} in {text}");
    }
    assert!(text.contains("run.conf: 0 errors, 0 warnings\n"), "{text}");
    let unknown = tcp(&dir, "key").replace("key_file", "key_fiel");
    let (code, text) = run(&dir, &namespace, &unknown, &["-t"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("run.conf: 1 error, 0 warnings\n"), "{text}");
    assert!(text.contains("run.conf:2:") && text.contains("key_file"), "place and nearest key in {text}");
    let unused = tcp(&dir, "key").replace("listeners {", "listeners { vsock { port = \"x\"; }");
    let (code, text) = run(&dir, &namespace, &unused, &["-t"]);
    assert_eq!((code, text.contains("vsock port")), (1, true), "a wrong value where it is not used: {text}");
    // As in the man page: cpg without a section.
    let cpg = tcp(&dir, "key").replace("backend = \"libvirt\"", "backend = \"cpg\"");
    let (code, text) = run(&dir, &namespace, &cpg, &["-t"]);
    assert_eq!((code, text.contains("off once pacemaker has fenced it")), (0, true), "{text}");
    let none = cpg.replace("backends {", "backends { cpg { host_fencing = \"none\"; }");
    let (code, text) = run(&dir, &namespace, &none, &["-t"]);
    assert_eq!((code, text.contains("host_fence_delay is not set")), (0, true), "{text}");
    let keys = auth_keys(&dir.path("key"), "sha256", "sha256");
    let absent = conf("multicast", &format!("{keys} interface = \"br-none\";"), &[DEFAULT.into()], "");
    let (code, text) = run(&dir, &namespace, &absent, &["-t"]);
    assert_eq!((code, text.contains("fence_virtd: warning: ")), (0, true), "{text}");
    let counted = text.contains("br-none") && text.contains("run.conf: 0 errors, 1 warning\n");
    assert!(counted, "an absent interface is a warning: {text}");
}

#[test]
fn the_lenient_check_fails_only_where_the_start_would() {
    require!(root_and_c_suite());
    let (dir, namespace) = (Dir::new(), Namespace::new());
    dir.key("key", b'k');
    let lenient = |conf: &str| run(&dir, &namespace, conf, &["--check", "--lenient"]);
    let strict = |conf: &str| run(&dir, &namespace, conf, &["--check"]);
    let good = tcp(&dir, "key");
    let unknown = good.replace("listeners {", "nonsense = \"1\"; listeners { vsock { port = \"x\"; }");
    let unit = good.replace(&dir.path("key").display().to_string(), "/run/credentials/no-such-unit/key");
    for (conf, word) in [(&unknown, "nonsense"), (&unit, "/run/credentials/no-such-unit/key")] {
        let (code, text) = lenient(conf);
        assert!(code == 0 && text.contains(word) && text.contains("0 errors"), "{text}");
        assert_eq!(strict(conf).0, 1, "{conf}");
    }
    // A daemon starts with unknown settings.
    let daemon = Daemon::builder(&dir, &namespace).start(&unknown);
    assert!(daemon.stop(Duration::from_secs(10)).success());
    for conf in
        [good.replace("sha256", "sha255"), tcp(&dir, "none"), good.replace("listeners {", "listeners")]
    {
        let (code, text) = lenient(&conf);
        assert_eq!(code, 1, "{text}");
        assert_eq!(run(&dir, &namespace, &conf, &["-F"]).0, 1, "{conf}");
    }
}

#[test]
fn it_detaches_when_ready_and_its_pid_file_is_held() {
    require!(root_and_c_suite());
    let (dir, namespace) = (Dir::new(), Namespace::new());
    dir.key("key", b'k');
    fs::write(dir.path("run.pid"), "999999999\n").unwrap();
    let (code, text) = run(&dir, &namespace, &tcp(&dir, "key"), &[]);
    assert_eq!(code, 0, "{text}");
    let pid = fs::read_to_string(dir.path("run.pid")).unwrap().trim().to_owned();
    // The parent has returned, so the child listens already.
    namespace.inside(|| std::net::TcpStream::connect("127.0.0.1:1229").unwrap());
    let (code, text) = run(&dir, &namespace, &tcp(&dir, "key"), &["-F"]);
    assert_eq!(code, 1);
    assert!(text.contains(&format!("process id {pid}")), "{text}");
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    until("it has ended", Duration::from_secs(10), || !dir.path("run.pid").exists());
}

#[test]
fn with_wait_for_init_it_waits_for_addresses_and_interfaces() {
    require!(root_and_c_suite());
    let (dir, namespace) = (Dir::new(), Namespace::new());
    dir.key("key", b'k');
    let keys = auth_keys(&dir.path("key"), "sha256", "sha256");
    let conf = format!(
        "fence_virtd {{ listener = \"tcp, multicast\"; backend = \"libvirt\"; wait_for_init = \"1\"; }}\n\
         listeners {{ tcp {{ {keys} address = \"192.0.2.1\"; }} multicast {{ {keys} interface = \"br9\"; }} }}\n\
         backends {{ libvirt {{ uri = \"{DEFAULT}\"; }} }}\n"
    );
    let daemon = Daemon::builder(&dir, &namespace).start(&conf);
    daemon.await_log("there is no interface br9");
    daemon.await_log("does not have the address 192.0.2.1");
    namespace.ip(&["link", "add", "br9", "type", "bridge"]);
    namespace.ip(&["link", "set", "br9", "up"]);
    daemon.await_log("multicast: listening on br9");
    daemon.await_log("snoops on IGMP without a querier");
    namespace.ip(&["addr", "add", "192.0.2.1/24", "dev", "br9"]);
    daemon.await_log("tcp: listening on 192.0.2.1:1229");
    namespace.ip(&["link", "del", "br9"]);
    daemon.await_log("the interface br9 is gone");
    namespace.ip(&["link", "add", "br9", "type", "bridge"]);
    until("it rejoins", Duration::from_secs(10), || {
        daemon.log().matches("multicast: listening on br9").count() == 2
    });
    assert!(daemon.stop(Duration::from_secs(10)).success());
}

#[test]
fn a_signal_ends_the_wait_for_a_libvirt_that_says_nothing() {
    require!(root_and_c_suite());
    let (dir, namespace) = (Dir::new(), Namespace::new());
    dir.key("key", b'k');
    let silent = std::os::unix::net::UnixListener::bind(dir.path("silent")).unwrap();
    let uri = format!("test+unix:///default?socket={}", dir.path("silent").display());
    let keys = auth_keys(&dir.path("key"), "sha256", "sha256");
    let mut daemon = Daemon::builder(&dir, &namespace).spawn(&conf("tcp", &keys, &[uri], ""));
    let _connection = ready(&silent).accept().unwrap();
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.await_exit(Duration::from_secs(5)).success());
    assert!(daemon.log().contains("stopped while waiting for libvirt"), "{}", daemon.log());
}

#[test]
fn each_signal_that_stops_it_is_a_clean_end() {
    require!(root_and_c_suite());
    let (dir, namespace) = (Dir::new(), Namespace::new());
    dir.key("key", b'k');
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let mut daemon = Daemon::builder(&dir, &namespace).start(&tcp(&dir, "key"));
        let pid_file = daemon.conf().with_extension("pid");
        assert!(pid_file.exists());
        daemon.signal(signal);
        assert!(daemon.await_exit(Duration::from_secs(10)).success(), "{signal}: {}", daemon.log());
        assert!(
            daemon.log().contains(&format!("{signal}: finishing requests in flight")),
            "{}",
            daemon.log()
        );
        assert!(!pid_file.exists(), "{signal}");
    }
}

#[test]
fn vsock_says_who_has_its_port_or_which_module_is_missing() {
    require!(root_and_c_suite());
    let (dir, namespace) = (Dir::new(), Namespace::new());
    let keys = auth_keys(&dir.key("key", b'k'), "sha256", "sha256");
    // The port is only listened on, without connections over vsock.
    let (port, words) =
        (40_000 + std::process::id() % 10_000, "`ss -l --vsock -p` shows which process uses it (needs");
    let taken = vsock::listen(port);
    let words = if taken.is_ok() { words } else { "modprobe vhost_vsock" };
    let conf = conf("vsock", &format!("{keys} port = \"{port}\";"), &[DEFAULT.into()], "");
    let (code, text) = run(&dir, &namespace, &conf, &["-F"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&format!("vsock: cannot listen on port {port}")) && text.contains(words), "{text}");
}

#[test]
fn all_listeners_at_once() {
    require!(root_and_c_suite());
    let port = 50_000 + std::process::id() % 10_000;
    require!(vsock::listen(port).map_err(|error| Missing(format!("this kernel has no vsock: {error}"))));
    let (dir, namespace) = (Dir::new(), Namespace::new());
    let keys = auth_keys(&dir.key("key", b'k'), "sha256", "sha256");
    let mut socket = Socket::bind(dir.path("line"));
    let vms = [(vm("asker", NODE1, RUNNING), serial(&socket.path))];
    let uri = node::node_with_devices(&dir, "node.xml", &vms);
    let conf = format!(
        "fence_virtd {{ listener = \"multicast, tcp, vsock serial\"; backend = \"libvirt\"; }}\n\
         listeners {{ multicast {{ {keys} interface = \"lo\"; }} tcp {{ {keys} }}\n\
         vsock {{ {keys} port = \"{port}\"; }} serial {{ path = \"{}\"; }} }}\n\
         backends {{ libvirt {{ uri = \"{uri}\"; }} }}\n",
        dir.path("").display()
    );
    let daemon = Daemon::builder(&dir, &namespace).start(&conf);
    socket.accept();
    // Without a uri the serial listener uses the URIs of the backend.
    assert_eq!(socket.ask(Operation::Status, "asker"), 0, "{}", daemon.log());
    assert!(vsock::listen(port).is_err(), "the daemon has the port");
    let key = key_bytes(b'k');
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1229));
    let packet = packet(Operation::Status, "asker", HashKind::Sha256);
    let asked = namespace.inside(|| {
        Client::connect(address, &key, HashKind::Sha256, Duration::from_secs(30)).unwrap().ask(&packet)
    });
    assert_eq!(asked.unwrap(), 0);
    assert!(daemon.stop(Duration::from_secs(30)).success());
}
