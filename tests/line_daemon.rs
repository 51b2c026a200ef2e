//! Agents on serial lines and vmchannels against a daemon, ours or the C one.
//! The daemon connects to a unix socket that the test binds instead of QEMU,
//! and the test relays bytes between that and the guest's end.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::agent::{AgentRun, OURS, VIRT};
use common::daemon::{Daemon, auth_keys};
use common::line::{ByteRelay, Pty, REQUEST_LEN, run_directory, with_run};
use common::net::Namespace;
use common::node::{self, NODE1, NODE2, RUNNING, vm};
use common::{Dir, Missing, Suite, ready, require, root_and_c_suite, until};

const LIMIT: Duration = Duration::from_secs(30);

/// Daemon with a line of the VM `asker`, and a VM `victim`.
struct LineHost {
    _dir: Dir,
    run: PathBuf,
    line: UnixStream,
    daemon: Daemon,
    _namespace: Namespace,
}

impl LineHost {
    fn new(suite: Suite, mode: &str) -> Result<LineHost, Missing> {
        root_and_c_suite()?;
        let (dir, namespace) = (Dir::new(), Namespace::new());
        let socket = dir.path("asker");
        let listener = UnixListener::bind(&socket).unwrap();
        let device = match mode {
            "serial" => ("serial", "<target port='1'/>"),
            _ => ("channel", "<target type='guestfwd' address='10.0.2.179' port='1229'/>"),
        };
        let devices = format!(
            "<{0} type='unix'><source mode='bind' path='{1}'/>{2}</{0}>",
            device.0,
            socket.display(),
            device.1
        );
        let vms = [(vm("asker", NODE1, RUNNING), devices), (vm("victim", NODE2, RUNNING), String::new())];
        let uri = node::node_with_devices(&dir, "node.xml", &vms);
        // The C daemon requires a key that it does not use.
        let keys = auth_keys(&dir.key("key", b'k'), "sha256", "sha256");
        let conf = format!(
            "fence_virtd {{ listener = \"serial\"; backend = \"libvirt\"; }}\n\
             listeners {{ serial {{ mode = \"{mode}\"; path = \"{}\"; uri = \"{uri}\"; {keys} }} }}\n\
             backends {{ libvirt {{ uri = \"{uri}\"; }} }}\n",
            dir.path("").display()
        );
        let daemon = Daemon::builder(&dir, &namespace).suite(suite).args(&["-d9"]).spawn(&conf);
        listener.set_nonblocking(true).unwrap();
        let mut line = None;
        until("the daemon has connected to the VM's socket", LIMIT, || {
            line = listener.accept().ok();
            line.is_some()
        });
        let line = line.unwrap().0;
        line.set_nonblocking(false).unwrap();
        let run = run_directory(&dir);
        Ok(LineHost { _dir: dir, run, line, daemon, _namespace: namespace })
    }

    fn command(&self, agent: &str) -> Command {
        let mut command = with_run(&self.run, Path::new(agent));
        command.stdin(Stdio::null());
        command
    }
}

/// Asserts exit codes and output of an agent on a line of either kind.
fn assert_table(agent: &str, run: impl Fn(&str) -> AgentRun) {
    for (args, code, stdout) in [
        ("-o status -n victim", 0, "Status: ON\n"),
        ("-o off -n victim", 0, ""),
        ("-o status -n victim", 2, "Status: OFF\n"),
        ("-o off -n victim", 0, ""),
        ("-o on -n victim", 0, ""),
        ("-o reboot -n victim", 0, ""),
        ("-o status -n victim", 0, "Status: ON\n"),
        ("-o monitor", 0, ""),
        ("-o status -n nobody", 2, "Status: OFF\n"),
    ] {
        let ran = run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, stdout), "{args}: {ran:?}");
    }
    let ran = run("-o off -n nobody");
    assert_eq!(ran.code, 1, "{agent}: {ran:?}");
    assert_eq!(run("-o null -n victim").code, 1);
    // Last: the C agent leaves the end of the list unread, and would take it for its next answer.
    let list = run("-o list");
    assert_eq!(list.code, 0, "{list:?}");
    let mut lines: Vec<_> = list.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, [format!("{:32} {NODE1} on", "asker"), format!("{:32} {NODE2} on", "victim")]);
}

#[test]
fn over_a_serial_line_to_ours() {
    over_a_serial_line(Suite::Ours);
}

