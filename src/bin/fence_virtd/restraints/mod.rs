//! Holds of VMs and caps of power-offs: the table in force, its file, and the orders of the administrator.
//!
//! The decision is the library's (`fence_virt::restraints`). The worker asks it when a request begins, and a lane
//! once more before it destroys or starts a VM. Only the main thread changes the holds.
#![forbid(unsafe_code)]

mod hold_file;
mod hold_keeper;
#[cfg(test)]
mod sample;
mod shared;

pub(crate) use hold_keeper::{HoldChange, HoldKeeper, kept_holds};
pub(crate) use shared::{HoldGuard, RestraintReport, SharedRestraints};
