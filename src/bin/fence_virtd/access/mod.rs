//! Access control: keys, permission groups, and the VMs behind vsock CIDs.
#![forbid(unsafe_code)]

mod cids;
pub(crate) mod credentials;
pub(crate) mod key_file;
mod key_reader;
mod memberships;
mod permissions;
pub(crate) mod policies;
pub(crate) mod vm_key_files;
pub(crate) mod vm_keys;

#[cfg(test)]
pub(crate) use cids::CidHolder;
pub(crate) use cids::CidTable;
pub(crate) use key_reader::KeyReader;
pub(crate) use memberships::{GroupMembership, named, not_permitted};
pub(crate) use permissions::{Conflicts, DomainLookup, Identified, Permissions, VmCopy};
