//! Fake agent, a shell script that misbehaves as files beside it say, and a daemon that uses such agents.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use fence_virt::auth::HashKind;
use fence_virt::fence::Operation;

use crate::common::agent::{Agent, AgentRun, AgentTransport, Programs, run_on_stdin};
use crate::common::client::{Client, packet};
use crate::common::daemon::{Daemon, OURS, auth_keys};
use crate::common::net::Namespace;
use crate::common::{Dir, Missing, Suite, key_bytes, root, unique};

pub const LIMIT: Duration = Duration::from_secs(30);
pub const HOST: &str = "127.0.0.1";
/// Verdicts on the wire, and exit codes of the agents.
pub const SUCCESS: u8 = 0;
pub const FAILURE: u8 = 1;
pub const OFF: u8 = 2;
pub const DENIED: u8 = 3;

/// Metadata with these parameters and actions.
pub fn metadata(parameters: &[&str], actions: &[&str]) -> String {
    let parameter = |name: &&str| {
        format!("<parameter name=\"{name}\" required=\"{}\"/>", u8::from(["plug", "port"].contains(name)))
    };
    let action = |name: &&str| format!("<action name=\"{name}\"/>");
    format!(
        "<?xml version=\"1.0\" ?>\n<resource-agent name=\"fake\"><parameters>{}</parameters><actions>{}</actions>\
         </resource-agent>\n",
        parameters.iter().map(parameter).collect::<String>(),
        actions.iter().map(action).collect::<String>()
    )
}

pub const PARAMETERS: [&str; 5] = ["action", "plug", "ip", "password", "username"];
pub const ACTIONS: [&str; 7] = ["on", "off", "reboot", "status", "list", "monitor", "metadata"];

/// Each call is a line of the file calls, its action and plug, and the end of it one more. `at-start` is run before
/// the options are read, `do-ACTION` after that; the state of a VM is in the file `vm-PLUG`.
const SCRIPT: &str = r#"#!/bin/sh
cd 'FOLDER' || exit 9
[ ! -e at-start ] || . ./at-start
action= plug= input=
while IFS= read -r line; do
    input="$input $line"
    case $line in
    action=*) action=${line#action=} ;;
    plug=*) plug=${line#plug=} ;;
    esac
done
echo "$action${plug:+ $plug}" >>calls
trap 'echo "end $action" >>ends' EXIT
echo "begin $action" >>ends
[ ! -e "do-$action" ] || . "./do-$action"
case $action in
metadata) cat metadata ;;
list | list-status) cat list ;;
monitor) ;;
status)
    read -r state <"vm-$plug" || exit 1
    case $state in on) exit 0 ;; off) exit 2 ;; *) exit 1 ;; esac
    ;;
on | off) echo "$action" >"vm-$plug" ;;
*) exit 1 ;;
esac
"#;

/// Fake agent with its files in a folder.
pub struct FakeAgent {
    folder: PathBuf,
}

impl FakeAgent {
    /// Agent with the VMs 100, web, and 101, db, that run.
    pub fn new(dir: &Dir) -> FakeAgent {
        let agent = FakeAgent { folder: dir.path(&unique()) };
        fs::create_dir(&agent.folder).unwrap();
        agent.write("metadata", &metadata(&PARAMETERS, &ACTIONS));
        agent.write("list", "100,web\n101,db\n");
        agent.set("100", "on");
        agent.set("101", "on");
        let script = SCRIPT.replace("FOLDER", &agent.folder.display().to_string());
        // By a process of its own: a file that a thread beside us forks with cannot be executed (ETXTBSY).
        let mut install = Command::new("install");
        install.args(["-m", "755", "/dev/stdin"]).arg(agent.program());
        assert_eq!(run_on_stdin(install, &script).code, 0);
        agent
    }

    pub fn program(&self) -> PathBuf {
        self.path("fence_fake")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file at once: a script that runs sees the old one or the new one.
    pub fn write(&self, name: &str, text: &str) {
        let new = self.path(&unique());
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Gives its folder to a user, but not its program.
    pub fn give_to(&self, uid: u32) {
        // The folder stays root's: its owner could replace the program.
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o1777)).unwrap();
        for entry in fs::read_dir(&self.folder).unwrap() {
            let path = entry.unwrap().path();
            if path != self.program() {
                chown(path, Some(uid), None).unwrap();
            }
        }
    }

    /// Sets the state of a VM: on, off, or anything else, which it does not know.
    pub fn set(&self, plug: &str, state: &str) {
        self.write(&format!("vm-{plug}"), &format!("{state}\n"));
    }

    pub fn state(&self, plug: &str) -> String {
        self.text(&format!("vm-{plug}")).trim().to_owned()
    }

    /// Shell commands that an action makes first.
    pub fn hook(&self, action: &str, commands: &str) {
        self.write(&format!("do-{action}"), &format!("{commands}\n"));
    }

    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn lines(&self, name: &str) -> Vec<String> {
        self.text(name).lines().map(str::to_owned).collect()
    }

