//! Record that pacemaker's fencer (pacemaker-fenced) keeps of the fences of hosts, through libstonithd.
//!
//! The library is opened at run time, so that neither build nor installation needs pacemaker. Only those
//! parts of its public header (crm/stonith-ng.h) are used that all versions with one soname share, and only
//! where pointers have 64 bits: elsewhere the size of a time in the middle of a structure varies.
//!
//! Events are never read: stonith_dispatch of pacemaker 2.1 loops for ever when the connection is lost. An
//! event makes the descriptor of its connection readable, which is enough: a connection is for one kind of
//! event, and another connection takes its place afterwards.
//!
//! All calls on a [`FencerHandle`] must come from the thread that made it. They block while the fencer is
//! frozen, queries for about a minute.

mod error;
mod handle;
mod library;
mod record;

pub use error::FencerError;
pub use handle::{FencerEvent, FencerHandle};
pub use library::{FencerLibrary, LibraryError};
pub use record::{FencingRecord, FencingState};
