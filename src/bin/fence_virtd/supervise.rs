//! Supervision of the threads: their start, their unexpected ends, the orderly stop.
//!
//! 1. A stop signal arrives. The listeners take no new requests and answer those in flight.
//! 2. After the grace period, or at a second signal, unanswered requests fail.
//! 3. Once all listeners have ended, the worker begins nothing more, and ends as soon as
//!    nobody waits for the calls in progress, at the latest when the grace period is over.
//! 4. The cpg thread leaves the group, the fencer thread ends; watchers and connection managers close their connections.
//!
//! A thread that ends unexpectedly ends the daemon: without a listener or the worker
//! it would look alive and fence nobody.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{debug, error, info, warn};

#[cfg(feature = "agent-backend")]
use crate::backend::agent::AgentThreads;
use crate::backend::libvirt::ConnectionManagers;
use crate::backends::StartedBackend;
use crate::cpg::CpgThreads;
use crate::heartbeat::Heartbeat;
use crate::hold_orders::HoldOrders;
use crate::inbox::Message;
use crate::listener::{Listener, ListenerHandle};
use crate::pauses::PauseMonitor;
use crate::reload::{Reloader, Targets};
use crate::status::{ClientOrder, LastReload, OrderKind};
use crate::systemd::{Notifier, ServiceManager};
use crate::watch::Watchers;
use crate::worker;
use fence_virt::sys::clock::monotonic_usec;
use fence_virt::sys::error_text;
use fence_virt::sys::mailbox::{Mailbox, MailboxSender, mailbox};
use fence_virt::sys::poll::{Interest, PollSet};
use fence_virt::sys::signals::Signals;
use fence_virt::time::Instant;

/// Time limit for requests in flight after a stop signal.
const GRACE: Duration = Duration::from_secs(5);
/// Interval after the first stop signal in which a second one is the same, sent to the
/// process and to its group.
const SIGNAL_DEBOUNCE: Duration = Duration::from_millis(500);
/// Time limit for the worker, the watchers and the connection managers after that.
const CLOSING: Duration = Duration::from_secs(1);

/// Report that a thread has ended.
struct ThreadExit {
    thread: String,
    /// Reason; none after a panic.
    problem: Option<String>,
}

/// Reports the end of its thread when dropped, also by a panic.
struct ExitGuard {
    exit: Option<ThreadExit>,
    main: MailboxSender<ThreadExit>,
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        if self.exit.take().is_some_and(|exit| self.main.post(exit).is_err()) {
            warn!("a thread outlived the main thread");
        }
    }
}

/// The daemon's threads.
pub(crate) struct Threads {
    inbox: Sender<Message>,
    exits: Mailbox<ThreadExit>,
    /// Orders of clients of the status socket.
    orders: (MailboxSender<ClientOrder>, Mailbox<ClientOrder>),
    listeners: Vec<ListenerHandle>,
    threads: Vec<JoinHandle<()>>,
    heartbeat: Heartbeat,
    /// Thread of the pause monitor, which ends when its sender is dropped.
    pauses: (Sender<()>, JoinHandle<()>),
    managers: ConnectionManagers,
    #[cfg(feature = "agent-backend")]
    agents: Option<AgentThreads>,
    cpg_threads: Option<CpgThreads>,
    watchers: Watchers,
    last_reload: LastReload,
}

