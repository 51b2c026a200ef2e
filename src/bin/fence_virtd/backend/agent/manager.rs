use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use log::{info, trace, warn};

use super::host::AgentHost;
use super::link::{AgentCommand, AgentState};
use crate::inbox::{Event, Message};
use crate::libvirt::LibvirtResult;
use fence_virt::fence::UriIndex;
use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;

/// Thread that lists the VMs of an agent, and asks its monitor.
pub(super) struct AgentManager {
    pub(super) at: UriIndex,
    pub(super) host: Arc<AgentHost>,
    pub(super) state: Arc<Mutex<AgentState>>,
    pub(super) commands: Receiver<AgentCommand>,
    pub(super) worker: Sender<Message>,
    /// Told the outcome of the first monitor.
    pub(super) first: Option<Sender<(String, Result<(), String>)>>,
}

impl AgentManager {
    pub(super) fn run(mut self) {
        let outcome = self.note(self.host.monitor());
        if let Some(first) = self.first.take() {
            // The start may have given up waiting.
            let _ = first.send((self.host.place().to_owned(), outcome));
        }
        self.list();
        let mut due = Instant::now() + self.host.list_interval();
        loop {
            match self.commands.recv_timeout(due.remaining()) {
                Ok(AgentCommand::Monitor) => {
                    // An agent whose lists fail finds no VM, whatever its monitor says.
                    let list = || self.host.refresh(self.host.list_interval()).map(drop);
                    let outcome = self.note(self.host.monitor().and_then(|()| list()));
                    let event = Event::Probed { uri: self.at, outcome };
                    if self.worker.send(Message::Event(event)).is_err() {
                        trace!("{}: monitor dropped: the worker has ended", self.host.place());
                    }
                }
                Ok(AgentCommand::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.list();
                    due = Instant::now() + self.host.list_interval();
                }
            }
        }
    }

    fn list(&self) {
        if !self.host.makes_lists() {
            // Its monitor tells whether it works.
            return drop(self.note(self.host.monitor()));
        }
        let age = self.host.list_interval() / 2;
        match self.host.refresh(age) {
            Ok(_) => {
                let listed = self.host.listed();
                lock(&self.state).inventory = Some(listed);
                let _ = self.note(Ok(()));
            }
            Err(error) => drop(self.note(Err(error))),
        }
    }

    /// Records an answer or its absence, and logs a change.
    fn note(&self, outcome: LibvirtResult) -> Result<(), String> {
        let place = self.host.place();
        let outcome = outcome.map_err(|error| error.to_string());
        let mut state = lock(&self.state);
        if outcome.is_ok() {
            state.answered = Some(Instant::now());
        }
        let obstacle = outcome.as_ref().err().cloned();
        let before = std::mem::replace(&mut state.obstacle, obstacle.clone());
        drop(state);
        match (before, &obstacle) {
            (None, Some(reason)) => warn!("{place}: {reason}"),
            (Some(_), None) => info!("{place}: the agent works again"),
            _ => {}
        }
        outcome
    }
}
