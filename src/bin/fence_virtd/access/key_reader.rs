//! User that a daemon runs as, for advice on key files and the configuration, which it has to read.

use std::ffi::CString;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist, getgroups};

/// User and groups of a daemon.
#[derive(Debug, Clone)]
pub(crate) struct KeyReader {
    pub(super) uid: u32,
    /// Its groups, the primary one first; empty if they are unknown.
    groups: Vec<u32>,
}

impl KeyReader {
    /// This process.
    pub(crate) fn this_process() -> KeyReader {
        let others = getgroups().unwrap_or_default();
        let groups = std::iter::once(getegid()).chain(others).map(Gid::as_raw).collect();
        KeyReader { uid: geteuid().as_raw(), groups }
    }

    /// Process of another user, with the groups that the user database has.
    pub(crate) fn of_user(uid: u32) -> KeyReader {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let groups = user.map_or(Vec::new(), |user| {
            let others = CString::new(user.name).ok().and_then(|name| getgrouplist(&name, user.gid).ok());
            std::iter::once(user.gid).chain(others.unwrap_or_default()).map(Gid::as_raw).collect()
        });
        KeyReader { uid, groups }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// True for a mode and group that let this user, who is not root and does not own the file, read it as a
    /// member of a group, and the group do nothing else.
    pub(crate) fn reads_as_group(&self, gid: u32, mode: u32) -> bool {
        !self.is_root() && self.groups.contains(&gid) && mode & 0o070 == 0o040
    }

    /// Commands by which only root and this user can read a file.
    pub(crate) fn commands(&self, path: &Path) -> String {
        let shown = path.display();
        if self.is_root() {
            return format!("`chmod 0600 {shown}`");
        }
        format!("`chgrp {} {shown}; chmod 0640 {shown}`", self.group())
    }

    /// Name of the primary group, or its number.
    pub(crate) fn group(&self) -> String {
        let Some(&gid) = self.groups.first() else { return "GROUP".to_owned() };
        let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
        group.map_or(gid.to_string(), |group| group.name)
    }
}
