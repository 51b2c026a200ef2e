//! Relay between an agent and the daemon, which replaces a message or a field of one by a recorded one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use fence_virt::wire::{PACKET_LEN, RECORD_LEN};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::exchange::{CHALLENGE, Exchange, PROOF, RECORD, VERDICT};

/// Limit of each step.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Message of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Request,
    Challenge,
    Proof,
    Answer,
}

/// Field of a message: its bytes, or [`WHOLE`].
pub type Field = (Step, Range<usize>);

/// The whole message, whatever its length.
const WHOLE: Range<usize> = 0..usize::MAX;

const fn mac_of_record(at: usize) -> Range<usize> {
    let end = VERDICT + (at + 1) * RECORD;
    end + RECORD_LEN - RECORD..end
}

/// Messages, and what has 32 bytes in them.
pub const FIELDS: [Field; 13] = [
    (Step::Request, WHOLE),
    // Id of the key and nonce.
    (Step::Request, 112..144),
    (Step::Request, 144..176),
    (Step::Challenge, WHOLE),
    (Step::Challenge, 0..32),
    (Step::Challenge, 32..64),
    (Step::Proof, WHOLE),
    (Step::Answer, WHOLE),
    (Step::Answer, 1..VERDICT),
    (Step::Answer, VERDICT..VERDICT + RECORD),
    (Step::Answer, mac_of_record(0)),
    (Step::Answer, mac_of_record(1)),
    (Step::Answer, mac_of_record(2)),
];

/// Replacement of a field by that of a recorded exchange.
#[derive(Debug)]
pub struct Splice<'a> {
    pub field: Field,
    pub from: &'a Exchange,
}

impl Splice<'_> {
    /// True if the recorded exchange has the field.
    pub fn is_possible(&self) -> bool {
        let (step, range) = &self.field;
        *range == WHOLE || range.end <= self.from.message(*step).len()
    }

    /// Replaces the field in a message of this step.
    pub fn apply(&self, step: Step, message: &mut Vec<u8>) {
        let (wanted, range) = &self.field;
        if *wanted != step {
            return;
        }
        let before = message.clone();
        let recorded = self.from.message(step);
        if *range == WHOLE {
            *message = recorded.to_vec();
        } else {
            message[range.clone()].copy_from_slice(&recorded[range.clone()]);
        }
        assert_ne!(*message, before, "the splice replaces nothing: {self:?}");
    }
}

impl Exchange {
    fn message(&self, step: Step) -> &[u8] {
        match step {
            Step::Request => &self.request,
            Step::Challenge => &self.challenge,
            Step::Proof => &self.proof,
            Step::Answer => &self.answer,
        }
    }
}

/// Progress of an exchange through the relay.
#[derive(Debug, Default)]
pub struct Passed {
    /// The daemon has sent its challenge.
    pub is_challenged: bool,
    /// The agent has sent its proof.
    pub is_proven: bool,
    /// Answer of the daemon.
    pub answer: Vec<u8>,
}

/// Reads so many bytes; none if the peer closes first.
fn take(from: &mut TcpStream, length: usize) -> Option<Vec<u8>> {
    let mut message = vec![0; length];
    match from.read_exact(&mut message) {
        Ok(()) => Some(message),
        Err(error) => {
            let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
            assert!(kinds.contains(&error.kind()), "{length} bytes: {error}");
            None
        }
    }
}

/// Stream whose reads have a limit.
pub fn limited(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Sends a datagram until the daemon calls back.
pub fn called_back(waiting: &TcpListener, send: impl Fn()) -> TcpStream {
    let end = Instant::now() + LIMIT;
    loop {
        send();
        // The daemon drops a datagram that may have waited while the daemon stood still.
        let mut waits = [PollFd::new(waiting.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waits, PollTimeout::from(3000u16)).unwrap() == 1 {
            return limited(waiting.accept().unwrap().0);
        }
        assert!(Instant::now() < end, "no call-back within {LIMIT:?}");
    }
}

/// Reads until the peer closes; a reset counts as a close.
pub fn rest(from: &mut impl Read) -> Vec<u8> {
    let mut rest = Vec::new();
    if let Err(error) = from.read_to_end(&mut rest) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it does not close");
    }
    rest
}

/// Passes a request by tcp and all that follows.
pub fn relay(agent: TcpStream, daemon: TcpStream, splice: Option<&Splice>) -> Passed {
    let (mut agent, mut daemon) = (limited(agent), daemon);
    let mut request = take(&mut agent, PACKET_LEN).expect("a request");
    splice.inspect(|splice| splice.apply(Step::Request, &mut request));
    daemon.write_all(&request).unwrap();
    relay_call(agent, daemon, splice)
}

/// Passes what follows a request. Returns once both connections are closed.
pub fn relay_call(agent: TcpStream, daemon: TcpStream, splice: Option<&Splice>) -> Passed {
    let (mut agent, mut daemon) = (limited(agent), limited(daemon));
    let mut passed = Passed::default();
    let Some(mut challenge) = take(&mut daemon, CHALLENGE) else { return passed };
    passed.is_challenged = true;
    splice.inspect(|splice| splice.apply(Step::Challenge, &mut challenge));
    agent.write_all(&challenge).unwrap();
    if let Some(mut proof) = take(&mut agent, PROOF) {
        passed.is_proven = true;
        splice.inspect(|splice| splice.apply(Step::Proof, &mut proof));
        daemon.write_all(&proof).unwrap();
        passed.answer = rest(&mut daemon);
        let mut answer = passed.answer.clone();
        if !answer.is_empty() {
            splice.inspect(|splice| splice.apply(Step::Answer, &mut answer));
        }
        // The agent may close at the first wrong item.
        let _ = agent.write_all(&answer);
    } else {
        // So that the daemon is done with the request; it may have closed.
        let _ = daemon.shutdown(Shutdown::Write);
        rest(&mut daemon);
    }
    passed
}
