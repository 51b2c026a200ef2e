//! Starts the threads, watches them, and stops them in order.
//!
//! 1. A stop signal comes. The listeners take nothing new and answer what is in flight.
//! 2. After the grace, or at a second signal, what is unanswered fails.
//! 3. When all listeners have ended the worker is told to finish what it has, and ends.
//! 4. The cluster's group is left, the watchers and the keepers close their connections.
//!
//! A thread that ends without being told to ends the daemon: one that lost a
//! listener or the worker would look alive and fence nobody.

use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use log::{error, info, warn};

use crate::backend::{Keepers, Started};
use crate::cpg::GroupThread;
use crate::heartbeat::Pulse;
use crate::listener::{Listener, Mail};
use crate::reload::{Reloader, Targets};
use crate::systemd::Manager;
use crate::systemd::Notifier;
use crate::watch::Watchers;
use crate::worker::{self, Message};
use fence_virt::fence::ListenerName;
use fence_virt::sys::clock::monotonic_usec;
use fence_virt::sys::mailbox::{Address, Mailbox, mailbox};
use fence_virt::sys::poll::{Interest, PollSet};
use fence_virt::sys::signals::Signals;

/// How long requests in flight may take after a stop signal.
const GRACE: Duration = Duration::from_secs(5);
/// A signal that comes so soon after the first is the same one, sent to a process and its group.
const ECHO: Duration = Duration::from_millis(500);
/// How long the worker, the watchers and the keepers may take after that.
const CLOSING: Duration = Duration::from_secs(1);

/// A thread ended; posted when it does, whatever ended it.
struct Ended {
    thread: String,
    problem: Option<String>,
}

/// Posts that its thread ended, even if it panics.
struct Knell {
    thread: String,
    problem: Option<String>,
    main: Address<Ended>,
}

impl Drop for Knell {
    fn drop(&mut self) {
        let (thread, problem) = (std::mem::take(&mut self.thread), self.problem.take());
        if self.main.post(Ended { thread, problem }).is_err() {
            warn!("a thread outlived the main one");
        }
    }
}

/// All threads of the daemon.
pub(crate) struct Running {
    inbox: Sender<Message>,
    ends: Mailbox<Ended>,
    listeners: Vec<(Address<Mail>, ListenerName)>,
    threads: Vec<JoinHandle<()>>,
    pulse: Pulse,
    keepers: Keepers,
    group: Option<GroupThread>,
    watchers: Watchers,
}

impl Running {
    /// Starts them.
    ///
    /// # Errors
    ///
    /// If the system gives no thread or descriptor.
    pub(crate) fn start(
        listeners: Vec<Listener>,
        started: Started,
        watchers: Watchers,
        (inbox, messages): (Sender<Message>, Receiver<Message>),
    ) -> Result<Running, String> {
        let (main, ends) = mailbox().map_err(|error| format!("cannot make a mailbox: {error}"))?;
        let Started { mut backend, keepers, group, cluster: _ } = started;
        let pulse = Pulse::default();
        let of_worker = pulse.clone();
        let worker = spawn("worker", &main, move || {
            worker::run(backend.as_mut(), &messages, &of_worker);
            Ok(())
        })?;
        let (mut running, mut threads) = (Vec::new(), vec![worker]);
        for listener in listeners {
            let (address, outlet, name) = (listener.address(), inbox.clone(), listener.name().clone());
            running.push((address, name.clone()));
            let body = move || listener.run(outlet).map_err(|error| error.to_string());
            threads.push(spawn(name.as_str(), &main, body)?);
        }
        Ok(Running { inbox, ends, listeners: running, threads, pulse, keepers, group, watchers })
    }

