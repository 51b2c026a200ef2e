//! Who may ask for what: keys, permission groups, and which VM is behind a vsock CID.

mod cids;
pub(crate) mod credentials;
pub(crate) mod key_file;
mod permissions;
pub(crate) mod policies;

#[cfg(test)]
pub(crate) use cids::CidHolder;
pub(crate) use cids::CidTable;
pub(crate) use permissions::{Identified, Permissions};
