//! Logging: outputs, and rate limits for lines that the network can trigger.
#![forbid(unsafe_code)]

mod answer_line;
#[cfg(test)]
mod captured;
mod limiter;
mod output;
mod setup;

pub(crate) use answer_line::AnswerLine;
#[cfg(test)]
pub(crate) use captured::captured;
pub(crate) use limiter::{FairLimiter, Limiter, Suppressed};
pub(crate) use setup::{flush, level, start, start_writer, switch_to_syslog};
