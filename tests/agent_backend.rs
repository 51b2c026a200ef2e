//! The backend agent: a daemon that controls VMs by fence agents, most of them scripts that misbehave as told.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;
#[path = "agent_backend/fake.rs"]
#[allow(unreachable_pub)]
mod fake;
#[path = "agent_backend/floods.rs"]
mod floods;
#[path = "agent_backend/hangs.rs"]
mod hangs;
#[path = "agent_backend/lists.rs"]
mod lists;
#[path = "agent_backend/names.rs"]
mod names;
#[path = "agent_backend/operations.rs"]
mod operations;
#[path = "agent_backend/processes.rs"]
mod processes;
#[path = "agent_backend/restraints.rs"]
mod restraints;
#[path = "agent_backend/start.rs"]
mod start;
