//! Sockets of a multicast client: datagrams from a chosen address on a chosen
//! interface, and the TCP socket on which it is called back.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

use super::option;

/// A UDP socket whose multicasts leave by the interface with this index, from
/// `address`, and cross `hops` - 1 routers. They are heard on this host too.
///
/// # Errors
///
/// socket(2)'s, setsockopt(2)'s or bind(2)'s.
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
            // The scope counts for link-local addresses alone.
            let socket = UdpSocket::bind(SocketAddrV6::new(v6, 0, 0, interface))?;
            option::set(&socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, &interface)?;
            option::set(&socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, &hops)?;
            socket
        }
    };
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A non-blocking TCP listener on every address of one family, for `port`
/// (0: one that is free).
///
/// # Errors
///
/// socket(2)'s, bind(2)'s or listen(2)'s; EADDRINUSE if another has the port.
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
