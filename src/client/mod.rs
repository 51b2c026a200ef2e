//! The agents `fence_xvm` and `fence_virt`: one program under two names.
//!
//! 1. `args` reads the command line or, if there is none, `stdin` reads
//!    name=value lines; both by the one table in `options`.
//! 2. `settings` makes of them what is to be done, or says what is wrong.
//! 3. `run` waits for the delay and lets a `transport` ask the daemon, until
//!    the deadline.
//! 4. `report` turns the answer into output and exit code. Only an answer of
//!    the daemon to this very request is ever a success.
#![forbid(unsafe_code)]

mod action;
mod addresses;
mod agent;
mod args;
mod help;
mod in_flight;
mod metadata;
mod options;
mod raw_options;
mod report;
mod run;
mod serial_params;
mod settings;
mod stderr_log;
mod stdin;
mod transport;

pub use run::run;
#[doc(hidden)]
pub use stdin::try_options;