impl Threads {
    /// Starts the worker and the listeners.
    /// Errors: if the system has no thread or descriptor left.
    pub(crate) fn start(
        listeners: Vec<Listener>,
        started: StartedBackend,
        watchers: Watchers,
        inbox: Sender<Message>,
        messages: Receiver<Message>,
    ) -> Result<Threads, String> {
        let no_mailbox = |error: io::Error| format!("cannot create a mailbox: {}", error_text(&error));
        let (main, exits) = mailbox().map_err(no_mailbox)?;
        let orders = mailbox().map_err(no_mailbox)?;
        let StartedBackend { mut backend, managers, cpg_threads, .. } = started;
        #[cfg(feature = "agent-backend")]
        let agents = started.agents;
        let heartbeat = Heartbeat::default();
        let of_worker = heartbeat.clone();
        let worker = spawn("worker", &main, move || {
            worker::run(backend.as_mut(), &messages, &of_worker);
            Ok(())
        })?;
        let monitor = PauseMonitor::default();
        // A pause before the thread's first note counts too.
        monitor.note(Instant::now());
        let (stop, stopped) = bounded(0);
        let of_thread = monitor.clone();
        let noting = spawn("pauses", &main, move || {
            of_thread.run(&stopped);
            Ok(())
        })?;
        let mut handles = Vec::new();
        let mut threads = vec![worker];
        for listener in listeners {
            let handle = listener.handle();
            let (jobs, monitor) = (inbox.clone(), monitor.clone());
            let body = move || listener.run(jobs, monitor).map_err(|error| error_text(&error));
            threads.push(spawn(handle.name().as_str(), &main, body)?);
            handles.push(handle);
        }
        Ok(Threads {
            inbox,
            exits,
            orders,
            listeners: handles,
            threads,
            heartbeat,
            pauses: (stop, noting),
            managers,
            #[cfg(feature = "agent-backend")]
            agents,
            cpg_threads,
            watchers,
            last_reload: LastReload::default(),
        })
    }

    /// Result of the last reload.
    pub(crate) fn last_reload(&self) -> LastReload {
        self.last_reload.clone()
    }

    /// Heartbeat of the worker.
    pub(crate) fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// Way of orders to the main thread.
    pub(crate) fn orders(&self) -> MailboxSender<ClientOrder> {
        self.orders.0.clone()
    }

    /// Runs until a stop signal arrives, then stops all threads. Obeys SIGHUP and the orders of clients meanwhile.
    /// Errors: if a thread ended unexpectedly.
    pub(crate) fn run_until_stopped(
        mut self,
        signals: &Signals,
        notifier: &Notifier,
        mut manager: ServiceManager<'_>,
        mut reloader: Reloader,
        mut holds: HoldOrders,
    ) -> Result<(), String> {
        let outcome = self.watch(signals, &mut manager, notifier, &mut reloader, &mut holds);
        notifier.send("STOPPING=1");
        self.listeners.iter().for_each(ListenerHandle::stop);
        let mut missing = self.listeners.len();
        if outcome.is_err() {
            // Whichever thread it was, its requests are lost.
            missing -= 1;
            self.listeners.iter().for_each(ListenerHandle::abort);
        }
        let grace_end = Instant::now() + GRACE;
        missing = self.await_ends(missing, grace_end, Some(signals));
        if missing > 0 {
            warn!("the grace period is over: requests still in flight have failed");
            self.listeners.iter().for_each(ListenerHandle::abort);
            missing = self.await_ends(missing, Instant::now() + CLOSING, None);
        }
        // A full inbox means that the worker hangs: do not wait for it then.
        missing += 1;
        if self.inbox.try_send(Message::Stop).is_ok() {
            // It finishes requests of other hosts, and the starts of VMs that were rebooted.
            let deadline = grace_end.max(Instant::now() + CLOSING);
            missing = self.await_ends(missing, deadline, Some(signals));
        }
        let deadline = Instant::now() + CLOSING;
        if let Some(threads) = self.cpg_threads {
            threads.stop(deadline);
        }
        self.watchers.stop(deadline);
        self.managers.stop(deadline);
        #[cfg(feature = "agent-backend")]
        if let Some(agents) = self.agents {
            agents.stop(deadline);
        }
        if missing == 0 {
            self.threads.into_iter().for_each(join);
        } else {
            warn!("a libvirt call does not return: ending without it");
        }
        let (stop, noting) = self.pauses;
        drop(stop);
        join(noting);
        info!("stopped");
        outcome
    }

