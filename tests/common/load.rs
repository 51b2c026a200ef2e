//! Requests over TCP to the daemon on the loopback, single or continuous.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fence_virt::auth::HashKind;
use fence_virt::fence::Operation;

use super::client::{Client, packet};
use super::{key_bytes, until};

/// Limit of a call into a frozen libvirtd: 8 s of keepalive, and a margin.
pub const KEEPALIVE: Duration = Duration::from_secs(12);

/// Sends a request and authenticates; the answer is pending.
pub fn begin(operation: Operation, vm: &str) -> io::Result<Client> {
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1229);
    let mut client = Client::connect(address, &key_bytes(b'k'), HashKind::Sha256, 2 * KEEPALIVE)?;
    client.send(&packet(operation, vm, HashKind::Sha256))?;
    client.authenticate()?;
    Ok(client)
}

pub fn ask(operation: Operation, vm: &str) -> io::Result<u8> {
    begin(operation, vm)?.verdict()
}

/// Completed request of a client of the load.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    pub client: usize,
    pub operation: Operation,
    pub vm: &'static str,
    pub began: Instant,
    pub took: Duration,
    pub verdict: Result<u8, String>,
}

/// Clients that send requests continuously until the load is stopped or dropped.
pub struct Load {
    asked: Arc<Mutex<Vec<LoadRequest>>>,
    clients: Vec<(Sender<()>, JoinHandle<()>)>,
}

/// Pause between the requests of a client.
const PACE: Duration = Duration::from_millis(5);

impl Load {
    /// Starts a client for each list of requests, which it repeats.
    pub fn start(clients: &[&'static [(Operation, &'static str)]]) -> Load {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let client = |(client, requests): (usize, &&'static [(Operation, &'static str)])| {
            let (asked, requests) = (asked.clone(), *requests);
            let (stop, stopped) = channel();
            let thread = thread::spawn(move || {
                for (operation, vm) in requests.iter().copied().cycle() {
                    let began = Instant::now();
                    let verdict = ask(operation, vm).map_err(|error| error.to_string());
                    let took = began.elapsed();
                    asked.lock().unwrap().push(LoadRequest { client, operation, vm, began, took, verdict });
                    if stopped.recv_timeout(PACE) != Err(RecvTimeoutError::Timeout) {
                        break;
                    }
                }
            });
            (stop, thread)
        };
        let clients = clients.iter().enumerate().map(client).collect();
        let load = Load { asked, clients };
        load.await_answers(10);
        load
    }

    /// Waits until each client has `count` answers to requests sent from now on.
    pub fn await_answers(&self, count: usize) {
        let now = Instant::now();
        until("every client gets answers", KEEPALIVE, || {
            let asked = self.asked.lock().unwrap();
            (0..self.clients.len()).all(|at| {
                asked.iter().filter(|asked| asked.client == at && asked.began > now).count() >= count
            })
        });
    }

    /// Time of the first failure that was answered after `then`. What was under way then may still succeed.
    pub fn first_failure_after(&self, then: Instant) -> Option<Instant> {
        let asked = self.asked.lock().unwrap();
        let failed = asked.iter().filter(|asked| asked.verdict == Ok(1));
        failed.map(|asked| asked.began + asked.took).filter(|at| *at > then).min()
    }

    /// Stops the clients and returns all requests.
    pub fn stop(mut self) -> Vec<LoadRequest> {
        let clients = std::mem::take(&mut self.clients);
        let (stops, threads): (Vec<_>, Vec<_>) = clients.into_iter().unzip();
        drop(stops);
        for thread in threads {
            thread.join().unwrap();
        }
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}
