//! A bell that rings when network interfaces or addresses come and go. What
//! changed is then looked up afresh, so no message of the kernel is parsed,
//! and an overrun loses nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

/// The bell.
#[derive(Debug)]
pub struct InterfaceMonitor {
    fd: OwnedFd,
}

impl InterfaceMonitor {
    /// Subscribes to changes of links and addresses.
    ///
    /// # Errors
    ///
    /// socket(2)'s or bind(2)'s.
    pub fn new() -> io::Result<InterfaceMonitor> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups as u32))?;
        Ok(InterfaceMonitor { fd })
    }

    /// Silences it.
    pub fn drain(&self) {
        let mut buffer = [0; 4096];
        loop {
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return,
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for InterfaceMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
