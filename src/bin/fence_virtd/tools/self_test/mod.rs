//! `fence_virtd --self-test`: asks the running daemon over its network listeners, as the agents do, with the keys
//! of the configuration. With `--fence` it reboots one VM.
//!
//! 1. [`plan`] finds from the configuration how each listener is asked from this host.
//! 2. [`questions`] asks for monitor and list; all listeners at the same time.
//! 3. [`fencing`] reboots a VM through the first listener that permits it, after a question on the terminal.
//! 4. [`summary`] counts, and gives the exit code.

mod fencing;
mod plan;
mod questions;
mod run;
mod summary;

pub(crate) use run::run;
