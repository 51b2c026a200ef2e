//! Logging: outputs, and rate limits for lines that the network can trigger.
#![forbid(unsafe_code)]

mod limiter;
mod output;
mod setup;

pub(crate) use limiter::{FairLimiter, Limiter, Suppressed};
pub(crate) use setup::{flush, level, start, start_writer, switch_to_syslog};
