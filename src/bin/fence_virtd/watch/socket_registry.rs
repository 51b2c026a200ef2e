use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::change_queue::ChangeQueue;
use crate::serial_event::LineId;
use fence_virt::sys::mutex::lock;

/// Registry of the sockets of running VMs, shared by all watchers of a listener: if two
/// VMs have one socket, nobody can tell which of them is at its other end.
#[derive(Debug, Clone, Default)]
pub(super) struct SocketRegistry {
    claims: Arc<Mutex<ClaimTable>>,
    next_line: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct ClaimTable {
    /// Number of VMs with the socket, by its path.
    counts: HashMap<PathBuf, usize>,
    /// Number of times that a second VM claimed a socket.
    conflicts: u64,
    /// Watchers to wake at a conflict.
    queues: Vec<ChangeQueue>,
}

/// Claim of a VM to a socket, released on drop.
#[derive(Debug)]
pub(super) struct SocketClaim {
    registry: SocketRegistry,
    path: PathBuf,
}

impl SocketRegistry {
    /// Adds a watcher that claims sockets here.
    pub(super) fn join(&self, queue: ChangeQueue) {
        lock(&self.claims).queues.push(queue);
    }

    /// Claims a socket for a VM.
    pub(super) fn claim(&self, path: &Path) -> SocketClaim {
        let path = canonical(path);
        let mut table = lock(&self.claims);
        let count = table.counts.entry(path.clone()).or_default();
        *count += 1;
        if *count > 1 {
            table.conflicts += 1;
            for queue in &table.queues {
                queue.wake();
            }
        }
        SocketClaim { registry: self.clone(), path }
    }

    /// Number of times that a second VM claimed a socket.
    pub(super) fn conflicts(&self) -> u64 {
        lock(&self.claims).conflicts
    }

    /// Returns a new line's number, unique within the listener.
    pub(super) fn next_line(&self) -> LineId {
        LineId(self.next_line.fetch_add(1, Ordering::Relaxed))
    }
}

impl SocketClaim {
    /// True if no other running VM has the socket.
    pub(super) fn is_sole(&self) -> bool {
        lock(&self.registry.claims).counts.get(&self.path) == Some(&1)
    }
}

impl Drop for SocketClaim {
    fn drop(&mut self) {
        let mut table = lock(&self.registry.claims);
        match table.counts.get_mut(&self.path) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(table.counts.remove(&self.path)),
        }
    }
}

/// Resolves symbolic links and `..` as far as the path exists: /var/run/x is /run/x.
fn canonical(path: &Path) -> PathBuf {
    let in_folder = || Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?));
    fs::canonicalize(path).ok().or_else(in_folder).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_socket_is_one_whatever_its_name() {
        let folder = std::env::temp_dir().join(format!("fence-claims-{}", std::process::id()));
        fs::create_dir_all(folder.join("deeper")).unwrap();
        symlink(&folder, folder.join("same")).unwrap();
        fs::write(folder.join("real"), "").unwrap();
        symlink(folder.join("real"), folder.join("alias")).unwrap();
        let registry = SocketRegistry::default();
        let queue = ChangeQueue::default();
        registry.join(queue.clone());
        for (one, other) in [("x", "same/x"), ("x", "deeper/../x"), ("x", "./x"), ("real", "alias")] {
            let first = registry.claim(&folder.join(one));
            assert!(first.is_sole() && !queue.was_woken());
            let before = registry.conflicts();
            let second = registry.claim(&folder.join(other));
            assert!(!first.is_sole() && !second.is_sole(), "{one} {other}");
            assert!(registry.conflicts() > before && queue.was_woken());
            drop(second);
            assert!(first.is_sole());
        }
        let a = registry.claim(&folder.join("a"));
        let b = registry.claim(&folder.join("b"));
        assert!(a.is_sole() && b.is_sole());
        drop((a, b));
        assert!(lock(&registry.claims).counts.is_empty());
        fs::remove_dir_all(&folder).unwrap();
    }
}
