use std::fs::{self, DirBuilder};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use log::{debug, warn};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;

use super::counts::Counts;
use super::render::{Form, render};
use super::snapshot::{ClusterState, ListenerState, Snapshot, UriState};
use crate::heartbeat::Pulse;
use crate::worker::{Message, QUEUE_MAX};

/// How long who asks may take in all, to say what and to take the answer: the
/// others wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest question, in bytes.
const QUESTION_MAX: u64 = 32;
/// How long the thread rests when the system has no descriptor for it.
const PAUSE: Duration = Duration::from_millis(250);

/// Where a report comes from.
pub(crate) struct Sources {
    /// Since when the daemon runs.
    pub(crate) started: Instant,
    /// What the listeners count.
    pub(crate) counts: Vec<Arc<Counts>>,
    /// The worker's queue.
    pub(crate) inbox: Sender<Message>,
    /// Whether the worker turns.
    pub(crate) pulse: Pulse,
    /// The states of the libvirt URIs.
    pub(crate) uris: Box<dyn Fn() -> Vec<UriState> + Send>,
    /// The cluster, with the backend cpg.
    pub(crate) cluster: Option<Arc<Mutex<ClusterState>>>,
}

impl Sources {
    fn snapshot(&self) -> Snapshot {
        let listener = |counts: &Arc<Counts>| ListenerState {
            name: counts.name().to_string(),
            open: counts.open(),
            requests: counts.requests(),
            refusals: counts.refusals(),
        };
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime: self.started.elapsed(),
            listeners: self.counts.iter().map(listener).collect(),
            queue: (self.inbox.len(), QUEUE_MAX),
            busy: self.pulse.busy(),
            is_worker_well: self.pulse.is_well(),
            uris: (self.uris)(),
            // Nothing panics while it holds the lock; what is in it is whole even so.
            cluster: self
                .cluster
                .as_ref()
                .map(|it| it.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        }
    }
}

/// The socket; it is taken away when this is dropped.
#[derive(Debug)]
pub(crate) struct StatusSocket(PathBuf);

impl StatusSocket {
    /// Makes the socket, and a thread that answers at it until the process ends.
    ///
    /// # Errors
    ///
    /// A sentence that says why there cannot be one.
    pub(crate) fn open(path: &Path, sources: Sources) -> Result<StatusSocket, String> {
        let listener = bind(path).map_err(|error| format!("no status at {}: {error}", path.display()))?;
        let socket = StatusSocket(path.to_owned());
        let body = move || {
            for connection in listener.incoming() {
                match connection.and_then(|stream| answer(stream, &sources)) {
                    Ok(()) => {}
                    // Who asked has gone, or has no descriptor left for us.
                    Err(error) => {
                        debug!("status: {error}");
                        thread::park_timeout(PAUSE);
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("status".into()).spawn(body);
        thread.map_err(|error| format!("no status: cannot start a thread: {error}"))?;
        Ok(socket)
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// A socket of a daemon that has died is replaced, one that answers is left alone.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        DirBuilder::new().mode(0o700).create(folder)?;
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something that is no socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            let message = "another daemon answers there: give each a status_socket of its own";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A connection until a moment after which nothing is read or written.
struct Bounded {
    stream: UnixStream,
    until: Instant,
}

impl Bounded {
    fn left(&self) -> io::Result<Option<Duration>> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::Error::new(io::ErrorKind::TimedOut, "who asks takes too long")),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Bounded {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn answer(stream: UnixStream, sources: &Sources) -> io::Result<()> {
    let uid = getsockopt(&stream, sockopt::PeerCredentials)?.uid();
    if uid != 0 && uid != geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the user id {uid} asks")));
    }
    let mut stream = Bounded { stream, until: Instant::now() + PATIENCE };
    let mut word = String::new();
    BufReader::new((&mut stream).take(QUESTION_MAX)).read_line(&mut word)?;
    let Some(form) = Form::of_word(word.trim_end()) else {
        return stream.write_all(b"unwell\nask for text, json or openmetrics\n");
    };
    let snapshot = sources.snapshot();
    let verdict = if snapshot.problems().is_empty() { "well\n" } else { "unwell\n" };
    stream.write_all((verdict.to_owned() + &render(&snapshot, form)).as_bytes())
}
