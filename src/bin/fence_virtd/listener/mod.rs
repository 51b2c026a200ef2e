//! Listeners: each has one thread, one poll(2) loop and many connections.
//!
//! | step | module |
//! | --- | --- |
//! | bind the sockets, run the thread | `bind` |
//! | wait for descriptors, mail and deadlines | `event_loop`, over `service` |
//! | accept, or read a datagram | `stream_acceptor` with `tcp` and `vsock`, `multicast` |
//! | check datagrams, call back | `call_backs`, `call_back` |
//! | read bytes, run the sessions of clients | `sessions`, `session_ends` |
//! | the same for the serial lines of VMs | `serial_lines` |
//! | signs of life of clients, for the worker | `life_questions`, `liveness` |
//! | duplicates, limits, the job for the worker, the answer | `dispatcher` |
//! | log lines, with those of probes | `request_log`, `probe_rows` |
//! | networks of this host, by which addresses are counted | `prefixes`, `interfaces` |
//! | control by other threads | `handle` |
//!
//! The serial listener has no acceptor: a watcher sends it connected lines.
#![forbid(unsafe_code)]

mod bind;
mod call_back;
mod call_backs;
mod dispatcher;
mod event_loop;
mod handle;
mod interfaces;
mod life_questions;
mod liveness;
mod multicast;
mod prefixes;
mod probe_rows;
mod request_log;
mod serial_lines;
mod service;
mod session_ends;
mod sessions;
mod stream;
mod stream_acceptor;
mod tcp;
mod vsock;

pub(crate) use bind::{Listener, bind};
pub(crate) use handle::ListenerHandle;
pub(crate) use interfaces::{address_obstacle, snooping_warning};
pub(crate) use prefixes::follow_prefixes;
