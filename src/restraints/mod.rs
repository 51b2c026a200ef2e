//! Restraints of power operations: holds, by which an administrator keeps VMs from being fenced for a while,
//! and caps of the power-offs that may begin in the VMs of a group.
//!
//! Time is passed in: wall-clock time for holds, which outlive the daemon; time since boot for caps.
#![forbid(unsafe_code)]

mod cap;
mod decision;
mod file_text;
mod hold;
mod table;
mod units;

pub use cap::{CapError, PowerOffCap};
pub use decision::{CapReached, NamedVm, RestrainedGroup, Restraints};
pub use file_text::{HOLDS_BYTES_MAX, HOLDS_HEADER, HoldsFileError, decode_holds, encode_holds};
pub use hold::{HoldReason, HoldSubject, HoldTime, PowerHold};
pub use table::{HOLDS_MAX, HoldTable};