    /// Whether the worker turns.
    pub(crate) fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Runs until a signal says stop, then stops everything. A signal to reload is
    /// obeyed meanwhile.
    ///
    /// # Errors
    ///
    /// If a thread ended by itself.
    pub(crate) fn until_stopped(
        mut self,
        signals: &Signals,
        notifier: &Notifier,
        mut manager: Manager<'_>,
        mut reloader: Reloader,
    ) -> Result<(), String> {
        let outcome = self.watch(signals, &mut manager, notifier, &mut reloader);
        notifier.send("STOPPING=1");
        self.tell(|| Mail::Stop);
        let mut missing = self.listeners.len();
        if outcome.is_err() {
            // Whichever thread it was, the requests it held are lost.
            missing -= 1;
            self.tell(|| Mail::Abort);
        }
        missing = self.await_ends(missing, Instant::now() + GRACE, Some(signals));
        if missing > 0 {
            warn!("the grace is over: what is still in flight has failed");
            self.tell(|| Mail::Abort);
            missing = self.await_ends(missing, Instant::now() + CLOSING, None);
        }
        // A full queue means that the worker hangs: then it is not waited for either.
        missing += 1;
        if self.inbox.try_send(Message::Stop).is_ok() {
            missing = self.await_ends(missing, Instant::now() + CLOSING, None);
        }
        let deadline = Instant::now() + CLOSING;
        if let Some(group) = self.group {
            group.stop(deadline);
        }
        self.watchers.stop(deadline);
        self.keepers.stop(deadline);
        if missing == 0 {
            self.threads.into_iter().for_each(join);
        } else {
            warn!("a call of libvirt does not return: ending without it");
        }
        info!("stopped");
        outcome
    }

    /// Waits for a stop signal, or for a thread that ends; obeys a signal to reload,
    /// and tells the service manager what is due.
    fn watch(
        &mut self,
        signals: &Signals,
        manager: &mut Manager<'_>,
        notifier: &Notifier,
        reloader: &mut Reloader,
    ) -> Result<(), String> {
        loop {
            manager.attend(Instant::now());
            // It may have come while the daemon was started.
            if signals.take_reload() {
                notifier.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_usec()));
                let outcome = self.reload(reloader);
                manager.reloaded(outcome.err().as_deref());
                continue;
            }
            self.wait(Some(signals), manager.deadline())?;
            if let Some(ended) = self.ends.take().next() {
                let problem = ended.problem.unwrap_or_else(|| "it panicked".to_owned());
                error!("the thread {} ended: {problem}", ended.thread);
                return Err("a thread was lost".to_owned());
            }
            if let Some(signal) = signals.next().map_err(|error| format!("cannot read signals: {error}"))? {
                info!("{signal}: finishing what is in flight");
                return Ok(());
            }
        }
    }

    fn reload(&mut self, reloader: &mut Reloader) -> Result<(), String> {
        let targets =
            Targets { listeners: &self.listeners, worker: &self.inbox, watchers: &mut self.watchers };
        let outcome = reloader.reload(targets);
        if let Err(reason) = &outcome {
            error!("SIGHUP: {reason}: nothing is changed");
        }
        outcome
    }

    /// Waits until `missing` threads have ended, the deadline passes, or
    /// another signal comes; gives how many are still missing.
    fn await_ends(&self, mut missing: usize, deadline: Instant, signals: Option<&Signals>) -> usize {
        let echo = Instant::now() + ECHO;
        loop {
            missing -= self.ends.take().count().min(missing);
            let again = signals.is_some_and(|signals| matches!(signals.next(), Ok(Some(_))))
                && Instant::now() >= echo;
            if missing == 0 || again || Instant::now() >= deadline {
                return missing;
            }
            if let Err(reason) = self.wait(signals, Some(deadline)) {
                error!("{reason}");
                return missing;
            }
        }
    }

    fn wait(&self, signals: Option<&Signals>, deadline: Option<Instant>) -> Result<(), String> {
        let mut set = PollSet::new();
        set.add(self.ends.as_fd(), Interest::Read);
        if let Some(signals) = signals {
            set.add(signals.as_fd(), Interest::Read);
        }
        let wait = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        set.wait(wait).map_err(|error| format!("cannot wait for signals: {error}"))
    }

    fn tell(&self, mail: impl Fn() -> Mail) {
        for (address, _) in &self.listeners {
            // One that ended already needs no telling.
            let _ = address.post(mail());
        }
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        error!("a thread panicked");
    }
}

fn spawn(
    name: &str,
    main: &Address<Ended>,
    body: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<JoinHandle<()>, String> {
    let mut knell = Knell { thread: name.to_owned(), problem: None, main: main.clone() };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let knell = &mut knell;
            knell.problem = Some(body().err().unwrap_or_else(|| "it had nothing to do".to_owned()));
        })
        .map_err(|error| format!("cannot start a thread: {error}"))
}
