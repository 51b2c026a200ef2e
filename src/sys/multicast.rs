//! Multicast UDP sockets of the daemon, with options that neither std nor nix sets by interface index.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use super::option;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, recvmsg,
    setsockopt, socket, sockopt,
};

/// Size of the receive buffer in bytes. The kernel takes net.core.rmem_max (208 KiB) at most, and doubles that
/// for its own needs: in a flood of 5,000 datagrams a second enough for 0.1 s in which nobody reads, twice as
/// much as by default. What a much larger one holds is late by the time it is read.
const RECEIVE_BUFFER: usize = 256 << 10;

/// Bound UDP socket that receives only the groups it joined itself.
#[derive(Debug)]
pub struct MulticastSocket {
    socket: UdpSocket,
    group: IpAddr,
}

/// Datagram, truncated to the length of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes read.
    pub length: usize,
    /// True if it was longer than the buffer.
    pub truncated: bool,
    /// Index of the receiving interface; 0 if unknown.
    pub interface: u32,
    /// Address of the sender, which anybody can forge; none if the kernel tells none.
    pub sender: Option<IpAddr>,
}

impl MulticastSocket {
    /// Binds to `group` and `port`, so that unicast is not received; other daemons can share the port.
    ///
    /// # Errors
    ///
    /// Errors of socket(2), setsockopt(2) and bind(2).
    pub fn bind(group: IpAddr, port: u16) -> io::Result<MulticastSocket> {
        let family = if group.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, SockType::Datagram, flags, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        if group.is_ipv4() {
            setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?;
            option::set(&fd, libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, &0)?;
        } else {
            setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?;
            match option::set(&fd, libc::IPPROTO_IPV6, IPV6_MULTICAST_ALL, &0) {
                // Before Linux 4.20: groups that other processes joined are received too.
                Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {}
                other => other?,
            }
        }
        // Binding to a link-scope group needs an interface, which may change.
        let local = match group {
            IpAddr::V6(v6) if v6.octets()[1] & 0x0f <= 2 => Ipv6Addr::UNSPECIFIED.into(),
            other => other,
        };
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(local, port)))?;
        Ok(MulticastSocket { socket: UdpSocket::from(fd), group })
    }

    /// Joins the group on the interface with this index; no effect if it is a member already.
    ///
    /// # Errors
    ///
    /// Errors of setsockopt(2): ENODEV if no such interface exists, ENOBUFS at
    /// the system's limit of memberships.
    pub fn join(&self, interface: u32) -> io::Result<()> {
        let joined = match self.group {
            IpAddr::V4(group) => self.membership(libc::IP_ADD_MEMBERSHIP, group, interface),
            IpAddr::V6(group) => self.socket.join_multicast_v6(&group, interface),
        };
        match joined {
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => Ok(()),
            other => other,
        }
    }

    /// Leaves the group on an interface that no longer exists: Linux keeps its
    /// IPv4 membership and counts it against the limit.
    ///
    /// # Errors
    ///
    /// Errors of setsockopt(2): EADDRNOTAVAIL if it is not a member.
    pub fn leave(&self, interface: u32) -> io::Result<()> {
        match self.group {
            IpAddr::V4(group) => self.membership(libc::IP_DROP_MEMBERSHIP, group, interface),
            IpAddr::V6(group) => self.socket.leave_multicast_v6(&group, interface),
        }
    }

    fn membership(&self, option: i32, group: Ipv4Addr, interface: u32) -> io::Result<()> {
        let request = libc::ip_mreqn {
            imr_multiaddr: libc::in_addr { s_addr: u32::from(group).to_be() },
            imr_address: libc::in_addr { s_addr: 0 },
            imr_ifindex: i32::try_from(interface).map_err(io::Error::other)?,
        };
        option::set(&self.socket, libc::IPPROTO_IP, option, &request)
    }

    /// Receives one datagram.
    ///
    /// # Errors
    ///
    /// Errors of recvmsg(2); `WouldBlock` if none is pending.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        let mut control = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
        let mut slices = [IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let message =
            recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
        let interface = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => u32::try_from(info.ipi_ifindex).ok(),
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(info.ipi6_ifindex),
            _ => None,
        });
        let sender = message.address.as_ref().and_then(|address| {
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
        });
        Ok(Datagram {
            sender,
            length: message.bytes,
            truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
            interface: interface.unwrap_or(0),
        })
    }
}

impl std::os::fd::AsFd for MulticastSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// From linux/in6.h; libc lacks it for some targets.
const IPV6_MULTICAST_ALL: i32 = 29;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_waits_to_be_read() {
        const BURST: usize = 450;
        let group = Ipv4Addr::new(239, 255, 77, 1);
        let socket = MulticastSocket::bind(group.into(), 0).unwrap();
        let loopback = nix::net::if_::if_nametoindex("lo").unwrap();
        socket.join(loopback).unwrap();
        let port = socket.socket.local_addr().unwrap().port();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let through = libc::ip_mreqn {
            imr_multiaddr: libc::in_addr { s_addr: 0 },
            imr_address: libc::in_addr { s_addr: 0 },
            imr_ifindex: i32::try_from(loopback).unwrap(),
        };
        option::set(&sender, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &through).unwrap();
        for _ in 0..BURST {
            sender.send_to(&[7; 176], (group, port)).unwrap();
        }
        let mut buffer = [0; 200];
        let received = std::iter::from_fn(|| socket.receive(&mut buffer).ok()).count();
        assert_eq!(received, BURST);
    }
}
