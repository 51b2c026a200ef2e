//! Signs of life of a client, by its transport.
//!
//! A vsock or a unix socket hangs up when the VM ends, as the kernel of this host holds both ends.
//! On TCP a host that loses its power is silent, so what its kernel acknowledges is the sign.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use log::debug;

use super::stream::NonblockingStream;
use fence_virt::fence::Source;
use fence_virt::sys::error_text;
use fence_virt::sys::peer::{self, TcpTimes};
use fence_virt::time::Instant;

/// Time from that after which a sign must come to the first probe, besides the round trip: for an
/// acknowledgement that is too early by the inaccuracy of its time, the next probe follows 1 s later.
const PROBE_DELAY: Duration = peer::TCP_TIMES_MARGIN.saturating_mul(3);

/// Result of the search for a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignOfLife {
    /// The client lived at this time.
    Seen(Instant),
    /// There is none yet.
    Awaited,
    /// The client has hung up.
    HungUp,
}

/// Watch over the life of one client.
#[derive(Debug)]
pub(super) enum Liveness {
    /// Client whose end the kernel of this host reports as a hang-up.
    Local,
    /// Client on another machine.
    Remote {
        /// The kernel sends probes.
        is_probing: bool,
    },
}

impl Liveness {
    pub(super) fn of(source: &Source) -> Liveness {
        match source {
            Source::Ip(_) => Liveness::Remote { is_probing: false },
            Source::Cid(_) | Source::Domain(_) => Liveness::Local,
            Source::Key(keyed) => Liveness::of(&keyed.via),
        }
    }

    /// Last time, up to `now`, at which the client is known to have lived: `received` if the
    /// kernel does not know. None if it has hung up.
    pub(super) fn alive_at(
        &self,
        stream: &NonblockingStream,
        received: Instant,
        now: Instant,
    ) -> Option<Instant> {
        if has_hung_up(stream) {
            return None;
        }
        match self {
            Liveness::Local => Some(now),
            Liveness::Remote { .. } => {
                Some(peer::tcp_times(stream.as_fd()).map_or(received, |times| times.data))
            }
        }
    }

    /// Seeks a sign of life that came after `after`, in a turn that began at `now`.
    pub(super) fn sign(&mut self, stream: &NonblockingStream, after: Instant, now: Instant) -> SignOfLife {
        if has_hung_up(stream) {
            return SignOfLife::HungUp;
        }
        let sign = match self {
            Liveness::Local => Ok(now),
            Liveness::Remote { is_probing } => remote_sign(stream, is_probing, after, now),
        };
        match sign {
            Ok(at) if at > after => SignOfLife::Seen(at),
            Ok(_) => SignOfLife::Awaited,
            Err(error) => {
                debug!("no sign of life is to be had from a TCP connection: {}", error_text(&error));
                SignOfLife::HungUp
            }
        }
    }
}

/// Time of the last acknowledgement. Starts the probes, if the client has given no sign on its own.
fn remote_sign(
    stream: &NonblockingStream,
    is_probing: &mut bool,
    after: Instant,
    now: Instant,
) -> io::Result<Instant> {
    let TcpTimes { acknowledgement: at, round_trip, .. } = peer::tcp_times(stream.as_fd())?;
    if at <= after && now >= after + round_trip + PROBE_DELAY && !*is_probing {
        peer::probe_tcp(stream.as_fd())?;
        *is_probing = true;
    }
    Ok(at)
}

fn has_hung_up(stream: &NonblockingStream) -> bool {
    // A connection that cannot be checked is none to rely on.
    peer::has_hung_up(stream.as_fd()).unwrap_or(true)
}

#[cfg(test)]
#[path = "liveness_tests.rs"]
mod tests;
