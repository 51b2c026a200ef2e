//! Recorded sessions, and what the document says about them.

use std::collections::HashSet;
use std::sync::OnceLock;

use fence_virt::fence::Operation;
use fence_virt::wire::RECORD_LEN;

use crate::common::agent::AgentRun;
use crate::common::daemon::Daemon;
use crate::common::{Missing, require, root};
use crate::exchange::{Exchange, LISTENERS, Listener, RECORD, VERDICT};
use crate::lab::Lab;
use crate::tap::Tap;

/// Sessions of each operation at each listener.
const ROUNDS: usize = 2;

/// Operations with their exit codes. After a status of off the agent asks for the list.
const OPERATIONS: [(Operation, i32); 4] =
    [(Operation::Off, 0), (Operation::Status, 2), (Operation::HostList, 0), (Operation::On, 0)];

/// Exchanges that a tap has recorded, once for all tests.
pub fn recorded() -> Result<&'static [Exchange], Missing> {
    static RECORDED: OnceLock<Vec<Exchange>> = OnceLock::new();
    root("for network namespaces")?;
    Ok(RECORDED.get_or_init(|| {
        let lab = Lab::new().unwrap();
        record(&lab, &lab.daemon())
    }))
}

/// Records sessions with this daemon.
pub fn record(lab: &Lab, daemon: &Daemon) -> Vec<Exchange> {
    let tap = lab.pair.guest.inside(Tap::new);
    let mut recorded = Vec::new();
    for _ in 0..ROUNDS {
        for listener in LISTENERS {
            for (operation, code) in OPERATIONS {
                let mut agent = lab.agent(&lab.pair.guest, listener, operation, "node1", 30);
                let ran: AgentRun = agent.output().unwrap().into();
                assert_eq!(ran.code, code, "{listener:?} {operation}: {ran:?}\n{}", daemon.log());
                let heard: Vec<Exchange> = tap.connections().iter().map(Exchange::of).collect();
                // After off the agent asks for no list: in version 2 it says that the host has the VM.
                let operations: Vec<Operation> = heard.iter().map(Exchange::operation).collect();
                assert_eq!(operations, [operation], "{listener:?}");
                assert!(heard.iter().all(|exchange| exchange.listener == listener), "{heard:?}");
                recorded.extend(heard);
            }
        }
    }
    recorded
}

/// Recorded exchanges at a listener.
pub fn at(recorded: &[Exchange], listener: Listener) -> impl Iterator<Item = &Exchange> {
    recorded.iter().filter(move |exchange| exchange.listener == listener)
}

#[test]
fn messages_are_as_the_document_says() {
    let recorded = require!(recorded());
    assert_eq!(recorded.len(), ROUNDS * LISTENERS.len() * OPERATIONS.len());
    for exchange in recorded {
        let operation = exchange.operation();
        assert_eq!(exchange.request[1], 4, "the hash type: {exchange:?}");
        if operation.names_a_domain() {
            assert_eq!(&exchange.request[4..10], b"node1\0", "its name in clear: {exchange:?}");
        }
        // The list has node1, node2 and the record of zeros.
        let records = if operation == Operation::HostList { 3 } else { 0 };
        assert_eq!(exchange.answer.len(), VERDICT + records * RECORD, "{exchange:?}");
        assert_eq!(exchange.is_list(), operation == Operation::HostList, "{exchange:?}");
        let mut names: Vec<&[u8]> =
            exchange.answer[VERDICT..].chunks(RECORD).map(|record| &record[..5]).collect();
        names.sort_unstable();
        assert!(names.is_empty() || names == [&[0; 5][..], b"node1", b"node2"], "{exchange:?}");
        assert!(exchange.answer.chunks(RECORD).all(|item| item.len() <= RECORD_LEN + 32));
    }
    let distinct = |bytes: &[&[u8]]| bytes.iter().collect::<HashSet<_>>().len() == recorded.len();
    let field = |of: fn(&Exchange) -> &[u8]| recorded.iter().map(of).collect::<Vec<&[u8]>>();
    let fields: [fn(&Exchange) -> &[u8]; 6] = [
        |exchange| &exchange.request[128..144],
        |exchange| &exchange.request[144..],
        |exchange| &exchange.challenge[..32],
        |exchange| &exchange.challenge[32..],
        |exchange| &exchange.proof,
        |exchange| &exchange.answer[1..VERDICT],
    ];
    for (number, of) in fields.into_iter().enumerate() {
        assert!(distinct(&field(of)), "field {number} repeats itself");
    }
    let keys: HashSet<&[u8]> = recorded.iter().map(|exchange| &exchange.request[112..128]).collect();
    assert_eq!(keys.len(), 2, "the ids of both keys");
}
