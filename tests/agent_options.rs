//! Options and metadata of our agents: command line, stdin, metadata, linked
//! libraries. Compared with the C agents where those are correct.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::agent::{AgentRun, OURS, Programs, VIRT, XVM, run_on_stdin};
use common::daemon::{Daemon, auth_keys, conf};
use common::net::Namespace;
use common::node::{self, NODE1, OFF, RUNNING, vm};
use common::{Dir, Missing, Suite, met, require, root_and_c_suite};

/// Daemon on a loopback with the VMs `node1`, running, and `two words`, off.
struct LoopbackHost {
    programs: Programs,
    namespace: Namespace,
    dir: Dir,
    _daemon: Daemon,
}

impl LoopbackHost {
    fn new(daemon: Suite, listener: &str, groups: &str) -> Result<LoopbackHost, Missing> {
        root_and_c_suite()?;
        let (dir, namespace) = (Dir::new(), Namespace::new());
        let keys = match listener {
            "multicast" => "interface = \"lo\"; address = \"225.0.0.12\";",
            _ => "address = \"127.0.0.1\";",
        };
        let keys = format!("{keys} {}", auth_keys(&dir.key("key", b'k'), "sha256", "sha256"));
        let vms = [vm("node1", NODE1, RUNNING), vm("two words", node::NODE2, OFF)];
        let uri = node::node(&dir, "node.xml", &vms);
        let daemon =
            Daemon::builder(&dir, &namespace).suite(daemon).start(&conf(listener, &keys, &[uri], groups));
        Ok(LoopbackHost { programs: Programs::of(Suite::Ours, &dir), namespace, dir, _daemon: daemon })
    }

    fn key(&self) -> String {
        self.dir.path("key").display().to_string()
    }

    fn virt_on_stdin(&self, options: &str) -> AgentRun {
        let options = format!("key_file={}\ntimeout=20\n{options}", self.key());
        run_on_stdin(self.namespace.command(&self.programs.virt), &options)
    }
}

#[test]
fn stdin_is_taken_as_pacemaker_and_people_write_it() {
    for daemon in [Suite::Ours, Suite::Theirs] {
        let host = require!(LoopbackHost::new(daemon, "tcp", ""));
        // A line of 3,000 bytes.
        let long = host.dir.path(&"./".repeat(1500)).join("key").display().to_string();
        for (options, code) in [
            ("action=status\nipaddr=127.0.0.1\nport=node1\n", 0),
            // Pacemaker sends nodename as well as port or plug.
            ("action=status\nnodename=other\nport=node1\nipaddr=127.0.0.1\n", 0),
            ("action=status\nnodename=node1\nport=node1\nplug=node1\ndomain=node1\nipaddr=127.0.0.1\n", 0),
            ("option=status\nipaddr=127.0.0.1\ndomain=node1\n", 0),
            ("ACTION=STATUS\nIpaddr=127.0.0.1\nPlug=node1\n", 0),
            ("  action  =  status  \r\n\r\n\t# plug=nobody\nipaddr= 127.0.0.1\t\nplug =node1", 0),
            // Spaces inside a value belong to it.
            ("action=status\nipaddr=127.0.0.1\nplug=two words\n", 2),
            ("action=on\nipaddr=127.0.0.1\nplug=two words  \n", 0),
            ("action=status\nipaddr=127.0.0.1\nplug=two  words\n", 2),
            // The last value of an option counts.
            (
                "action=off\nplug=two words\naction=status\nipaddr=127.0.0.9\nipaddr=127.0.0.1\nplug=node1\n",
                0,
            ),
            ("action=monitor\nipaddr=127.0.0.1\n", 0),
            ("action=status\nipaddr=127.0.0.1\nport=\nplug=node1\n", 0),
            (&format!("action=status\nipaddr=127.0.0.1\nplug=node1\nkey_file={long}\n"), 0),
        ] {
            let ran = host.virt_on_stdin(options);
            assert_eq!(ran.code, code, "{daemon:?} {options:?}: {ran:?}");
            let is_unknown = options.contains("two  words");
            assert_eq!(ran.stderr.contains("the host lists no VM with this name"), is_unknown, "{ran:?}");
            assert!(is_unknown || ran.stderr.is_empty(), "{options:?}: {ran:?}");
        }
        let ran = host.virt_on_stdin("action=status\nipaddr=127.0.0.1\nplug=node1\nfoo=bar\nbare\n");
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "Status: ON\n"));
        assert_eq!(ran.stderr.lines().count(), 2, "a line for each that is unknown: {ran:?}");
        // Different VMs are an error without a request.
        for names in ["plug=node1\nport=two words", "domain=node1\nport=nobody", "plug=node1\ndomain=NODE1"] {
            let ran = host.virt_on_stdin(&format!("action=off\nipaddr=127.0.0.1\n{names}\n"));
            assert_eq!(ran.code, 1, "{names}");
            assert!(ran.stderr.contains("two different VMs given"), "{ran:?}");
        }
        assert_eq!(host.virt_on_stdin("action=status\nipaddr=127.0.0.1\nplug=node1\n").code, 0, "it runs");
        for wrong in ["action=\nplug=node1", "plug=node1\ntimeout=", "nodename=node1", "plug=node1\nipaddr="]
        {
            let ran = host.virt_on_stdin(&format!("ipaddr=127.0.0.1\naction=status\n{wrong}\n"));
            assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{wrong}: {ran:?}");
        }
    }
}

