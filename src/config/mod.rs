//! The configuration file: the language of fence_virt.conf(5), the table of
//! the keys it knows, and the typed [`Config`] that comes out.
//!
//! [`parse()`] takes the bytes of a file and never touches the disk. The bytes
//! go through four stations, a file each: tokens (`lexer`), a tree without
//! meaning (`tree`), keys matched with the table (`schema`, `fields`), typed
//! values (`values`, `build`). All of them tell their findings to one
//! `Report`, so that one run finds every mistake.
//!
//! [`Editable`] goes the other way: it changes single values in the text of a
//! file (`edit`, `layout`).
#![forbid(unsafe_code)]

mod backend;
mod build;
mod diagnostic;
mod diagnostic_sink;
mod display;
mod edit;
mod fields;
mod layout;
mod lexer;
mod listener;
mod listener_selection;
mod model;
mod nearest;
mod parse;
mod schema;
mod tree;
mod values;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use edit::{Editable, Part, listener_names};
pub use model::{
    AuthConfig, BackendConfig, Config, CpgConfig, GroupConfig, ListenerConfig, MulticastConfig, NameMode,
    NamedListener, SerialConfig, SerialMode, TcpConfig, UnknownVm, VsockConfig,
};
pub use parse::{FILE_MAX, Outcome, parse, status_socket};
pub use schema::{Count, KEYS, KeySpec, ValueKind};