#[test]
fn over_a_serial_line_to_theirs() {
    over_a_serial_line(Suite::Theirs);
}

fn over_a_serial_line(suite: Suite) {
    let host = require!(LineHost::new(suite, "serial"));
    let pty = Pty::new();
    let _relay = ByteRelay::new(pty.peer_end(), host.line.try_clone().unwrap());
    for agent in [OURS, VIRT] {
        assert_table(agent, |args| {
            let mut command = host.command(agent);
            command.arg("-D").arg(&pty.path).args(args.split(' ')).args(["-t", "20"]);
            command.output().unwrap().into()
        });
    }
}

#[test]
fn over_a_vmchannel_to_ours() {
    over_a_vmchannel(Suite::Ours);
}

#[test]
fn over_a_vmchannel_to_theirs() {
    over_a_vmchannel(Suite::Theirs);
}

fn over_a_vmchannel(suite: Suite) {
    let host = require!(LineHost::new(suite, "vmchannel"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    for agent in [OURS, VIRT] {
        assert_table(agent, |args| {
            let mut command = host.command(agent);
            command.args(["-A", "127.0.0.1", "-p", &port]).args(args.split(' ')).args(["-t", "20"]);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let _relay = ByteRelay::new(ready(&listener).accept().unwrap().0, host.line.try_clone().unwrap());
            // After a failure the agent asks for the list on a second connection.
            listener.set_nonblocking(true).unwrap();
            let mut second = None;
            let mut child = child;
            until("the agent has ended", LIMIT, || {
                if let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(false).unwrap();
                    second = Some(ByteRelay::new(stream, host.line.try_clone().unwrap()));
                }
                child.try_wait().unwrap().is_some()
            });
            listener.set_nonblocking(false).unwrap();
            child.wait_with_output().unwrap().into()
        });
    }
}

#[test]
fn the_answer_to_an_agent_that_was_killed_is_not_the_next_ones() {
    let host = require!(LineHost::new(Suite::Theirs, "serial"));
    let pty = Pty::new();
    let relay = ByteRelay::new(pty.peer_end(), host.line.try_clone().unwrap());
    for agent in [OURS, VIRT] {
        let command = || {
            let mut command = host.command(agent);
            command.arg("-D").arg(&pty.path);
            command
        };
        // A reboot takes a second; the agent is killed when the daemon has its request.
        let before = relay.relayed();
        let mut killed = command().args(["-o", "reboot", "-n", "victim"]).spawn().unwrap();
        until("the request is with the daemon", LIMIT, || relay.relayed() >= before + REQUEST_LEN);
        killed.kill().unwrap();
        killed.wait().unwrap();
        let ran: AgentRun =
            command().args(["-o", "off", "-n", "nobody", "-t", "20"]).output().unwrap().into();
        // The C agent takes the success of the reboot for its own answer.
        assert_eq!(ran.code, if agent == OURS { 1 } else { 0 }, "{agent}: {ran:?}");
        if agent == OURS {
            assert!(ran.stderr.contains("lists no VM with this name"), "{ran:?}");
        }
    }
}

#[test]
fn questions_in_a_row_are_answered_in_their_order() {
    let host = require!(LineHost::new(Suite::Ours, "serial"));
    let pty = Pty::new();
    let _relay = ByteRelay::new(pty.peer_end(), host.line.try_clone().unwrap());
    let agent = |args: &str| -> AgentRun {
        let mut command = host.command(OURS);
        command.arg("-D").arg(&pty.path).args(args.split(' ')).output().unwrap().into()
    };
    // Marker of an agent that was killed before its answer arrived.
    let name = pty.path.to_str().unwrap().trim_start_matches('/').replace('/', "-");
    std::fs::write(host.run.join(format!("fence_virt-{name}")), "x").unwrap();
    let ran = agent("-d -o off -n victim -t 20");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("probing for its end"), "{ran:?}");
    host.daemon.await_log("off \"victim\": success");
    let log = host.daemon.log();
    let of_probe: Vec<&str> =
        log.lines().filter(|line| line.contains("no-vm-") || line.contains("null")).collect();
    let is_quiet = of_probe.len() == 1 && of_probe[0].starts_with("fence_virtd: debug: serial: asker ");
    assert!(is_quiet && of_probe[0].contains("probes for late answers"), "{of_probe:#?}");
    let ran = agent("-d -o status -n victim -t 20");
    assert_eq!((ran.code, ran.stderr.contains("probing")), (2, false), "{ran:?}");
}