    /// All calls.
    pub fn all_calls(&self) -> Vec<String> {
        self.lines("calls")
    }

    /// Calls about VMs.
    pub fn calls(&self) -> Vec<String> {
        self.all_calls().into_iter().filter(|call| call.contains(' ')).collect()
    }

    /// Number of calls of an action.
    pub fn count(&self, action: &str) -> usize {
        let is_it = |call: &&String| call.split(' ').next() == Some(action);
        self.all_calls().iter().filter(is_it).count()
    }

    /// Begins and ends of the calls, in their order.
    pub fn ends(&self) -> Vec<String> {
        self.lines("ends")
    }

    /// Numbers in a file, one a line.
    pub fn numbers(&self, name: &str) -> Vec<u32> {
        self.lines(name).iter().filter_map(|line| line.trim().parse().ok()).collect()
    }

    pub fn forget_calls(&self) {
        let _ = fs::remove_file(self.path("calls"));
        let _ = fs::remove_file(self.path("ends"));
    }

    /// Section of the configuration, with a label unless that is empty, and further lines.
    pub fn section(&self, label: &str, lines: &str) -> String {
        let label = if label.is_empty() { String::new() } else { format!("= \"{label}\" ") };
        format!("agent {label}{{ program = \"{}\"; {lines} }}\n", self.program().display())
    }
}

/// Host with a daemon that listens on loopback.
pub struct AgentBench {
    pub dir: Dir,
    pub namespace: Namespace,
    programs: Programs,
}

impl AgentBench {
    pub fn new() -> Result<AgentBench, Missing> {
        root("for network namespaces")?;
        let dir = Dir::new();
        dir.key("key", b'k');
        let programs = Programs::of(Suite::Ours, &dir);
        Ok(AgentBench { dir, namespace: Namespace::new(), programs })
    }

    /// Configuration with these sections of `backends`, and others after that.
    pub fn conf(&self, backend: &str, backends: &str, others: &str) -> String {
        let keys = auth_keys(&self.dir.path("key"), "sha256", "sha256");
        format!(
            "fence_virtd {{ debug = \"3\"; listener = \"tcp\"; backend = \"{backend}\"; }}\n\
             listeners {{ tcp {{ address = \"{HOST}\"; {keys} }} }}\n\
             backends {{ {backends} }}\n{others}\n"
        )
    }

    pub fn start(&self, conf: &str) -> Daemon {
        Daemon::builder(&self.dir, &self.namespace).start(conf)
    }

    /// A fake agent and a daemon with it, by further lines of its section.
    pub fn with_one(&self, lines: &str) -> (FakeAgent, Daemon) {
        let agent = FakeAgent::new(&self.dir);
        let daemon = self.start(&self.conf("agent", &agent.section("", lines), ""));
        (agent, daemon)
    }

    /// Connection to the daemon.
    pub fn client(&self) -> Client {
        let address = ([127, 0, 0, 1], 1229).into();
        self.namespace.inside(|| Client::connect(address, &key_bytes(b'k'), HashKind::Sha256, LIMIT).unwrap())
    }

    /// Verdict on a request.
    pub fn ask(&self, operation: Operation, vm: &str) -> u8 {
        self.client().ask(&packet(operation, vm, HashKind::Sha256)).unwrap()
    }

    pub fn asked(&self, operations: &[Operation], vm: &str) -> Vec<u8> {
        operations.iter().map(|operation| self.ask(*operation, vm)).collect()
    }

    /// Runs fence_virt for an operation without a VM.
    pub fn run(&self, operation: &str) -> AgentRun {
        let key = self.dir.path("key");
        Agent::new(&self.programs, &self.namespace, AgentTransport::Tcp(HOST), &key).run(operation, "")
    }

    /// Names, UUIDs and states of the VMs that the daemon lists, sorted.
    pub fn list(&self) -> Vec<String> {
        let run = self.run("list");
        assert_eq!(run.code, 0, "{run:?}");
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut lines: Vec<String> = run.stdout.lines().map(line).collect();
        lines.sort();
        lines
    }

    /// Runs the daemon's program with these arguments; returns exit code and output.
    pub fn tool(&self, daemon: &Daemon, args: &[&str]) -> (Option<i32>, String) {
        output(self.namespace.command(OURS).args(args).arg("-f").arg(daemon.conf()))
    }

    /// Starts the daemon, which ends at once; returns exit code and output.
    pub fn refused(&self, conf: &str) -> (Option<i32>, String) {
        let name = unique();
        let path = self.dir.write(&format!("{name}.conf"), conf);
        let pid = self.dir.path(&format!("{name}.pid"));
        // One that starts after all is stopped.
        let mut command = self.namespace.command("timeout");
        output(command.args(["60", OURS, "-F", "-f"]).arg(path).arg("-p").arg(pid))
    }
}

fn output(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}
