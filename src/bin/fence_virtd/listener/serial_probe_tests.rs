//! Probes over a line: counted apart, one line of the log for debugging.

use super::*;
use crate::logging::{captured, captured_for_debugging};
use fence_virt::session::{SyncProbe, nobody};

/// Questions of a probe that asks for this name.
fn probe(name: u32) -> Vec<Request> {
    SyncProbe::new(77).requests(&Target::new(nobody(name).as_bytes()).unwrap(), name)
}

impl World {
    fn counts(&self) -> &Counts {
        self.lines().dispatcher.log.counts()
    }

    /// Sends requests of a guest, and answers each as the backend does where there is no such VM.
    fn ask_in_a_row(&mut self, guest: &mut UnixStream, requests: &[Request], status: Verdict) {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| encode_line_request(request, 0)).collect();
        guest.write_all(&bytes).unwrap();
        for request in requests {
            let job = self.job();
            assert_eq!(job.request, *request);
            let verdict = if request.operation == Operation::Status { status } else { Verdict::Failure };
            self.answer(job, verdict);
        }
        read(guest, 5 * requests.len());
    }
}

#[test]
fn a_probe_is_one_line_for_debugging_and_counted_apart() {
    let mut world = World::new(64);
    let mut guest = world.line(0, 1);
    captured();
    world.ask_in_a_row(&mut guest, &probe(1), Verdict::Off);
    world.ask_in_a_row(&mut guest, &probe(2), Verdict::Denied);
    let row = |name| {
        let vm = "vm1 (01010101-0101-0101-0101-010101010101)";
        format!("DEBUG: serial: {vm}: probes for late answers ({})", nobody(name))
    };
    assert_eq!(captured_for_debugging(), [row(1), row(2)]);
    let counts = world.counts();
    assert_eq!((counts.probes(), counts.requests(), counts.refusals()), (24, Vec::new(), Vec::new()));
    assert!(counts.journal().records().is_empty());
}

#[test]
fn what_touches_a_vm_is_logged_however_it_is_named() {
    let mut world = World::new(8);
    let mut guest = world.line(0, 1);
    captured();
    let target = Target::new(nobody(1).as_bytes()).unwrap();
    let off = Request { operation: Operation::Off, target: target.clone(), seqno: 1 };
    world.ask_in_a_row(&mut guest, &[off], Verdict::Off);
    let lines = captured();
    assert!(lines.len() == 1 && lines[0].contains("off \"no-vm-00000001\": failure"), "{lines:?}");
    // A VM that has such a name and runs.
    let status = Request { operation: Operation::Status, target, seqno: 2 };
    world.ask_in_a_row(&mut guest, &[status], Verdict::Success);
    let lines = captured();
    assert!(lines.len() == 1 && lines[0].contains("status \"no-vm-00000001\": success"), "{lines:?}");
    assert_eq!((world.counts().probes(), world.counts().journal().records().len()), (0, 1));
}

#[test]
fn a_flood_of_probes_is_limited_and_shows() {
    let mut world = World::new(1);
    let (mut first, mut second) = (world.line(0, 1), world.line(1, 2));
    captured();
    // It fills the queue of the worker.
    first.write_all(&request(Operation::Status, 1)).unwrap();
    world.turn();
    let questions = probe(3);
    second.write_all(&encode_line_request(&questions[0], 0)).unwrap();
    // The failure comes by mail.
    (0..2).for_each(|_| world.turn());
    assert_eq!(read(&mut second, 5), b"abba\x01");
    let lines = captured();
    assert!(lines.iter().any(|line| line.contains("refused: the worker's queue is full")), "{lines:?}");
    assert_eq!(world.counts().refusals().len(), 1);
    assert_eq!(world.counts().probes(), 0);
}
