//! The status socket and its thread.

use std::fs::{self, DirBuilder};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use log::{debug, warn};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;

use super::client_order::{ClientOrder, OrderKind};
use super::history;
use super::judgement::Judgement;
use super::query::{HISTORY, Query, UNWELL, WELL, reply_head};
use super::render::render;
use super::sources::Sources;
use fence_virt::sys::error_text;
use fence_virt::time::Instant;

/// Time limit of one client, query and reply together: other clients wait meanwhile.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum length of a query, in bytes: two words and the name of a VM, or a word and a path.
const QUERY_MAX: u64 = 8192;
/// Pause after an error, such as a lack of file descriptors.
const ERROR_PAUSE: Duration = Duration::from_millis(250);

/// The socket; dropping it removes the file.
#[derive(Debug)]
pub(crate) struct StatusSocket(PathBuf);

impl StatusSocket {
    /// Creates the socket, and a thread that serves it until the process ends.
    /// Errors: a sentence if the socket or the thread cannot be created.
    pub(crate) fn open(path: &Path, sources: Sources) -> Result<StatusSocket, String> {
        let listener = bind(path).map_err(|error| {
            format!("cannot open the status socket {}: {}", path.display(), error_text(&error))
        })?;
        let socket = StatusSocket(path.to_owned());
        let body = move || {
            for connection in listener.incoming() {
                // The client is gone, or no file descriptor is left.
                if let Err(error) = connection.and_then(|stream| serve(stream, &sources)) {
                    debug!("status: {}", error_text(&error));
                    thread::park_timeout(ERROR_PAUSE);
                }
            }
        };
        let thread = thread::Builder::new().name("status".into()).spawn(body);
        thread.map_err(|error| format!("cannot start the status thread: {}", error_text(&error)))?;
        Ok(socket)
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            warn!("cannot remove {}: {}", self.0.display(), error_text(&error));
        }
    }
}

/// Binds the socket. A stale one, of a dead daemon, is replaced; one in use is left alone.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        DirBuilder::new().mode(0o700).create(directory)?;
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is not a socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            let message = "another daemon uses it: give each daemon its own status_socket";
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

/// Connection with a deadline for all reads and writes.
struct DeadlineStream {
    stream: UnixStream,
    deadline: Instant,
}

impl DeadlineStream {
    fn left(&self) -> io::Result<Option<Duration>> {
        match self.deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::Error::new(io::ErrorKind::TimedOut, "the client is too slow")),
            left => Ok(Some(left)),
        }
    }
}

impl Read for DeadlineStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for DeadlineStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn serve(stream: UnixStream, sources: &Sources) -> io::Result<()> {
    let uid = getsockopt(&stream, sockopt::PeerCredentials)?.uid();
    if uid != 0 && uid != geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user id {uid} is not allowed")));
    }
    let mut stream = DeadlineStream { stream, deadline: Instant::now() + CLIENT_TIMEOUT };
    let mut line = String::new();
    BufReader::new((&mut stream).take(QUERY_MAX)).read_line(&mut line)?;
    let reply = match Query::parse(&line) {
        Some(Query::Status(form)) => {
            let snapshot = sources.snapshot(form);
            let judgement = Judgement::of(&snapshot);
            let state = if judgement.is_well() { WELL } else { UNWELL };
            format!("{}\n{}", reply_head(state, &sources.config), render(&snapshot, &judgement, form))
        }
        Some(Query::History { form, vm }) => {
            let records = sources.journal.records();
            format!(
                "{}\n{}",
                reply_head(HISTORY, &sources.config),
                history::render(&records, form, vm.as_deref())
            )
        }
        Some(Query::Reload(path)) => return order(path, OrderKind::Reload, stream, sources),
        Some(Query::Hold { change, config }) => {
            return order(config, OrderKind::Hold(change), stream, sources);
        }
        None => format!("{UNWELL}\nunknown query: use a fence_virtd of the same version\n"),
    };
    stream.write_all(reply.as_bytes())
}

/// Passes an order to the main thread, which answers it.
fn order(path: PathBuf, kind: OrderKind, client: DeadlineStream, sources: &Sources) -> io::Result<()> {
    let order = ClientOrder { path, kind, client: client.stream };
    sources.orders.post(order).map_err(|_| io::Error::other("the daemon is stopping"))
}
