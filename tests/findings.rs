//! Decisions of a cluster where the facts are incomplete: a member that is silent, a host that is cut off,
//! a VM that has moved or ended. Each test is one rule, at one router or at a group of three.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "findings/ended_vms.rs"]
mod ended_vms;
#[path = "findings/group.rs"]
mod group;
#[path = "findings/lost_hosts.rs"]
mod lost_hosts;
#[path = "findings/moving_cut.rs"]
mod moving_cut;
#[path = "routing/node.rs"]
#[allow(dead_code, reason = "some of its methods are for tests/routing.rs alone")]
mod node;
#[path = "findings/outcome.rs"]
mod outcome;
#[path = "findings/searches.rs"]
mod searches;
#[path = "findings/silent_members.rs"]
mod silent_members;
