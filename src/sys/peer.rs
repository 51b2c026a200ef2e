//! Life of the peer of a stream socket: hang-ups, and what the kernel has received from a TCP peer.
//!
//! A host that loses its power sends no FIN, so that its connections stay open. A keepalive probe
//! makes the kernel of a peer that lives send an acknowledgement at once; its program notices nothing.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::time::Instant;

/// Inaccuracy of the kernel's times: it counts in jiffies, of 10 ms at most.
pub const TCP_TIMES_MARGIN: Duration = Duration::from_millis(10);

/// Unanswered probes, 1 s apart, after which the kernel breaks the connection. A fence agent
/// waits 30 s, so that a short failure of the network breaks none.
const PROBES_MAX: u32 = 30;

/// Times at which a TCP peer sent what the kernel received of it. They are lower bounds: earlier than
/// the receipt by the round trip and by [`TCP_TIMES_MARGIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpTimes {
    /// Last data; the begin of the connection before the first.
    pub data: Instant,
    /// Last acknowledgement.
    pub acknowledgement: Instant,
    /// Average time from a segment to its acknowledgement.
    pub round_trip: Duration,
}

/// Returns true if the peer has hung up, even if there is unread input.
///
/// # Errors
///
/// Errors of poll(2), such as ENOMEM.
pub fn has_hung_up(socket: BorrowedFd) -> io::Result<bool> {
    // nix has no POLLRDHUP. POLLHUP, POLLERR and POLLNVAL are always reported.
    let mut polled = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    loop {
        // SAFETY: `polled` is one valid entry, which the kernel writes during the call only.
        if unsafe { libc::poll(&mut polled, 1, 0) } >= 0 {
            return Ok(polled.revents != 0);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Returns the times at which a TCP peer sent what the kernel received of it last.
///
/// # Errors
///
/// Errors of getsockopt(2): EOPNOTSUPP or ENOPROTOOPT for a socket that is not TCP.
pub fn tcp_times(socket: BorrowedFd) -> io::Result<TcpTimes> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // Before the call: the times are rather too early than too late.
    let now = Instant::now();
    // SAFETY: `info` is valid for `length` bytes, of which the kernel writes as many as it knows.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `info` was zeroed, and zero is valid for each of its fields, which are integers.
    let info = unsafe { info.assume_init() };
    let round_trip = Duration::from_micros(info.tcpi_rtt.into());
    let at = |age_millis: u32| {
        let age = Duration::from_millis(age_millis.into()) + TCP_TIMES_MARGIN + round_trip;
        now.checked_sub(age).ok_or_else(|| io::Error::other("the clock has no time so long ago"))
    };
    let data = at(info.tcpi_last_data_recv)?;
    let acknowledgement = at(info.tcpi_last_ack_recv)?;
    Ok(TcpTimes { data, acknowledgement, round_trip })
}

/// Makes the kernel probe a TCP peer whenever nothing has come from it for 1 s, the shortest time
/// that Linux offers: at once, if that is so already.
///
/// # Errors
///
/// Errors of setsockopt(2): EOPNOTSUPP or ENOPROTOOPT for a socket that is not TCP.
pub fn probe_tcp(socket: BorrowedFd) -> io::Result<()> {
    let socket = &socket.as_fd();
    setsockopt(socket, sockopt::TcpKeepInterval, &1)?;
    setsockopt(socket, sockopt::TcpKeepCount, &PROBES_MAX)?;
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    // Last: on a connection with keepalive it sets the timer, by the time that nothing has come.
    setsockopt(socket, sockopt::TcpKeepIdle, &1)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    #[test]
    fn a_hang_up_shows_behind_unread_input() {
        let (host, mut guest) = UnixStream::pair().unwrap();
        assert!(!has_hung_up(host.as_fd()).unwrap());
        guest.write_all(b"unread").unwrap();
        assert!(!has_hung_up(host.as_fd()).unwrap());
        drop(guest);
        assert!(has_hung_up(host.as_fd()).unwrap());
        let (server, client) = tcp_pair();
        assert!(!has_hung_up(server.as_fd()).unwrap());
        client.shutdown(Shutdown::Write).unwrap();
        assert!(has_hung_up(server.as_fd()).unwrap());
    }

    #[test]
    fn times_are_never_later_than_what_came() {
        let begun = Instant::now();
        let (server, mut client) = tcp_pair();
        client.write_all(b"data").unwrap();
        server.peek(&mut [0]).unwrap();
        let came = Instant::now();
        while came.elapsed() < 5 * TCP_TIMES_MARGIN {
            let asked = Instant::now();
            let TcpTimes { data, acknowledgement, round_trip } = tcp_times(server.as_fd()).unwrap();
            // The thread may have been interrupted between the kernel's answer and the look at the clock.
            let took = asked.elapsed();
            assert!(data <= came && acknowledgement <= came);
            // A jiffy earlier at most, besides the margin.
            assert!(data + round_trip + 2 * TCP_TIMES_MARGIN + took > begun, "{:?}", begun - data);
        }
    }

    #[test]
    fn a_unix_socket_has_no_times_and_no_probes() {
        let (host, _guest) = UnixStream::pair().unwrap();
        assert!(tcp_times(host.as_fd()).is_err());
        assert!(probe_tcp(host.as_fd()).is_err());
    }
}
