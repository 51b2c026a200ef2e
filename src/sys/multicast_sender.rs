//! Sockets of a multicast client: a UDP sender with a given address and
//! interface, and the TCP listener for call-backs.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

use super::option;

/// Opens a UDP socket that sends multicasts from `address` on the interface
/// with this index, across `hops` - 1 routers; with 0 hops to this host alone. This host receives them always.
///
/// # Errors
///
/// Errors of socket(2), setsockopt(2) and bind(2).
pub fn sender(address: IpAddr, interface: u32, hops: u32) -> io::Result<UdpSocket> {
    let socket = match address {
        IpAddr::V4(v4) => {
            let socket = UdpSocket::bind((v4, 0))?;
            let request = libc::ip_mreqn {
                imr_multiaddr: libc::in_addr { s_addr: 0 },
                imr_address: libc::in_addr { s_addr: u32::from(v4).to_be() },
                imr_ifindex: i32::try_from(interface).map_err(io::Error::other)?,
            };
            option::set(&socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request)?;
            socket.set_multicast_ttl_v4(hops)?;
            socket
        }
        IpAddr::V6(v6) => {
            // Only link-local addresses use the scope.
            let socket = UdpSocket::bind(SocketAddrV6::new(v6, 0, 0, interface))?;
            option::set(&socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, &interface)?;
            option::set(&socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, &hops)?;
            socket
        }
    };
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Opens a non-blocking TCP listener on every address of one family, on `port` (0: any free port).
///
/// # Errors
///
/// Errors of socket(2), bind(2) and listen(2): EADDRINUSE if the port is taken.
pub fn call_back_listener(is_ipv4: bool, port: u16) -> io::Result<TcpListener> {
    let (family, any) = match is_ipv4 {
        true => (AddressFamily::Inet, IpAddr::from([0, 0, 0, 0])),
        false => (AddressFamily::Inet6, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if !is_ipv4 {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(any, port)))?;
    listen(&fd, Backlog::new(128)?)?;
    Ok(TcpListener::from(fd))
}
