//! Status in both versions of the protocol, in turns, by the agents' own state machine.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use fence_virt::auth::{HashKind, Key};
use fence_virt::fence::{Answer, Carrier, Endpoint, Operation, SignatureKind, Verdict};
use fence_virt::session::{AgentSession, ClientSession, Policy};
use fence_virt::wire::{Packet, Signature};

use crate::common::client::packet;
use crate::common::{Dir, Suite, key_bytes};
use crate::load::KEY;
use crate::running::Running;
use crate::stats::{Unit, median, percentile};
use crate::table::Table;

const ROUNDS: usize = 7;
/// Of each version: together below the limit of an address in 10 s.
const REQUESTS: usize = 1500;
const PORT: u16 = 1229;

/// Adds the figures of both versions; returns the ratio of version 2 to version 1, the median of the rounds.
pub(crate) fn versions(dir: &Dir, table: &mut Table) -> f64 {
    let kinds = [SignatureKind::Hash(HashKind::Sha256), SignatureKind::HmacSha256];
    let endpoint = Endpoint { carrier: Carrier::Tcp, port: PORT.into() };
    let policies =
        kinds.map(|kind| Arc::new(Policy::new(kind, HashKind::Sha256, Key::new(key_bytes(KEY)), endpoint)));
    let mut medians = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let daemon = Running::start(Suite::Ours, dir);
        let times = daemon.inside(|| in_turns(&policies));
        for (all, times) in medians.iter_mut().zip(&times) {
            all.push(percentile(times, 50));
        }
    }
    table.ours_only("status by version 1 (sha256), p50", Unit::Seconds, &medians[0]);
    table.ours_only("status by version 2 (hmac-sha256), p50", Unit::Seconds, &medians[1]);
    let ratios: Vec<f64> = medians[1].iter().zip(&medians[0]).map(|(new, old)| new / old).collect();
    table.ours_only("version 2 / version 1", Unit::Ratio, &ratios);
    median(&ratios)
}

/// Seconds of each request, by version.
fn in_turns(policies: &[Arc<Policy>; 2]) -> [Vec<f64>; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for at in 0..REQUESTS {
        for which in if at % 2 == 0 { [0, 1] } else { [1, 0] } {
            times[which].push(ask(&policies[which]));
        }
    }
    times
}

fn ask(policy: &Arc<Policy>) -> f64 {
    let signature = match policy.hash {
        SignatureKind::Hash(hash) => Signature::unsigned(hash),
        SignatureKind::HmacSha256 => Signature::without_mac(policy.key.id(), [7; 16]),
    };
    let packet = Packet { signature, ..packet(Operation::Status, "test", HashKind::Sha256) };
    let begin = Instant::now();
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut session = ClientSession::opening(policy.clone(), &packet, [0xA5; 64]);
    let mut buffer = [0; 512];
    loop {
        let sent = session.output().len();
        stream.write_all(session.output()).unwrap();
        session.sent(sent);
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "the daemon hung up");
        if let Some(answer) = session.receive(&mut &buffer[..count]).unwrap() {
            assert_eq!(answer, Answer::from(Verdict::Success));
            return begin.elapsed().as_secs_f64();
        }
    }
}
