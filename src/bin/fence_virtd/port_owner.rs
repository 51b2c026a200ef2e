//! Owners of ports of this host.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// Process that has a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketOwner {
    pub(crate) pid: u32,
    pub(crate) program: String,
}

impl fmt::Display for SocketOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.program, self.pid)
    }
}

/// Returns the owners of an address and port that could not be bound, if it is in use.
pub(crate) fn owners_if_taken(error: &io::Error, protocol: Protocol, wanted: SocketAddr) -> Vec<SocketOwner> {
    if error.kind() == io::ErrorKind::AddrInUse { owners(protocol, wanted) } else { Vec::new() }
}

/// Returns the processes that have a socket at this address and port, or at all addresses
/// and this port. Only root sees processes of other users.
fn owners(protocol: Protocol, wanted: SocketAddr) -> Vec<SocketOwner> {
    let (v4, v6) = match protocol {
        Protocol::Tcp => ("/proc/net/tcp", "/proc/net/tcp6"),
        Protocol::Udp => ("/proc/net/udp", "/proc/net/udp6"),
    };
    let tables = [v4, v6].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes: Vec<&str> = tables
        .iter()
        .flat_map(|table| table.lines())
        .filter_map(|line| inode(line, protocol, wanted))
        .collect();
    if inodes.is_empty() {
        return Vec::new();
    }
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| has_any(pid, &inodes)).map(owner).collect()
}

/// Returns the process that has an address and port that could not be bound, if it is known and no other one has it.
pub(crate) fn owner_of(error: &io::Error, protocol: Protocol, wanted: SocketAddr) -> Option<SocketOwner> {
    let mut owners = owners_if_taken(error, protocol, wanted);
    if owners.len() == 1 { owners.pop() } else { None }
}

fn owner(pid: u32) -> SocketOwner {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    SocketOwner { pid, program: comm.trim_end().to_owned() }
}

fn has_any(pid: u32, inodes: &[&str]) -> bool {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    fds.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| {
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.contains(&inode))
    })
}

/// Returns the inode in a line of /proc/net/tcp or udp if that socket conflicts with the wanted address.
/// Columns: number, local address, remote address, state, queues, timer, retransmits, uid, timeout, inode.
fn inode(line: &str, protocol: Protocol, wanted: SocketAddr) -> Option<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let local = *words.get(1)?;
    let state = *words.get(3)?;
    let inode = *words.get(9)?;
    const LISTEN: &str = "0A";
    if protocol == Protocol::Tcp && state != LISTEN {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    let is_port = u16::from_str_radix(port, 16) == Ok(wanted.port());
    let address = parse_address(address)?.to_canonical();
    let meets = address == wanted.ip() || address.is_unspecified() || wanted.ip().is_unspecified();
    (is_port && meets).then_some(inode)
}

/// Parses an address: words of 32 bits, each a number in host byte order.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let mut bytes = [0; 16];
    for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
        chunk.copy_from_slice(&word(at)?);
    }
    Some(Ipv6Addr::from(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    #[cfg(target_endian = "little")]
    fn conflicts_of_sockets() {
        let line = |local: &str, state: &str| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 4711 1"
            )
        };
        let at =
            |line: &str, protocol, wanted: &str| inode(line, protocol, wanted.parse().unwrap()).is_some();
        let listening = line("0100007F:04CD", "0A");
        assert!(at(&listening, Protocol::Tcp, "127.0.0.1:1229"));
        assert!(at(&listening, Protocol::Tcp, "0.0.0.0:1229"));
        assert!(!at(&listening, Protocol::Tcp, "127.0.0.1:1230"));
        assert!(!at(&listening, Protocol::Tcp, "192.0.2.1:1229"));
        assert!(!at(&line("0100007F:04CD", "01"), Protocol::Tcp, "127.0.0.1:1229"), "a connection");
        assert!(at(&line("00000000:04CD", "07"), Protocol::Udp, "225.0.0.12:1229"));
        assert!(at(&line(&format!("{}:04CD", "0".repeat(32)), "0A"), Protocol::Tcp, "192.0.2.1:1229"));
        assert!(at(&line("00000000000000000000000001000000:04CD", "0A"), Protocol::Tcp, "[::1]:1229"));
        assert!(!at("  sl  local_address rem_address   st", Protocol::Tcp, "127.0.0.1:1229"));
    }

    #[test]
    fn the_owner_of_a_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = TcpListener::bind(address).unwrap_err();
        assert_eq!(owner_of(&taken, Protocol::Tcp, address).unwrap().pid, std::process::id());
        let pids: Vec<u32> = owners(Protocol::Tcp, address).iter().map(|owner| owner.pid).collect();
        assert_eq!(pids, [std::process::id()]);
        drop(listener);
        assert_eq!(owners(Protocol::Tcp, address), []);
    }
}
