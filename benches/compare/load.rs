//! Sequential requests, each over its own connection.

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use fence_virt::auth::HashKind;
use fence_virt::fence::Operation;
use fence_virt::wire::Packet;

use crate::common::client::{Client, packet};
use crate::common::key_bytes;
use crate::stats::percentile;

/// Bytes of the key.
pub(crate) const KEY: u8 = b'k';
static KEY_BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| key_bytes(KEY));
const PORT: u16 = 1229;
const LIMIT: Duration = Duration::from_secs(30);
/// Requests before the measurement.
const WARM_UP: usize = 100;

pub(crate) fn connect(limit: Duration) -> io::Result<Client> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    Client::connect(address, &KEY_BYTES, HashKind::Sha256, limit)
}

/// Status request; each has its own sequence number, so that none is a duplicate.
pub(crate) fn status() -> Packet {
    request(Operation::Status)
}

fn request(operation: Operation) -> Packet {
    packet(operation, "test", HashKind::Sha256)
}

/// Measures a status; none if the daemon sends nothing for `limit`.
pub(crate) fn ask_within(limit: Duration) -> Option<Duration> {
    let begin = Instant::now();
    match connect(limit).and_then(|mut client| client.ask(&status())) {
        Ok(verdict) => assert_eq!(verdict, 0, "the answer to a status"),
        // Either error means a timeout: see `TcpStream::set_read_timeout`.
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => return None,
        Err(error) => panic!("a status got no answer: {error}"),
    }
    Some(begin.elapsed())
}

/// Times of a sequence of requests.
pub(crate) struct Load {
    /// Seconds of each, from connect to the byte of the answer.
    pub(crate) times: Vec<f64>,
    total: Duration,
}

impl Load {
    pub(crate) fn run(operation: Operation, count: usize) -> Load {
        let is_warmed_up = operation == Operation::Status;
        for _ in 0..if is_warmed_up { WARM_UP } else { 0 } {
            ask(operation);
        }
        let begin = Instant::now();
        let times = (0..count).map(|_| ask(operation).as_secs_f64()).collect();
        Load { times, total: begin.elapsed() }
    }

    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        percentile(&self.times, percent)
    }

    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.times.len() as f64 / self.total.as_secs_f64()
    }
}

fn ask(operation: Operation) -> Duration {
    let packet = request(operation);
    let begin = Instant::now();
    let verdict = connect(LIMIT).and_then(|mut client| client.ask(&packet));
    let took = begin.elapsed();
    assert_eq!(verdict.unwrap(), 0, "the answer to {operation:?}");
    took
}

/// Clients that connect and then stall.
pub(crate) struct Stalled(Vec<Client>);

impl Stalled {
    /// Connects clients that send nothing, and clients that stop after their signed request.
    pub(crate) fn new(silent: usize, requested: usize) -> Stalled {
        let mut clients: Vec<Client> = (0..silent + requested).map(|_| connect(LIMIT).unwrap()).collect();
        for client in &mut clients[silent..] {
            client.send(&status()).unwrap();
        }
        Stalled(clients)
    }

    /// Checks that they stalled the daemon to the end.
    pub(crate) fn assert_still_open(mut self) {
        for client in &mut self.0 {
            client.stream.set_nonblocking(true).unwrap();
            let kind = client.stream.read(&mut [0]).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::WouldBlock, "a stalled client was closed too early");
        }
    }
}
