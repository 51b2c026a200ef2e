//! The thread of a lane, for a libvirt URI or another place of VMs.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use log::trace;

use super::shared_link::SharedLink;
use crate::inbox::{Event, Message};
use crate::libvirt::{Call, CallId, CallOutcome, Connection, Lane, LibvirtResult};
use fence_virt::fence::UriIndex;
use fence_virt::sys::error_text;
use fence_virt::time::Instant;

/// Size of a lane's stack, in bytes: libvirt's client library needs little.
const STACK: usize = 256 << 10;

/// A lane with its thread.
#[derive(Debug)]
pub(crate) struct LaneThread {
    calls: Sender<(CallId, Call)>,
}

impl LaneThread {
    /// Starts the thread of a libvirt URI.
    /// Errors: if the system has no thread left.
    pub(super) fn start(
        at: UriIndex,
        link: Arc<SharedLink>,
        worker: Sender<Message>,
    ) -> Result<LaneThread, String> {
        LaneThread::spawn(at, worker, move || {
            let is_shared = has_private_state(link.uri());
            let mut own = if is_shared { None } else { Connection::open(link.uri()).ok() };
            move |call: Call| match is_shared {
                true => match link.host(Instant::now()) {
                    Ok(connection) => call.execute(connection.as_ref()),
                    Err(error) => call.fail(error),
                },
                false => match usable(&mut own, link.uri()) {
                    Ok(connection) => call.execute(connection),
                    Err(error) => call.fail(error),
                },
            }
        })
    }

    /// Starts a thread that makes its calls with what `open` returns there.
    /// Errors: if the system has no thread left.
    pub(crate) fn spawn<F: FnMut(Call) -> CallOutcome>(
        at: UriIndex,
        worker: Sender<Message>,
        open: impl FnOnce() -> F + Send + 'static,
    ) -> Result<LaneThread, String> {
        let (calls, receiver) = bounded(1);
        thread::Builder::new()
            .name("lane".into())
            .stack_size(STACK)
            .spawn(move || run(at, open(), &receiver, &worker))
            .map_err(|error| format!("cannot start a thread for a call: {}", error_text(&error)))?;
        Ok(LaneThread { calls })
    }
}

impl Lane for LaneThread {
    fn make(&self, id: CallId, call: Call) {
        // The thread lives as long as the sender, and has room for one call.
        if self.calls.try_send((id, call)).is_err() {
            log::error!("a lane does not take a call");
        }
    }
}

fn run(
    at: UriIndex,
    mut execute: impl FnMut(Call) -> CallOutcome,
    calls: &Receiver<(CallId, Call)>,
    worker: &Sender<Message>,
) {
    for (id, call) in calls {
        let outcome = execute(call);
        if worker.send(Message::Event(Event::CallEnded { uri: at, call: id, outcome })).is_err() {
            trace!("outcome of a call dropped: the worker has ended");
        }
    }
}

/// True for libvirt's test driver inside this process: each of its connections may have
/// VMs of its own, so the lanes use that of the worker. It has no keepalive, which makes
/// two threads on one connection dangerous with libvirtd.
pub(crate) fn has_private_state(uri: &str) -> bool {
    uri.starts_with("test:")
}

/// Returns the connection, or opens a new one if it is closed.
fn usable<'a>(connection: &'a mut Option<Connection>, uri: &str) -> LibvirtResult<&'a Connection> {
    if connection.as_ref().is_some_and(|connection| connection.check().is_err()) {
        // Closed before the next is opened: libvirtd limits its clients.
        *connection = None;
    }
    match *connection {
        Some(ref open) => Ok(open),
        None => Ok(connection.insert(Connection::open(uri)?)),
    }
}
