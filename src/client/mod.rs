//! Agents `fence_xvm` and `fence_virt`: one program under two names.
//!
//! 1. `args` parses the command line or, without arguments, `stdin` reads lines
//!    of name=value; both use the table in `options`.
//! 2. `settings` validates them.
//! 3. `run` waits for the delay and sends the request over a `transport`, with a
//!    deadline.
//! 4. `inquiry` looks for the VM on other hosts where an answer leaves open if
//!    the host knows it.
//! 5. `report` converts the answer into output and exit code. Only the daemon's
//!    answer to this request is ever a success.
#![forbid(unsafe_code)]

mod action;
mod addresses;
mod agent;
mod args;
mod help;
mod in_flight;
mod inquiry;
#[cfg(feature = "daemon")]
mod local_daemon;
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

#[cfg(feature = "daemon")]
pub use local_daemon::{LocalDaemon, LocalRoute, failure};
pub use run::run;
#[doc(hidden)]
pub use stdin::try_options;
