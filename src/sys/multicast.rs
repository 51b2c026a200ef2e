//! Multicast UDP sockets: options that neither std nor nix sets by interface index.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use super::option;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, recvmsg,
    setsockopt, socket, sockopt,
};

/// A bound UDP socket that hears only the groups it joined itself.
#[derive(Debug)]
pub struct MulticastSocket {
    socket: UdpSocket,
    group: IpAddr,
}

/// A datagram, cut to the length of the buffer it was read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes read.
    pub length: usize,
    /// Whether it was longer than the buffer.
    pub truncated: bool,
    /// The index of the interface it came in on; 0 if unknown.
    pub interface: u32,
}

impl MulticastSocket {
    /// Binds to `group` and `port`, so that unicast is not heard, sharing the
    /// port with other daemons.
    ///
    /// # Errors
    ///
    /// socket(2)'s, setsockopt(2)'s or bind(2)'s.
    pub fn bind(group: IpAddr, port: u16) -> io::Result<MulticastSocket> {
        let family = if group.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, SockType::Datagram, flags, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        if group.is_ipv4() {
            setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?;
            option::set(&fd, libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, &0)?;
        } else {
            setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?;
            match option::set(&fd, libc::IPPROTO_IPV6, IPV6_MULTICAST_ALL, &0) {
                // Before Linux 4.20: groups that others on this host joined are heard too.
                Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {}
                other => other?,
            }
        }
        // A group of link scope can only be bound to with an interface, which may change.
        let local = match group {
            IpAddr::V6(v6) if v6.octets()[1] & 0x0f <= 2 => Ipv6Addr::UNSPECIFIED.into(),
            other => other,
        };
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(local, port)))?;
        Ok(MulticastSocket { socket: UdpSocket::from(fd), group })
    }

    /// Joins the group on the interface with this index; once is enough.
    ///
    /// # Errors
    ///
    /// setsockopt(2)'s; ENODEV if there is no such interface, ENOBUFS at the
    /// system's limit of memberships.
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

    /// Leaves the group on an interface that is gone: Linux keeps an IPv4
    /// membership of it, and counts it against the limit.
    ///
    /// # Errors
    ///
    /// setsockopt(2)'s; EADDRNOTAVAIL if there is no membership.
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

    /// Reads one datagram.
    ///
    /// # Errors
    ///
    /// recvmsg(2)'s; `WouldBlock` if there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        let mut control = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
        let mut slices = [IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let message = recvmsg::<()>(fd, &mut slices, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
        let interface = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => u32::try_from(info.ipi_ifindex).ok(),
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(info.ipi6_ifindex),
            _ => None,
        });
        Ok(Datagram {
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

/// From linux/in6.h; libc has it not for every target.
const IPV6_MULTICAST_ALL: i32 = 29;
