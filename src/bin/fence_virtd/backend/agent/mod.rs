//! Fence agents of other projects as places of VMs, beside libvirt URIs.
//!
//! | module | content |
//! | --- | --- |
//! | [`program`] | the agent's program, its password and its metadata, checked before use |
//! | [`calls`] | calls of an agent, and what their ends mean |
//! | [`listed_vms`], [`list_turns`] | its VMs, by the last list; one list at a time |
//! | [`host`] | an agent as a host of VMs, for calls on lanes; what the worker knows of it without a call |
//! | [`link`], [`manager`] | access to an agent; the thread that lists its VMs |
//! | [`place`] | a place of VMs: libvirt URI or agent |
//! | [`mod@start`] | start of the threads |
//! | [`inquiry`] | questions of the tools to an agent, without these threads |

mod calls;
mod host;
mod inquiry;
mod link;
mod list_turns;
mod listed_vms;
mod manager;
mod place;
mod program;
mod start;

pub(crate) use inquiry::{AgentAnswers, AgentVms, ask, ask_vms, inquiry_limit};
pub(crate) use program::check_files;
pub(crate) use start::{AgentThreads, start};
