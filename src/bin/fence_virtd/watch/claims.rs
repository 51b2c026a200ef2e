//! Which sockets the VMs that run have, of all watchers of a listener: a
//! socket that two of them name tells nothing of who is at its other end.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Inbox;

/// The claims; its clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// How many VMs have the socket of this path.
    counts: HashMap<PathBuf, usize>,
    /// How often a socket came to be named twice.
    conflicts: u64,
    /// The watchers, which are woken then.
    inboxes: Vec<Inbox>,
}

/// The claim of a VM to a socket; given up when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Claims,
    path: PathBuf,
}

impl Claims {
    // Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A watcher whose sockets are claimed here.
    pub(super) fn join(&self, inbox: Inbox) {
        self.lock().inboxes.push(inbox);
    }

    /// A VM has this socket.
    pub(super) fn claim(&self, path: &Path) -> Claim {
        let path = true_path(path);
        let mut table = self.lock();
        let count = table.counts.entry(path.clone()).or_default();
        *count += 1;
        if *count > 1 {
            table.conflicts += 1;
            for inbox in &table.inboxes {
                inbox.wake();
            }
        }
        Claim { claims: self.clone(), path }
    }

    /// How often a socket came to be named twice.
    pub(super) fn conflicts(&self) -> u64 {
        self.lock().conflicts
    }
}

impl Claim {
    /// Whether no other VM that runs has the socket.
    pub(super) fn is_sole(&self) -> bool {
        self.claims.lock().counts.get(&self.path) == Some(&1)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut table = self.claims.lock();
        match table.counts.get_mut(&self.path) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(table.counts.remove(&self.path)),
        }
    }
}

/// The path without symbolic links and `..`, as far as it is there: /var/run/x is /run/x.
fn true_path(path: &Path) -> PathBuf {
    let in_true_folder = || Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?));
    fs::canonicalize(path).ok().or_else(in_true_folder).unwrap_or_else(|| path.to_owned())
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
        let claims = Claims::default();
        let inbox = Inbox::default();
        claims.join(inbox.clone());
        for (one, other) in [("x", "same/x"), ("x", "deeper/../x"), ("x", "./x"), ("real", "alias")] {
            let first = claims.claim(&folder.join(one));
            assert!(first.is_sole() && !inbox.was_woken());
            let before = claims.conflicts();
            let second = claims.claim(&folder.join(other));
            assert!(!first.is_sole() && !second.is_sole(), "{one} {other}");
            assert!(claims.conflicts() > before && inbox.was_woken());
            drop(second);
            assert!(first.is_sole());
        }
        let (a, b) = (claims.claim(&folder.join("a")), claims.claim(&folder.join("b")));
        assert!(a.is_sole() && b.is_sole());
        drop((a, b));
        assert!(claims.lock().counts.is_empty());
        fs::remove_dir_all(&folder).unwrap();
    }
}
