//! Notification of changes of network interfaces and addresses: rtnetlink(7). The caller then lists them
//! anew, so no kernel message is parsed, and an overrun loses nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

/// Netlink socket, readable after a change of links or addresses.
#[derive(Debug)]
pub struct InterfaceMonitor {
    fd: OwnedFd,
}

impl InterfaceMonitor {
    /// Subscribes to changes of links and addresses.
    ///
    /// # Errors
    ///
    /// Errors of socket(2) and bind(2).
    pub fn new() -> io::Result<InterfaceMonitor> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups as u32))?;
        Ok(InterfaceMonitor { fd })
    }

    /// Discards all pending messages.
    pub fn drain(&self) {
        let mut buffer = [0; 4096];
        let mut receive = || recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT);
        while matches!(receive(), Ok(1..) | Err(Errno::EINTR | Errno::ENOBUFS)) {}
    }
}

impl AsFd for InterfaceMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