#[test]
fn every_option_of_fence_xvm_works_in_every_form() {
    let host = require!(LoopbackHost::new(Suite::Theirs, "multicast", ""));
    let key = host.key();
    let run = |args: &[&str]| -> AgentRun {
        host.namespace.command(&host.programs.xvm).args(args).output().unwrap().into()
    };
    let short = [
        "-d",
        "-i",
        "ipv4",
        "-a",
        "225.0.0.12",
        "-p",
        "1229",
        "-r",
        "5",
        "-C",
        "sha256",
        "-c",
        "sha512",
        "-k",
        &key,
        "-n",
        "node1",
        "-o",
        "status",
        "-t",
        "20",
        "-w",
        "0",
        "-I",
        "lo",
    ];
    let ran = run(&short);
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = run(&[
        "--debug",
        "--ip-family=ipv4",
        "--multicast_address",
        "225.0.0.12",
        "--ipport=1229",
        "--retrans=5",
        "--auth=SHA256",
        "--hash=sha512",
        &format!("--key-file={key}"),
        "--plug=node1",
        "--action=status",
        "--timeout=20",
        "--delay=0",
        "--interface=lo",
    ]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(run(&["-k", &key, "-u", "-H", NODE1, "-ostatus", "-t20"]).code, 0, "by UUID");
    let ran = run(&["-k", &key, "-n", NODE1, "--use-uuid", "-o", "off", "-t", "20"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(run(&["-k", &key, "-n", "node1", "-o", "status", "-t", "20"]).code, 2);
    let options = format!(
        "debug=1\nip_family=ipv4\nmulticast_address=225.0.0.12\nipport=1229\nretrans=5\nauth=sha256\nhash=sha256\n\
         key_file={key}\nplug={NODE1}\nuse_uuid=1\naction=on\ntimeout=20\ndelay=0\ninterface=lo\n"
    );
    let ran = run_on_stdin(host.namespace.command(&host.programs.xvm), &options);
    assert_eq!(ran.code, 0, "{ran:?}");
    for agent in [host.programs.xvm.as_path(), Path::new(XVM)] {
        let mut command = host.namespace.command(agent);
        let ran: AgentRun =
            command.args(["-k", &key, "-o", "status", "-n", "node1", "-t", "20"]).output().unwrap().into();
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "Status: ON\n"), "{agent:?}");
    }
}

#[test]
fn permission_denied_is_3_and_says_so() {
    let groups = format!("groups {{ group {{ ip = \"198.51.100.1\"; uuid = \"{NODE1}\"; }} }}");
    for daemon in [Suite::Ours, Suite::Theirs] {
        let host = require!(LoopbackHost::new(daemon, "tcp", &groups));
        for action in ["off", "on", "reboot", "status"] {
            let ran = host.virt_on_stdin(&format!("action={action}\nipaddr=127.0.0.1\nplug=node1\n"));
            assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{daemon:?}: {ran:?}");
            assert!(ran.stderr.contains("permission denied"), "{ran:?}");
        }
        let ran = host.virt_on_stdin("action=list\nipaddr=127.0.0.1\n");
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{daemon:?}: {ran:?}");
    }
}

#[test]
fn wrong_command_lines_are_never_a_success() {
    let dir = Dir::new();
    let programs = Programs::of(Suite::Ours, &dir);
    for (agent, args) in [
        (&programs.xvm, "--bogus"),
        (&programs.xvm, "-o"),
        (&programs.xvm, "-T 127.0.0.1 -n a"),
        (&programs.xvm, "-n a stray"),
        (&programs.virt, "-I eth0 -n a"),
        (&programs.virt, "-S 2 -n a"),
        (&programs.virt, "-o destroy -n a"),
        (&programs.virt, "-n a -n b"),
        (&programs.virt, "-n a -t 0"),
    ] {
        let ran: AgentRun =
            Command::new(agent).args(args.split(' ')).stdin(Stdio::null()).output().unwrap().into();
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.lines().count()),
            (1, "", 1),
            "{args}: {ran:?}"
        );
    }
    let ran = run_on_stdin(Command::new(&programs.virt), "");
    assert_eq!(ran.code, 1, "nothing on stdin is a reboot of nothing: {ran:?}");
    for (agent, name) in [(&programs.xvm, "fence_xvm"), (&programs.virt, "fence_virt")] {
        for help in ["-h", "-?", "--help"] {
            let ran: AgentRun = Command::new(agent).arg(help).output().unwrap().into();
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
            assert!(ran.stdout.starts_with(&format!("Usage: {name} ")), "{ran:?}");
        }
        let ran: AgentRun = Command::new(agent).arg("-V").output().unwrap().into();
        assert_eq!(ran.stdout, format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

/// Attributes of the metadata in order, without descriptions.
fn attributes(agent: &Path, on_stdin: bool) -> Vec<String> {
    let ran = match on_stdin {
        true => run_on_stdin(Command::new(agent), "action=metadata\n"),
        false => Command::new(agent).args(["-o", "metadata"]).output().unwrap().into(),
    };
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{agent:?}");
    let query = "/resource-agent/@name | //parameter/@* | //getopt/@* | //content/@* | //action/@*";
    let mut command = Command::new("xmllint");
    command.args(["--xpath", query, "-"]);
    let listed = run_on_stdin(command, &ran.stdout);
    assert_eq!(listed.code, 0, "{listed:?}");
    listed.stdout.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn the_metadata_is_the_c_agents_and_more_after_it() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let programs = Programs::of(Suite::Ours, &dir);
    assert_eq!(attributes(&programs.virt, false), attributes(Path::new(VIRT), false));
    let (ours, theirs) = (attributes(&programs.xvm, false), attributes(Path::new(XVM), false));
    assert_eq!(attributes(&programs.xvm, true), ours);
    let (parameters, actions) =
        theirs.split_at(theirs.iter().position(|line| line == "name=\"null\"").unwrap());
    let interface =
        ["name=\"interface\"", "unique=\"0\"", "required=\"0\"", "mixed=\"-I\"", "type=\"string\""];
    let expected: Vec<&str> = parameters
        .iter()
        .map(String::as_str)
        .chain(interface)
        .chain(actions.iter().map(String::as_str))
        .collect();
    assert_eq!(ours, expected);
}

#[test]
fn the_metadata_is_valid_against_the_schema_of_fence_agents() {
    let schema =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/usr/share/cluster/relaxng/metadata.rng");
    require!(met(schema.exists(), "it needs the schema (make test-peers)"));
    let dir = Dir::new();
    let programs = Programs::of(Suite::Ours, &dir);
    for agent in [&programs.xvm, &programs.virt] {
        let ran: AgentRun = Command::new(agent).args(["-o", "metadata"]).output().unwrap().into();
        let mut command = Command::new("xmllint");
        command.args(["--noout", "--relaxng"]).arg(&schema).arg("-");
        let judged = run_on_stdin(command, &ran.stdout);
        assert_eq!(judged.code, 0, "{judged:?}");
        let mut command = Command::new("xmllint");
        command.args(["--noout", "--relaxng"]).arg(&schema).arg("-");
        let spoilt = ran.stdout.replace("unique=\"0\"", "unique=\"no\"");
        assert_ne!(run_on_stdin(command, &spoilt).code, 0, "the schema can say no");
    }
}

#[test]
fn the_agents_link_neither_libvirt_nor_corosync() {
    let output = Command::new("readelf").args(["--dynamic", OURS]).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let needed: Vec<&str> = text.lines().filter(|line| line.contains("(NEEDED)")).collect();
    assert!(needed.iter().any(|line| line.contains("libc.so")), "{text}");
    for line in needed {
        assert!(["libc.so", "libgcc_s.so", "ld-linux"].iter().any(|name| line.contains(name)), "{line}");
    }
}

#[test]
fn every_name_that_begins_with_fence_xvm_is_that_agent() {
    let dir = Dir::new();
    let link = |name: &str| -> PathBuf {
        let path = dir.path(name);
        std::os::unix::fs::symlink(OURS, &path).unwrap();
        path
    };
    for (name, expected) in
        [("fence_xvm", "fence_xvm"), ("fence_xvm.new", "fence_xvm"), ("other", "fence_virt")]
    {
        let ran: AgentRun = Command::new(link(name)).arg("-V").output().unwrap().into();
        assert!(ran.stdout.starts_with(expected), "{ran:?}");
    }
}
