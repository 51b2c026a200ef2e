//! Who may ask for what: keys, permission groups, and which VM is behind a vsock CID.

pub(crate) mod credentials;
pub(crate) mod key_file;
mod permissions;
pub(crate) mod policies;

pub(crate) use permissions::{Identified, Permissions};
