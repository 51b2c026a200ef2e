use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use log::trace;

use super::host::AgentHost;
use crate::inbox::{Event, Message};
use crate::libvirt::{Call, CallId, Lane};
use fence_virt::fence::UriIndex;
use fence_virt::sys::error_text;

/// Size of a lane's stack, in bytes: it starts a program and waits.
const STACK: usize = 256 << 10;

/// Thread that makes the calls of an agent, one at a time.
#[derive(Debug)]
pub(crate) struct AgentLane {
    calls: Sender<(CallId, Call)>,
}

impl AgentLane {
    /// Starts the thread.
    /// Errors: if the system has no thread left.
    pub(super) fn start(
        at: UriIndex,
        host: Arc<AgentHost>,
        worker: Sender<Message>,
    ) -> Result<AgentLane, String> {
        let (calls, receiver) = bounded(1);
        thread::Builder::new()
            .name("agent-lane".into())
            .stack_size(STACK)
            .spawn(move || run(at, &host, &receiver, &worker))
            .map_err(|error| format!("cannot start a thread for a fence agent: {}", error_text(&error)))?;
        Ok(AgentLane { calls })
    }
}

impl Lane for AgentLane {
    fn make(&self, id: CallId, call: Call) {
        // The thread lives as long as the sender, and has room for one call.
        if self.calls.try_send((id, call)).is_err() {
            log::error!("a lane does not take a call");
        }
    }
}

fn run(at: UriIndex, host: &AgentHost, calls: &Receiver<(CallId, Call)>, worker: &Sender<Message>) {
    for (id, call) in calls {
        let outcome = call.execute(host);
        if worker.send(Message::Event(Event::CallEnded { uri: at, call: id, outcome })).is_err() {
            trace!("{}: outcome of a call dropped: the worker has ended", host.place());
        }
    }
}
