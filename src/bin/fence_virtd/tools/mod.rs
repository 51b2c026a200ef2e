//! Programs beside the daemon: `--check`, `--doctor`, `--explain`, `--self-test`, `--status`, `--history`, orders,
//! `--add-key` and `-c`.
#![forbid(unsafe_code)]

pub(crate) mod check;
pub(crate) mod doctor;
pub(crate) mod explain;
mod finding;
pub(crate) mod self_test;
mod service_reply;
pub(crate) mod setup;
pub(crate) mod status_client;
