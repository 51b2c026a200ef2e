//! Memory and size on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::daemon::{OURS, THEIRS};
use crate::common::{Dir, Suite};
use crate::running::Running;
use crate::stats::Unit;
use crate::table::Table;

const MIB: f64 = 1024.0 * 1024.0;

/// Memory of a process, in bytes.
pub(crate) struct Memory {
    pub(crate) resident: f64,
    /// Private memory.
    pub(crate) private: f64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Memory {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        let rollup = read("smaps_rollup");
        Memory {
            resident: field(&read("status"), "VmRSS:"),
            private: field(&rollup, "Private_Clean:") + field(&rollup, "Private_Dirty:"),
        }
    }
}

/// Parses a line like `VmRSS:   1234 kB` into bytes.
fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kib: u32 = line.trim().trim_end_matches(" kB").parse().unwrap();
    f64::from(kib) * 1024.0
}

/// Compares the sizes on disk: ours, stripped, and the C daemon with the
/// modules for the same work. Returns ours in MiB.
pub(crate) fn binaries(dir: &Dir, table: &mut Table) -> f64 {
    let stripped = dir.path("fence_virtd");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(OURS).status();
    let (ours, how) = match strip {
        Ok(status) if status.success() => (size(&stripped), "stripped"),
        _ => (size(Path::new(OURS)), "as built, no strip here"),
    };
    let modules = module_dir(&Running::start(Suite::Theirs, dir));
    let parts = ["tcp.so", "virt.so", "multicast.so"].iter().map(|name| size(&modules.join(name)));
    let theirs = size(Path::new(THEIRS)) + parts.sum::<f64>();
    let name = format!("binary, {how} (C: daemon, tcp.so, virt.so, multicast.so)");
    table.compare_unpaired(&name, Unit::Bytes, &[ours], &[theirs]);
    ours / MIB
}

fn size(path: &Path) -> f64 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).len() as f64
}

/// Directory of the modules of a running C daemon.
fn module_dir(daemon: &Running) -> PathBuf {
    let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.pid())).unwrap();
    let module = maps.lines().find(|line| line.ends_with("/tcp.so")).expect("the C daemon has loaded tcp.so");
    let path = &module[module.find('/').unwrap()..];
    Path::new(path).parent().unwrap().to_owned()
}
