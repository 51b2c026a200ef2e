//! Programs of their own beside the daemon: `--doctor`, `--status` and `-c`.

pub(crate) mod doctor;
pub(crate) mod setup;
pub(crate) mod status_client;
