//! Sends requests to a daemon one after the other, each over its own TCP
//! connection, and prints the time of each. For benches/cluster.sh.
//!
//! ```text
//! ask-often ADDRESS KEY-FILE OPERATION VM COUNT LIMIT
//! ```
//!
//! Output, one line per request: microseconds from connect to answer, or
//! `hung` for a request without an answer within LIMIT milliseconds, which is
//! the last; then `p50=.. p99=.. answers=..`. A wrong answer is a failure: off
//! and on must succeed; a status may be on or off, but always the same.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fence_virt::auth::HashKind;
use fence_virt::fence::{Answer, Endpoint, Operation, Request, Target, Verdict};
use fence_virt::session::{AgentSession, ClientSession, Policy};
use fence_virt::wire::{Packet, Signature};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("ask-often: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Outcome<()> {
    let [address, key, operation, vm, count, limit] = arguments else {
        return Err("usage: ask-often ADDRESS KEY-FILE OPERATION VM COUNT LIMIT".into());
    };
    let (key, _) = fence_virt::key_file::read(Path::new(key))?;
    let operation = Operation::ALL.into_iter().find(|known| known.to_string() == *operation);
    let client = Client {
        address: address.parse()?,
        policy: Arc::new(Policy::new(HashKind::Sha256, HashKind::Sha256, key, Endpoint::LINE)),
        operation: operation.ok_or("no such operation")?,
        vm: Target::new(vm.as_bytes()).map_err(|error| error.to_string())?,
        limit: Duration::from_millis(limit.parse()?),
    };
    let mut times = Vec::new();
    let mut seen = None;
    // Sequence numbers must not repeat, not even across runs: a duplicate is dropped.
    let first = u32::from_le_bytes(random()?);
    for at in 0..count.parse::<u32>()? {
        let begin = Instant::now();
        let Some(verdict) = client.ask(first.wrapping_add(at))? else {
            println!("hung");
            break;
        };
        let took = begin.elapsed().as_micros();
        let is_right = match client.operation {
            Operation::Status => matches!(verdict, Verdict::Success | Verdict::Off),
            _ => verdict == Verdict::Success,
        };
        if !is_right || *seen.get_or_insert(verdict) != verdict {
            return Err(format!("{verdict:?} is a wrong answer, after {} others", times.len()).into());
        }
        println!("{took}");
        times.push(took);
    }
    times.sort_unstable();
    if let Some(last) = times.len().checked_sub(1) {
        let p50 = times[last / 2];
        let p99 = times[last * 99 / 100];
        println!("p50={p50} p99={p99} answers={}", times.len());
    }
    Ok(())
}

fn random<const N: usize>() -> Outcome<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

struct Client {
    address: SocketAddr,
    policy: Arc<Policy>,
    operation: Operation,
    vm: Target,
    limit: Duration,
}

impl Client {
    /// Sends one request; none if no answer arrives in time.
    fn ask(&self, seqno: u32) -> Outcome<Option<Verdict>> {
        let packet = Packet {
            request: Request { operation: self.operation, target: self.vm.clone(), seqno },
            signature: Signature::unsigned(HashKind::Sha256),
            address_len: 0,
            flags: 0,
            address: [0; 28],
            port: 0,
            random: random()?,
            family: 0,
        };
        match self.exchange(&mut ClientSession::opening(self.policy.clone(), &packet, random()?)) {
            Ok(verdict) => Ok(Some(verdict)),
            // Either error means a timeout: see `TcpStream::set_read_timeout`.
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn exchange(&self, session: &mut ClientSession) -> io::Result<Verdict> {
        let mut stream = TcpStream::connect_timeout(&self.address, self.limit)?;
        stream.set_read_timeout(Some(self.limit))?;
        stream.set_nodelay(true)?;
        let mut buffer = [0; 256];
        loop {
            let count = stream.write(session.output())?;
            session.sent(count);
            if !session.output().is_empty() {
                continue;
            }
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Err(io::Error::other(format!("it hung up before {}", session.awaited())));
            }
            match session.receive(&mut &buffer[..count]) {
                Ok(Some(Answer::Verdict(verdict))) => return Ok(verdict),
                Ok(Some(_)) => return Err(io::Error::other("it answered with a list")),
                Ok(None) => {}
                Err(breach) => return Err(io::Error::other(breach.to_string())),
            }
        }
    }
}
