//! libvirtd with the test driver only, which shares its state between all
//! connections while at least one is open.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use virt::connect::Connect;
use virt::domain::Domain;

use super::net::Namespace;
use super::node::Vm;
use super::{Dir, Missing, met, until};

pub const LIBVIRTD: &str = "/usr/sbin/libvirtd";
pub const VIRSH: &str = "/usr/bin/virsh";

/// Running VM that the test driver always has.
pub const TEST_VM: &str = "test";

const LIMIT: Duration = Duration::from_secs(30);

/// Requirement: libvirtd and virsh.
pub fn libvirtd_installed() -> Result<(), Missing> {
    let is_met = Path::new(LIBVIRTD).exists() && Path::new(VIRSH).exists();
    met(is_met, "it needs the packages libvirt-daemon-system and libvirt-clients")
}

/// Defines a VM with these devices.
pub fn define(connect: &Connect, name: &str, uuid: &str, devices: &str) -> Domain {
    let xml = format!(
        "<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>65536</memory><vcpu>1</vcpu>\
         <os><type>hvm</type></os><devices>{devices}</devices></domain>"
    );
    Domain::define_xml(connect, &xml).unwrap()
}

/// libvirtd with its files in a directory, killed when dropped.
pub struct Libvirtd<'a> {
    namespace: &'a Namespace,
    directory: PathBuf,
    child: Option<Child>,
}

impl<'a> Libvirtd<'a> {
    /// Prepares a libvirtd without starting it.
    pub fn new(dir: &Dir, namespace: &'a Namespace, name: &str) -> Libvirtd<'a> {
        let directory = dir.path(name);
        fs::create_dir_all(directory.join("drivers")).unwrap();
        let conf = format!(
            "unix_sock_dir = \"{}\"\nauth_unix_rw = \"none\"\nlog_outputs = \"3:stderr\"\n",
            directory.display()
        );
        fs::write(directory.join("conf"), conf).unwrap();
        Libvirtd { namespace, directory, child: None }
    }

    /// Prepares and starts a libvirtd.
    pub fn started(dir: &Dir, namespace: &'a Namespace, name: &str) -> Libvirtd<'a> {
        let mut libvirtd = Libvirtd::new(dir, namespace, name);
        libvirtd.start();
        libvirtd
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("libvirt-sock")
    }

    pub fn uri(&self) -> String {
        format!("test+unix:///default?socket={}", self.socket().display())
    }

    /// Starts or restarts it and waits until it accepts connections.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = File::options().create(true).append(true).open(self.directory.join("log")).unwrap();
        let mut command = self.namespace.command(LIBVIRTD);
        // Without modules it has its built-in drivers only.
        command.env("LIBVIRT_DRIVER_DIR", self.directory.join("drivers"));
        command.arg("-f").arg(self.directory.join("conf")).arg("-p").arg(self.directory.join("pid"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        until("libvirtd takes connections", LIMIT, || UnixStream::connect(self.socket()).is_ok());
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("a libvirtd that runs").id()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// Sends SIGKILL and waits for its exit.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Sends a signal that ends it, and waits for its exit.
    pub fn end(&mut self, signal: Signal) {
        self.signal(signal);
        self.child.take().expect("a libvirtd that runs").wait().unwrap();
    }

    /// Sends SIGSTOP and waits until all its threads are stopped.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let tasks = format!("/proc/{}/task", self.pid());
        until("every thread of libvirtd is stopped", LIMIT, || {
            fs::read_dir(&tasks).unwrap().all(|task| {
                let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
                stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
            })
        });
    }

    /// Sends SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn virsh_command(&self) -> Command {
        let mut command = Command::new(VIRSH);
        command.args(["-q", "-k", "0", "-c", &self.uri()]);
        command
    }

    /// Runs a virsh command, asserts success and returns its output.
    pub fn virsh(&self, args: &[&str]) -> String {
        let output = self.virsh_command().args(args).stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "virsh {args:?}: {error}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Id of the run of a VM, "-" if it is off.
    pub fn run_of(&self, vm: &str) -> String {
        self.virsh(&["domid", vm])
    }

    /// Connects a virsh that keeps the driver's state, and defines and starts these VMs.
    pub fn hold(&self, vms: &[Vm]) -> Holder {
        let mut command = self.virsh_command();
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = String::new();
        for Vm { name, uuid, .. } in vms {
            let file = self.directory.join(format!("{name}.xml"));
            let xml = format!(
                "<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>65536</memory><vcpu>1</vcpu>\
                 <os><type>hvm</type></os></domain>"
            );
            fs::write(&file, xml).unwrap();
            lines += &format!("define {}\nstart {name}\n", file.display());
        }
        let stdin = child.stdin.as_mut().expect("a pipe");
        stdin.write_all(lines.as_bytes()).unwrap();
        let holder = Holder { child };
        let is_running = |vm: &Vm| {
            let output = self.virsh_command().args(["domstate", vm.name]).output().unwrap();
            output.stdout.starts_with(b"running")
        };
        until("the VMs run", LIMIT, || vms.iter().all(is_running));
        holder
    }
}

impl Drop for Libvirtd<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            eprintln!("--- log of libvirtd ---\n{log}---");
        }
    }
}

/// Connection that keeps the state of a test driver, closed when dropped.
pub struct Holder {
    child: Child,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
