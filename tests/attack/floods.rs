//! Floods of connections, requests and datagrams.

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fence_virt::auth::Key;
use fence_virt::fence::Operation;
use fence_virt::wire::PACKET_LEN;

use crate::clients::{SHA, connect_from, exchange, key, multicast};
use crate::common::client::packet;
use crate::common::key_bytes;
use crate::common::multicast::GROUP;
use crate::common::net::{GUEST_V4, GUEST_V6, NamespacePair};
use crate::honest::pause;
use crate::host::guest;

/// Datagrams a second.
pub const DATAGRAMS: u32 = 5000;
/// Connections a second, of each flood.
pub const CONNECTIONS: u32 = 500;
/// Connections that a flood holds open: more than a listener has sessions.
const OPEN: usize = 600;

/// Gives the threads of a flood the rest of the processors: those who attack a host run on other machines.
fn use_the_rest() {
    let thread = fs::read_link("/proc/thread-self").unwrap();
    let thread = thread.file_name().unwrap();
    assert!(Command::new("renice").args(["-n", "19", "-p"]).arg(thread).output().unwrap().status.success());
}

/// Pace of a flood.
struct Pace {
    begin: Instant,
    rate: u32,
    count: u32,
}

impl Pace {
    fn new(rate: u32) -> Pace {
        use_the_rest();
        Pace { begin: Instant::now(), rate, count: 0 }
    }

    /// Waits until the next one is due, in steps of a few milliseconds.
    fn wait(&mut self) {
        self.count += 1;
        let ahead = (Duration::from_secs(1) * self.count / self.rate).saturating_sub(self.begin.elapsed());
        if ahead > Duration::from_millis(5) {
            pause(ahead);
        }
    }
}

/// What the clients of a flood do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// Some are silent, some stop inside their request or after it, some send garbage or a forged
    /// signature, and some have the key and ask.
    Mixed,
    /// All have the key and ask.
    Asking,
}

/// Connects again and again, from these sources.
pub fn flood_connections(
    over: &AtomicBool,
    sent: &AtomicU64,
    conduct: Conduct,
    to: SocketAddr,
    source: fn(u32) -> IpAddr,
) {
    let (key, other) = (key(), Key::new(key_bytes(b'x')));
    let mut open = VecDeque::new();
    let mut pace = Pace::new(CONNECTIONS);
    for at in 0.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        pace.wait();
        let Ok(mut stream) = connect_from(source(at), to) else { continue };
        sent.fetch_add(1, Ordering::Relaxed);
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let request = packet(Operation::On, "victim0", SHA);
        let signed = request.encode_signed(&key);
        let step = if conduct == Conduct::Asking { 5 } else { at % 6 };
        let bytes = match step {
            0 => Vec::new(),
            1 => signed[..88].to_vec(),
            2 => vec![at as u8; PACKET_LEN],
            3 => request.encode_signed(&other).to_vec(),
            _ => signed.to_vec(),
        };
        // The daemon may have closed it to make room.
        let is_sent = stream.write_all(&bytes).is_ok();
        if is_sent && step == 5 {
            if let Ok([_, issued]) = exchange(&mut stream, &[0xA5; 64]) {
                let _ = stream.write_all(key.expected(SHA, &issued).as_bytes());
            }
        }
        open.push_back(stream);
        if open.len() > OPEN {
            open.pop_front();
        }
    }
}

/// Sends datagrams: requests with a valid signature, which the daemon has to call back, and garbage.
pub fn flood_datagrams(over: &AtomicBool, sent: &AtomicU64) {
    let (key, other) = (key(), Key::new(key_bytes(b'x')));
    // Connections wait in its queue, and nobody speaks.
    let silent = TcpListener::bind((guest(67), 0)).unwrap();
    let callback = |at: usize| match at % 4 {
        0 => silent.local_addr().unwrap(),
        1 => SocketAddr::new(guest(67), 9),
        // The honest client's address.
        2 => SocketAddr::new(GUEST_V4.parse().unwrap(), 9),
        _ => SocketAddr::new(guest(100 + (at / 4 % 100) as u8), 9),
    };
    let request = |at: usize| multicast(Operation::On, "victim0", callback(at));
    let valid: Vec<_> = (0..4096).map(|at| request(at).encode_signed(&key)).collect();
    let forged: Vec<_> = (0..64).map(|at| request(at).encode_signed(&other)).collect();
    let garbage = |at: usize| vec![at as u8; at * 37 % 400];
    let socket = UdpSocket::bind((guest(67), 0)).unwrap();
    let mut pace = Pace::new(DATAGRAMS);
    for at in 0usize.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        pace.wait();
        let result = match at % 4 {
            0 => socket.send_to(&garbage(at), (GROUP, 1229)),
            1 => socket.send_to(&forged[at / 4 % forged.len()], (GROUP, 1229)),
            _ => socket.send_to(&valid[at / 2 % valid.len()], (GROUP, 1229)),
        };
        sent.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
    }
}

/// Lets the guests' namespace use every address of fd00:66::/64, and of fd00:2::1:0/112, which is
/// in the honest client's /64.
pub fn own_many_addresses(pair: &NamespacePair) {
    pair.guest.inside(|| fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").unwrap());
    for prefix in ["fd00:66::/64", "fd00:2::1:0/112"] {
        pair.guest.ip(&["-6", "route", "add", "local", prefix, "dev", "lo"]);
        pair.host.ip(&["-6", "route", "add", prefix, "via", GUEST_V6]);
    }
}

/// Address number `at` of fd00:66::/64.
pub fn elsewhere(at: u32) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0x66, 0, 0, 0, 0, (at >> 16) as u16, at as u16).into()
}

/// Address number `at` of the honest client's /64, never its own.
pub fn beside_the_honest(at: u32) -> IpAddr {
    Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 1, at as u16).into()
}
