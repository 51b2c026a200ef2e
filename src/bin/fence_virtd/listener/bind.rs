//! Binding of a listener's sockets, and the listener until its thread runs it.

use std::hash::Hash;
use std::io;
use std::sync::Arc;

use super::dispatcher::{Dispatcher, JobSender};
use super::event_loop::EventLoop;
use super::handle::{ListenerHandle, ListenerMailbox};
use super::multicast::MulticastAcceptor;
use super::serial_lines::SerialLines;
use super::service::{Acceptor, Service, ServiceMail};
use super::sessions::Sessions;
use super::stream_acceptor::StreamAcceptor;
use super::tcp::TcpSocket;
use super::vsock::VsockSocket;
use crate::pauses::PauseMonitor;
use crate::power_journal::PowerJournal;
use crate::status::{Counts, KeysInForce, ListenerSource, ListeningPlace, Reception};
use fence_virt::config::{ListenerConfig, NamedListener};
use fence_virt::session::Policy;
use fence_virt::sys::error_text;
use fence_virt::sys::mailbox::{MailboxSender, mailbox};
use fence_virt::time::Instant;

/// A bound listener, ready to be run by its thread.
pub(crate) struct Listener {
    source: ListenerSource,
    mailbox: ListenerMailbox,
    run: Box<dyn FnOnce(JobSender, PauseMonitor) -> io::Result<()> + Send>,
}

/// Binds the sockets of a listener. With `wait`, a missing address or interface
/// is no error: the listener's thread waits for it.
/// Errors: a sentence with the listener's name, the socket address and the cause.
pub(crate) fn bind(
    listener: &NamedListener,
    policy: Option<Arc<Policy>>,
    sessions_max: usize,
    wait: bool,
    journal: &PowerJournal,
) -> Result<Listener, String> {
    let NamedListener { name, config } = listener;
    let directory = match config {
        ListenerConfig::Serial(serial) => serial.path.clone(),
        _ => None,
    };
    let source = ListenerSource {
        place: ListeningPlace::from(config),
        reception: Reception::new(directory),
        keys: KeysInForce::default(),
        counts: Arc::new(Counts::new(name.clone(), journal.clone())),
    };
    let reception = &source.reception;
    let acceptor: Box<dyn Acceptor<Sessions>> = match config {
        ListenerConfig::Tcp(tcp) => {
            Box::new(StreamAcceptor::new(TcpSocket::bind(name, tcp, wait, reception)?))
        }
        ListenerConfig::Vsock(vsock) => {
            Box::new(StreamAcceptor::new(VsockSocket::bind(name, vsock, reception)?))
        }
        ListenerConfig::Multicast(group) => Box::new(MulticastAcceptor::bind(name, group, wait, reception)?),
        // The sockets are those of the VMs; a watcher connects to them.
        ListenerConfig::Serial(_) => {
            return Listener::new(source, None, ListenerMailbox::Serial, SerialLines::new);
        }
    };
    let policy = policy.ok_or_else(|| format!("{name}: no authentication policy"))?;
    source.keys.set(&policy);
    let serve = move |dispatcher| Sessions::new(policy, sessions_max, dispatcher);
    Listener::new(source, Some(acceptor), ListenerMailbox::Sessions, serve)
}

impl Listener {
    /// Makes a listener whose thread runs the service that `serve` makes.
    fn new<S>(
        source: ListenerSource,
        acceptor: Option<Box<dyn Acceptor<S>>>,
        kind: fn(MailboxSender<ServiceMail<S>>) -> ListenerMailbox,
        serve: impl FnOnce(Dispatcher<S::Id, S::Update>) -> S + Send + 'static,
    ) -> Result<Listener, String>
    where
        S: Service<Id: Eq + Hash + Send + Sync, Update: Send> + 'static,
    {
        let loop_counts = source.counts.clone();
        let (sender, mailbox) =
            mailbox().map_err(|error| format!("{}: {}", loop_counts.name(), error_text(&error)))?;
        let answers = sender.clone();
        // Clients may connect and write from now on, long before the thread runs.
        let bound = Instant::now();
        let run = move |jobs, pauses: PauseMonitor| {
            let service = serve(Dispatcher::new(loop_counts.clone(), jobs, answers));
            EventLoop::new(loop_counts, acceptor, service, mailbox, pauses.reader(bound)).run()
        };
        Ok(Listener { source, mailbox: kind(sender), run: Box::new(run) })
    }

    /// Counters for the service manager.
    pub(crate) fn counts(&self) -> Arc<Counts> {
        self.source.counts.clone()
    }

    /// Source of its state for the status report.
    pub(crate) fn source(&self) -> ListenerSource {
        self.source.clone()
    }

    /// Handle for other threads.
    pub(crate) fn handle(&self) -> ListenerHandle {
        let ListenerSource { counts, reception, keys, .. } = self.source();
        let mailbox = self.mailbox.clone();
        ListenerHandle { name: counts.name().clone(), mailbox, keys, reception }
    }

    /// Sends authenticated requests to `jobs`; returns after a stop, once all are answered.
    /// Errors: error of poll(2), without which no listener works.
    pub(crate) fn run(self, jobs: JobSender, pauses: PauseMonitor) -> io::Result<()> {
        (self.run)(jobs, pauses)
    }
}
