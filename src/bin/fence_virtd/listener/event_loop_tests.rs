use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crossbeam_channel::bounded;

use super::*;
use crate::listener::dispatcher::Dispatcher;
use crate::listener::sessions::{Sessions, SessionsUpdate};
use crate::listener::stream::NonblockingStream;
use crate::pauses::PauseMonitor;
use crate::power_journal::PowerJournal;
use fence_virt::auth::{HashKind, Key};
use fence_virt::fence::{Endpoint, ListenerName, Operation, Request, Source, Target};
use fence_virt::session::Policy;
use fence_virt::sys::mailbox::mailbox;
use fence_virt::wire::{PACKET_LEN, Packet, Signature};

fn policy(key: u8) -> Arc<Policy> {
    let (hash, auth) = (HashKind::Sha256, HashKind::Sha256);
    Arc::new(Policy::new(hash, auth, Key::new(vec![key; 64]), Endpoint::LINE))
}

/// Number of bytes that a client receives whose request has the key 1, and whose input arrives in
/// the turn in which the update to this key does.
fn answered_after(key: u8) -> usize {
    let (sender, mailbox) = mailbox().unwrap();
    let (jobs, _worker) = bounded(1);
    let counts = Arc::new(Counts::new(ListenerName::new("tcp", None), PowerJournal::default()));
    let dispatcher = Dispatcher::new(counts.clone(), jobs, sender.clone());
    let mut event_loop = EventLoop::new(
        counts,
        None,
        Sessions::new(policy(1), fence_virt::quota::SESSIONS_MAX, dispatcher),
        mailbox,
        PauseMonitor::default().reader(Instant::now()),
    );
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, peer) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    let stream = NonblockingStream::connected(socket);
    event_loop.service.accept(stream, Source::ip(peer.ip()), None, Instant::now());

    let request = Request { operation: Operation::Off, target: Target::new(b"node1").unwrap(), seqno: 1 };
    let packet = Packet {
        request,
        signature: Signature::unsigned(HashKind::Sha256),
        ..Packet::decode(&[0; PACKET_LEN]).unwrap()
    };
    let signed = packet.encode_signed(&policy(1).key);
    client.write_all(&[&signed[..], &[0xA5; 64]].concat()).unwrap();
    sender.post(Mail::Update(SessionsUpdate::Policy(policy(key)))).unwrap();
    event_loop.turn().unwrap();
    let answered = event_loop.service.open_count() > 0;
    drop(event_loop);
    let mut bytes = Vec::new();
    // A session that is closed with unread input resets the connection.
    let _ = client.read_to_end(&mut bytes);
    assert_eq!(answered, !bytes.is_empty());
    bytes.len()
}

#[test]
fn a_key_that_was_taken_away_accepts_no_request_that_is_read_later() {
    assert_eq!(answered_after(1), 128, "both challenges");
    assert_eq!(answered_after(2), 0);
}
