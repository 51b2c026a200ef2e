//! Agents, ours and the C ones.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::net::Namespace;
use super::{Dir, Suite, unique};

/// C agents.
pub const VIRT: &str = "/usr/sbin/fence_virt";
pub const XVM: &str = "/usr/sbin/fence_xvm";

/// Our agent from the build directory.
pub const OURS: &str = env!("CARGO_BIN_EXE_fence_virt");

/// Paths of both agents of a suite.
#[derive(Debug, Clone)]
pub struct Programs {
    pub virt: PathBuf,
    pub xvm: PathBuf,
}

impl Programs {
    /// Wrappers that run the agents with a directory of the test as /run.
    fn with_run(&self, dir: &Dir) -> Programs {
        let run = super::line::run_directory(dir);
        let wrap = |program: &Path| {
            let wrapper = dir.path(&unique());
            let script = format!(
                "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind \"$0\" /run && exec \"$@\"' {} {} \"$@\"\n",
                run.display(),
                program.display()
            );
            // By a process of its own: a file that a thread beside us forks with cannot be executed (ETXTBSY).
            let mut install = Command::new("install");
            install.args(["-m", "755", "/dev/stdin"]).arg(&wrapper);
            assert_eq!(run_on_stdin(install, &script).code, 0);
            wrapper
        };
        Programs { virt: wrap(&self.virt), xvm: wrap(&self.xvm) }
    }

    /// C agents.
    pub fn deployed() -> Programs {
        Programs { virt: VIRT.into(), xvm: XVM.into() }
    }

    pub fn of(suite: Suite, dir: &Dir) -> Programs {
        match suite {
            Suite::Theirs => Programs::deployed(),
            Suite::Ours => {
                let directory = dir.path(&unique());
                std::fs::create_dir(&directory).unwrap();
                let xvm = directory.join("fence_xvm");
                symlink(OURS, &xvm).unwrap();
                let programs = Programs { virt: OURS.into(), xvm };
                if nix::unistd::geteuid().is_root() { programs.with_run(dir) } else { programs }
            }
        }
    }
}

/// Agents under test, from `FENCE_AGENT`: `ours` (the default) or `theirs`.
pub fn under_test() -> Suite {
    super::suite("FENCE_AGENT")
}

/// Runs an agent with `options` as lines on its stdin.
pub fn run_on_stdin(mut command: Command, options: &str) -> AgentRun {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // An agent that fails early may not read all of it.
    let _ = child.stdin.take().unwrap().write_all(options.as_bytes());
    child.wait_with_output().unwrap().into()
}

/// Exit code and output of an agent.
#[derive(Debug, PartialEq, Eq)]
pub struct AgentRun {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for AgentRun {
    fn from(output: Output) -> AgentRun {
        AgentRun {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Transport between agent and daemon.
#[derive(Debug, Clone, Copy)]
pub enum AgentTransport<'a> {
    /// `fence_virt -T` with this address.
    Tcp(&'a str),
    /// `fence_xvm -i` with `ipv4` or `ipv6`.
    Multicast(&'a str),
}

/// Agent with its options.
#[derive(Clone)]
pub struct Agent<'a> {
    pub programs: &'a Programs,
    pub namespace: &'a Namespace,
    pub way: AgentTransport<'a>,
    pub key: &'a Path,
    pub hash: &'a str,
    pub auth: &'a str,
    /// Timeout in seconds.
    pub timeout: u32,
    pub form: OptionForm,
}

/// Form in which an agent receives its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionForm {
    Short,
    /// Long options, which only our agents have.
    Long,
    Stdin,
}

impl<'a> Agent<'a> {
    /// Agent with sha256 for hash and auth, and a timeout of 10 s.
    pub fn new(
        programs: &'a Programs,
        namespace: &'a Namespace,
        way: AgentTransport<'a>,
        key: &'a Path,
    ) -> Agent<'a> {
        Agent {
            programs,
            namespace,
            way,
            key,
            hash: "sha256",
            auth: "sha256",
            timeout: 10,
            form: OptionForm::Short,
        }
    }

    /// Runs the agent for an operation on a VM ("" for none).
    pub fn run(&self, operation: &str, vm: &str) -> AgentRun {
        let (program, way) = match self.way {
            AgentTransport::Tcp(address) => (&self.programs.virt, vec![("-T", "ipaddr", address)]),
            AgentTransport::Multicast(family) => {
                (&self.programs.xvm, vec![("-i", "ip_family", family), ("-r", "retrans", "5")])
            }
        };
        let (key, timeout) = (self.key.display().to_string(), self.timeout.to_string());
        let mut options = way;
        options.extend([
            ("-k", "key_file", key.as_str()),
            ("-c", "hash", self.hash),
            ("-C", "auth", self.auth),
            ("-o", "action", operation),
            ("-t", "timeout", &timeout),
        ]);
        if !vm.is_empty() {
            options.push(("-n", if self.form == OptionForm::Stdin { "port" } else { "plug" }, vm));
        }
        let mut command = self.namespace.command(program);
        match self.form {
            OptionForm::Short => {
                let args = options.iter().flat_map(|(letter, _, value)| [*letter, value]);
                command.args(args).output().unwrap().into()
            }
            OptionForm::Long => {
                let long =
                    |(_, name, value): &(&str, &str, &str)| format!("--{}={value}", name.replace('_', "-"));
                command.args(options.iter().map(long)).output().unwrap().into()
            }
            OptionForm::Stdin => {
                let line = |(_, name, value): &(&str, &str, &str)| format!("{name}={value}\n");
                run_on_stdin(command, &options.iter().map(line).collect::<String>())
            }
        }
    }

    /// Runs the agent and returns its exit code.
    pub fn code(&self, operation: &str, vm: &str) -> i32 {
        self.run(operation, vm).code
    }
}
