//! libvirt's callbacks and error reporting, for which there is no safe binding.

#[allow(unsafe_code)]
mod callbacks;
#[allow(unsafe_code)]
mod silence;

pub(crate) use callbacks::{Notice, Subscription};
pub(crate) use silence::silence;
