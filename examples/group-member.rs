//! Member of the daemons' group, for tests: prints all messages of the group and
//! sends any message on command.
//!
//! Commands on stdin, one per line:
//!
//! ```text
//! request OPERATION NAME NUMBER [TARGET]      TARGET: all nodes
//! reply TARGET NUMBER RESPONSE NAME OPERATION
//! store NAME UUID STATE [OWNER]               STATE: 1 running, 5 off; OWNER: this node
//! gone NAME UUID [OWNER]
//! hello|complete                              extended peer; inventory complete
//! raw HEX
//! flood COUNT HEX                             repeats one message
//! random COUNT SEED                           random messages of random lengths
//! quit
//! ```
//!
//! Output, one line per event: `joined as ID`, `config members=.. left=.. joined=..`,
//! `quorum yes|no nodes=..`, `from ID request ..` and so on; at the end
//! `total messages=N bytes=N` of all received messages.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, Write, stdin, stdout};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use fence_virt::fence::{Domain, Operation, PowerState, Uuid};
use fence_virt::sys::corosync::{ClusterEvent, GroupHandle, LeftMember, Libraries};
use fence_virt::sys::poll::{Interest, PollSet};
use fence_virt::wire::cluster::{
    Advertisement, ClusterCall, ClusterMessage, EVERY_NODE, GROUP, NodeId, RequestNumber,
};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    // libcpg may need more stack than the main thread has.
    let thread = std::thread::Builder::new()
        .stack_size(fence_virt::sys::corosync::STACK_SIZE)
        .spawn(|| run().map_err(|error| error.to_string()));
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        Ok(Ok(Err(reason))) => {
            eprintln!("group-member: {reason}");
            ExitCode::FAILURE
        }
        _ => ExitCode::FAILURE,
    }
}

fn run() -> Outcome<()> {
    let mut member = GroupHandle::join(&Libraries::open()?, GROUP)?;
    say(&format!("joined as {}", member.node()))?;
    let mut input = stdin();
    let mut rest = String::new();
    let mut total = (0, 0);
    loop {
        let mut set = PollSet::new();
        let commands = set.add(input.as_fd(), Interest::Read);
        for fd in member.fds() {
            set.add(fd, Interest::Read);
        }
        set.wait(Some(Duration::from_secs(1)))?;
        let is_told = set.ready(commands).any();
        listen(&mut member, &mut total)?;
        if !is_told {
            continue;
        }
        let mut buffer = [0; 65536];
        let count = io::Read::read(&mut input, &mut buffer)?;
        rest.push_str(&String::from_utf8_lossy(&buffer[..count]));
        while let Some((line, tail)) = rest.split_once('\n') {
            let line = line.to_owned();
            rest = tail.to_owned();
            if line == "quit" {
                return finish(total);
            }
            obey(&line, &mut member, &mut total)?;
        }
        if count == 0 {
            return finish(total);
        }
    }
}

fn finish((messages, bytes): (usize, usize)) -> Outcome<()> {
    say(&format!("total messages={messages} bytes={bytes}"))
}

fn say(line: &str) -> Outcome<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn listen(member: &mut GroupHandle, total: &mut (usize, usize)) -> Outcome<()> {
    let mut heard = Vec::new();
    member.dispatch(10_000, &mut heard)?;
    for item in heard {
        match item {
            ClusterEvent::Message { node, bytes, length, .. } => {
                *total = (total.0 + 1, total.1 + length);
                say(&format!("from {node} {}", describe(&bytes, length)))?;
            }
            ClusterEvent::Changed(change) => {
                let ids = |list: &[(u32, u32)]| {
                    list.iter().map(|(node, _)| node.to_string()).collect::<Vec<_>>().join(",")
                };
                let left = |left: &LeftMember| format!("{}({:?})", left.node, left.reason);
                let left: Vec<String> = change.left.iter().map(left).collect();
                let members = ids(&change.members);
                let joined = ids(&change.joined);
                say(&format!("config members={members} left={} joined={joined}", left.join(",")))?;
            }
            ClusterEvent::Quorum { is_quorate, nodes } => {
                let nodes: Vec<String> = nodes.iter().map(u32::to_string).collect();
                let quorate = if is_quorate { "yes" } else { "no" };
                say(&format!("quorum {quorate} nodes={}", nodes.join(",")))?;
            }
        }
    }
    Ok(())
}

