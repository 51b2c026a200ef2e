//! The log: its outputs, and the bounds that keep the network from flooding it.

mod limiter;
mod output;
mod setup;

pub(crate) use limiter::{FairLimiter, LeftOut, Limiter};
pub(crate) use output::quoted;
pub(crate) use setup::{flush, level, start, start_writer, switch_to_syslog};
