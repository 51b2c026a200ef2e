//! What a fence agent of another project reads and writes: its options on stdin, its metadata, its lists, its exit
//! codes. Source: the Fence Agent API of ClusterLabs
//! (<https://github.com/ClusterLabs/fence-agents/blob/main/doc/FenceAgentAPI.md>) and fencing.py of fence-agents 4.12,
//! by which most agents read and write.
#![forbid(unsafe_code)]

mod input;
mod list;
mod metadata;
mod names;
mod secrets;

pub use input::{AgentOption, ApiAction, agent_input};
pub use list::{AgentVm, LIST_MAX, parse_list};
pub use metadata::{AgentMetadata, METADATA_MAX, MetadataError};
pub use names::{place_uuid, plug_problem};
pub use secrets::Secrets;