    /// Waits for a stop signal or the end of a thread. Reloads meanwhile, and notifies the service manager.
    fn watch(
        &mut self,
        signals: &Signals,
        manager: &mut ServiceManager<'_>,
        notifier: &Notifier,
        reloader: &mut Reloader,
        holds: &mut HoldOrders,
    ) -> Result<(), String> {
        loop {
            manager.send_due(Instant::now());
            holds.end_due();
            let orders = self.orders.1.take().filter_map(|order| unless_other(order, reloader));
            // One reload serves all orders that are there. SIGHUP may have arrived during the start.
            let orders: Vec<ClientOrder> = orders.filter_map(|order| unless_hold(order, holds)).collect();
            if signals.take_reload() || !orders.is_empty() {
                notifier.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_usec()));
                let outcome = self.reload(reloader);
                manager.reloaded(outcome.as_ref().err().map(String::as_str));
                // After the service manager, which waits for the client.
                orders.into_iter().for_each(|order| answer(order, &outcome));
                continue;
            }
            self.wait(Some(signals), manager.deadline().into_iter().chain(holds.deadline()).min())?;
            if let Some(exit) = self.exits.take().next() {
                let problem = exit.problem.unwrap_or_else(|| "it panicked".to_owned());
                error!("the thread {} ended unexpectedly: {problem}", exit.thread);
                return Err("a thread ended unexpectedly".to_owned());
            }
            if let Some(signal) =
                signals.next().map_err(|error| format!("cannot read signals: {}", error_text(&error)))?
            {
                info!("{signal}: finishing requests in flight");
                return Ok(());
            }
        }
    }

    fn reload(&mut self, reloader: &mut Reloader) -> Result<String, String> {
        let targets =
            Targets { listeners: &self.listeners, worker: &self.inbox, watchers: &mut self.watchers };
        let outcome = reloader.reload(targets);
        self.last_reload.record(&outcome);
        if let Err(reason) = &outcome {
            error!("reload refused: {reason}: nothing has changed");
        }
        outcome
    }

    /// Waits until `missing` threads have ended, the deadline passes, or another stop
    /// signal arrives. Returns the number of threads still missing.
    fn await_ends(&self, mut missing: usize, deadline: Instant, signals: Option<&Signals>) -> usize {
        let debounced = Instant::now() + SIGNAL_DEBOUNCE;
        loop {
            missing -= self.exits.take().count().min(missing);
            let refusal = Err("the daemon is stopping".to_owned());
            self.orders.1.take().for_each(|order| answer(order, &refusal));
            let again = signals.is_some_and(|signals| matches!(signals.next(), Ok(Some(_))))
                && Instant::now() >= debounced;
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
        set.add(self.exits.as_fd(), Interest::Read);
        set.add(self.orders.1.as_fd(), Interest::Read);
        if let Some(signals) = signals {
            set.add(signals.as_fd(), Interest::Read);
        }
        let wait = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        set.wait(wait).map_err(|error| format!("cannot wait for signals: {}", error_text(&error)))
    }
}

/// Returns an order, unless it means another configuration: that is no order to this daemon.
fn unless_other(order: ClientOrder, reloader: &Reloader) -> Option<ClientOrder> {
    let Some(reason) = reloader.other_than(&order.path) else { return Some(order) };
    warn!("{}: {reason}", order.kind.option());
    answer(order, &Err(reason));
    None
}

/// Returns an order, unless it is about a hold: that is carried out and answered.
fn unless_hold(order: ClientOrder, holds: &mut HoldOrders) -> Option<ClientOrder> {
    let OrderKind::Hold(change) = order.kind.clone() else { return Some(order) };
    let outcome = holds.carry_out(change);
    if let Err(reason) = &outcome {
        warn!("{} refused: {reason}", order.kind.option());
    }
    answer(order, &outcome);
    None
}

fn answer(order: ClientOrder, outcome: &Result<String, String>) {
    let option = order.kind.option();
    if let Err(error) = order.answer(outcome) {
        debug!("cannot answer {option}: {}", error_text(&error));
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        error!("a thread panicked");
    }
}

fn spawn(
    name: &str,
    main: &MailboxSender<ThreadExit>,
    body: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<JoinHandle<()>, String> {
    let exit = ThreadExit { thread: name.to_owned(), problem: None };
    let mut guard = ExitGuard { exit: Some(exit), main: main.clone() };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let guard = &mut guard;
            let problem = body().err().unwrap_or_else(|| "it had nothing to do".to_owned());
            if let Some(exit) = &mut guard.exit {
                exit.problem = Some(problem);
            }
        })
        .map_err(|error| format!("cannot start a thread: {}", error_text(&error)))
}
