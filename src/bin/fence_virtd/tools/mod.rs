//! Programs beside the daemon: `--check`, `--doctor`, `--status` and `-c`.

pub(crate) mod check;
pub(crate) mod doctor;
pub(crate) mod setup;
pub(crate) mod status_client;