fn describe(bytes: &[u8], length: usize) -> String {
    let told = |told: &Advertisement| {
        let domain = &told.domain;
        format!("name={:?} uuid={} owner={} state={:?}", domain.name, domain.uuid, told.owner, told.state)
    };
    let call = |call: &ClusterCall| {
        let ClusterCall { number, target, name, operation, client_number } = call;
        format!(
            "number={} target={target} name={name:?} operation={operation} client={client_number}",
            number.0
        )
    };
    match ClusterMessage::decode(bytes) {
        Ok(ClusterMessage::Request(asked)) => format!("request {}", call(&asked)),
        Ok(ClusterMessage::Reply { call: asked, response }) => {
            format!("reply {} response={response}", call(&asked))
        }
        Ok(ClusterMessage::Store(vm)) => format!("store {}", told(&vm)),
        Ok(ClusterMessage::Gone { vm, has_ended }) => format!("gone {} ended={has_ended}", told(&vm)),
        Ok(ClusterMessage::Hello { is_complete: false }) => "hello".to_owned(),
        Ok(ClusterMessage::Hello { is_complete: true }) => "complete".to_owned(),
        Ok(ClusterMessage::Locate { number, name }) => format!("locate number={} name={name}", number.0),
        Ok(ClusterMessage::Report(report)) => format!("report {report:?}"),
        Ok(ClusterMessage::Host(notice)) => format!("host {notice:?}"),
        Ok(ClusterMessage::HostFenced { node }) => format!("fenced {node}"),
        Ok(ClusterMessage::Copy { vm, fate, age_ms }) => {
            format!("copy {} {fate:?}, {age_ms} ms ago", told(&vm))
        }
        Ok(ClusterMessage::Table(digest)) => format!("table vms={}", digest.vms),
        Ok(ClusterMessage::TellAll { node }) => format!("tell all target={node}"),
        Ok(ClusterMessage::Located { to, number }) => {
            format!("located number={} target={to}", number.0)
        }
        Ok(ClusterMessage::ProveCaller { to, number }) => {
            format!("prove caller number={} target={to}", number.0)
        }
        Ok(ClusterMessage::CallerProof { to, number, lives }) => {
            format!("caller proof number={} target={to} lives={lives}", number.0)
        }
        Err(error) => format!("other length={length}: {error}"),
    }
}

/// Sends a message; dispatches meanwhile, so that corosync's queues drain.
fn send(member: &mut GroupHandle, bytes: &[u8], total: &mut (usize, usize)) -> Outcome<()> {
    loop {
        match member.send(bytes) {
            Ok(()) => return Ok(()),
            Err(error) if error.is_temporary() => {
                listen(member, total)?;
                PollSet::new().wait(Some(Duration::from_millis(1)))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn obey(line: &str, member: &mut GroupHandle, total: &mut (usize, usize)) -> Outcome<()> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let own = member.node().to_string();
    match words.as_slice() {
        ["request", operation, name, number] => {
            let call = call_of(operation, name, number, &EVERY_NODE.to_string())?;
            send(member, &ClusterMessage::Request(call).encode(), total)
        }
        ["request", operation, name, number, target] => {
            let call = call_of(operation, name, number, target)?;
            send(member, &ClusterMessage::Request(call).encode(), total)
        }
        ["reply", target, number, response, name, operation] => {
            let reply = ClusterMessage::Reply {
                call: call_of(operation, name, number, target)?,
                response: response.parse()?,
            };
            send(member, &reply.encode(), total)
        }
        ["store", name, uuid, state] => {
            send(member, &ClusterMessage::Store(told_of(name, uuid, state, &own)?).encode(), total)
        }
        ["store", name, uuid, state, owner] => {
            send(member, &ClusterMessage::Store(told_of(name, uuid, state, owner)?).encode(), total)
        }
        ["gone", name, uuid] => {
            let vm = told_of(name, uuid, "5", &own)?;
            send(member, &ClusterMessage::Gone { vm, has_ended: false }.encode(), total)
        }
        ["gone", name, uuid, owner] => {
            let vm = told_of(name, uuid, "5", owner)?;
            send(member, &ClusterMessage::Gone { vm, has_ended: false }.encode(), total)
        }
        ["hello"] => send(member, &ClusterMessage::Hello { is_complete: false }.encode(), total),
        ["complete"] => send(member, &ClusterMessage::Hello { is_complete: true }.encode(), total),
        ["raw", hex] => send(member, &unhex(hex)?, total),
        ["flood", count, hex] => {
            let bytes = unhex(hex)?;
            (0..count.parse::<usize>()?).try_for_each(|_| send(member, &bytes, total))
        }
        ["random", count, seed] => {
            let mut random = Random(seed.parse::<u64>()? | 1);
            (0..count.parse::<usize>()?).try_for_each(|_| send(member, &random.message(), total))
        }
        [] => Ok(()),
        _ => Err(format!("no such command: {line}").into()),
    }
}

fn call_of(operation: &str, name: &str, number: &str, target: &str) -> Outcome<ClusterCall> {
    let operation = Operation::ALL.into_iter().find(|known| known.to_string() == operation);
    Ok(ClusterCall {
        number: RequestNumber(number.parse()?),
        target: NodeId(target.parse()?),
        name: name.to_owned(),
        operation: operation.ok_or("no such operation")?,
        client_number: 0,
    })
}

fn told_of(name: &str, uuid: &str, state: &str, owner: &str) -> Outcome<Advertisement> {
    let domain = Domain { name: name.to_owned(), uuid: Uuid::parse(uuid).ok_or("no UUID")? };
    let state = if state == "5" { PowerState::Off } else { PowerState::Running };
    Ok(Advertisement {
        domain,
        owner: NodeId(owner.parse()?),
        state,
        is_active: state == PowerState::Running,
    })
}

fn unhex(text: &str) -> Outcome<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().collect();
    digits.chunks(2).map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Makes a random message; half of them have the right length and a known type.
    fn message(&mut self) -> Vec<u8> {
        let is_close = self.next() % 2 == 0;
        let length = if is_close { 156 } else { self.next() as usize % 400 };
        let mut bytes: Vec<u8> = (0..length).map(|_| self.next() as u8).collect();
        if is_close {
            bytes[..4].copy_from_slice(&(self.next() as u32 % 4).to_le_bytes());
        }
        bytes
    }
}
