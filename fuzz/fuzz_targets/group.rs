//! Messages of the group: decoding, encoding and decoding again agrees, and a router that receives them from
//! other nodes carries out nothing that it must not.
#![no_main]

use std::time::Duration;

use fence_virt::fence::{Operation, PowerState, Request, Target, UriIndex, Uuid, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{
    ClientId, ClientRequest, Evidence, JobOutcome, LocalVm, Membership, Names, OnBehalf, Peer, Router,
    RouterAction, Rules, Unknown,
};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::{ClusterMessage, MESSAGE_LEN, NodeId, RequestNumber};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = ClusterMessage::decode(bytes) {
        let again = message.encode();
        let decoded = ClusterMessage::decode(&again).expect("what was encoded can be decoded");
        assert_eq!(decoded, message);
    }
    let rules = Rules { names: Names::Both, host_fence_delay: None, unknown: Unknown::Fail };
    let (start, me) = (Instant::now(), Peer { node: NodeId(1), pid: 1 });
    let mut router = Router::new(rules, 1, RequestNumber(0));
    router.joined(me, start);
    let peers: Vec<Peer> = [1, 2, 3].map(|node| Peer { node: NodeId(node), pid: node }).into();
    router.changed(&Membership { members: peers.clone(), left: Vec::new(), joined: peers }, start);
    router.votes(true, &[1, 2, 3].map(NodeId), start);
    let vm = LocalVm {
        name: "a".to_owned(),
        uuid: Uuid::from_bytes([1; 16]),
        state: PowerState::Running,
        is_active: true,
        may_run_elsewhere: false,
    };
    router.listed(UriIndex(0), vec![vm], start);
    let target = Target::new(b"a").unwrap();
    let request = Request { operation: Operation::Off, target, seqno: 1 };
    let (client, permitted) = (ClientId(1), PermittedNames::All);
    router.ask(ClientRequest { client, request, permitted, received: start }, start);
    let mut now = start;
    for (at, piece) in bytes.chunks(MESSAGE_LEN).enumerate() {
        now += Duration::from_millis(100);
        let node = 2 + at as u32 % 2;
        router.heard(Peer { node: NodeId(node), pid: node }, piece, now, false, now);
        router.turn(now);
        while let Some(action) = router.next_action() {
            match action {
                RouterAction::Answer { verdict, .. } => {
                    assert_eq!(verdict, Verdict::Failure, "nobody did it here")
                }
                RouterAction::Find { job, .. } => router.found(job, Ok(Vec::new()), now),
                // The client's is never done.
                RouterAction::Begin { job, on_behalf: OnBehalf::Node(_), .. } => {
                    let (verdict, evidence, reason) = (Verdict::Success, Evidence::None, String::new());
                    router.done(job, JobOutcome { verdict, evidence, reason }, now);
                }
                _ => {}
            }
        }
        let sent = std::iter::from_fn(|| router.next_message(now)).take(100_000).count();
        assert!(sent < 100_000, "it sends without end");
    }
});
