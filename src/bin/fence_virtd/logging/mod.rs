//! Logging: outputs, and rate limits for lines that the network can trigger.
#![forbid(unsafe_code)]

mod answer_line;
#[cfg(test)]
mod captured;
mod limiter;
mod line;
mod output;
mod refusal_line;
mod setup;

pub(crate) use answer_line::AnswerLine;
#[cfg(test)]
pub(crate) use captured::{captured, captured_for_debugging};
pub(crate) use limiter::{FairLimiter, Limiter, Suppressed};
pub(crate) use refusal_line::RefusalLine;
pub(crate) use setup::{flush, level, start, start_writer, stay_in_foreground, switch_to_syslog};
