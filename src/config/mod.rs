//! Configuration file: the language of fence_virt.conf(5), the table of its keys, and the typed [`Config`].
//!
//! [`parse()`] takes the bytes of a file and never accesses the disk. It has four stages: tokens (`lexer`),
//! an untyped tree (`tree`), keys matched with the table (`schema`, `fields`), typed values (`values`,
//! `build`). All stages report to one `DiagnosticSink`, so that one run finds every mistake.
//!
//! [`Editable`] edits single values in the text of a file (`edit`, `layout`).
#![forbid(unsafe_code)]

mod agent_config;
mod agents;
mod backend;
mod build;
mod diagnostic;
mod diagnostic_sink;
mod display;
mod edit;
mod fields;
mod group_ips;
mod group_placement;
mod group_rights;
mod key_placement;
mod layout;
mod lexer;
mod listener;
mod listener_selection;
mod model;
mod obsolete;
mod parse;
mod schema;
mod tree;
mod values;
mod vm_key_config;
mod vm_keys;

pub use agent_config::{AGENT_PARALLEL_MAX, AgentConfig};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use edit::{Editable, Part, listener_names};
pub use model::{
    AuthConfig, BackendConfig, Config, CpgConfig, DEFAULT_PARALLEL, GroupConfig, HostFencing, ListenerConfig,
    MAX_PARALLEL, MulticastConfig, NameMode, NamedListener, SerialConfig, SerialMode, TcpConfig, UnknownVm,
    VsockConfig,
};
pub use parse::{FILE_MAX, ParseOutcome, parse, status_socket};
pub use schema::{Count, KEYS, KeySpec, ValueKind};
pub use vm_key_config::{VmKeyConfig, VmKeysConfig, vm_key_name};
