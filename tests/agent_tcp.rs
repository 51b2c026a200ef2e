//! Our agent over TCP against daemons that stop, forge or stall at any step:
//! the agent never reports success, and never exceeds its timeout.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use common::agent::{AgentRun, OURS};
use common::agent_harness::{AgentHarness, SOON};
use common::peer::Peer;
use common::ready;

#[test]
fn a_daemon_that_hangs_up_anywhere_is_a_failure_at_once() {
    let harness = AgentHarness::new();
    harness.assert_fails("hung up without an answer", drop);
    harness.assert_fails("hung up without an answer", |mut peer| {
        peer.request();
        peer.take::<64>();
    });
    harness.assert_fails("before its answer to our challenge was complete", |mut peer| {
        peer.request();
        let asked = peer.take();
        let answer = *peer.key.answer(peer.auth, &asked).unwrap().as_bytes();
        peer.send(&answer[..63]);
    });
    harness.assert_fails("before its challenge was complete", |mut peer| {
        peer.request();
        let asked = peer.take();
        let answer = *peer.key.answer(peer.auth, &asked).unwrap().as_bytes();
        peer.send(&answer);
        peer.send(&[0xC3; 63]);
    });
    harness.assert_fails("hung up after our answer to its challenge", |mut peer| {
        peer.request();
        peer.authenticate();
    });
    harness.assert_fails("hung up after our answer to its challenge", |mut peer| {
        peer.request();
        peer.prove();
        // Half closed: the daemon sends nothing more.
        peer.stream.shutdown(Shutdown::Write).unwrap();
        peer.rest();
    });
}

#[test]
fn the_agent_proves_itself_to_nobody_without_the_key() {
    let harness = AgentHarness::new();
    for at in [0, 31, 32, 63] {
        let rest = harness.assert_fails("its answer to our challenge is wrong", |mut peer| {
            peer.request();
            let asked = peer.take();
            let mut answer = *peer.key.answer(peer.auth, &asked).unwrap().as_bytes();
            answer[at] ^= 1;
            peer.send(&answer);
            peer.send(&[0xC3; 64]);
            peer.rest()
        });
        assert!(rest.is_empty(), "it gave {rest:?} away");
    }
    // Reflection of its own challenge.
    harness.assert_fails("its answer to our challenge is wrong", |mut peer| {
        peer.request();
        let asked: [u8; 64] = peer.take();
        peer.send(&[asked, asked].concat());
        assert!(peer.rest().is_empty());
    });
    // An answer together with the challenge, before the proof can have arrived.
    harness.assert_fails("it answered too early", |mut peer| {
        peer.request();
        let asked = peer.take();
        let answer = *peer.key.answer(peer.auth, &asked).unwrap().as_bytes();
        peer.send(&[&answer[..], &[0xC3; 64], &[0]].concat());
        peer.rest();
    });
    // An unsolicited success.
    harness.assert_fails("its answer to our challenge is wrong", |mut peer| {
        peer.send(&[0; 128]);
        peer.rest();
    });
    // A challenge that has the form of a request.
    harness.assert_fails("reads as a request", |mut peer| {
        peer.request();
        let asked = peer.take();
        let answer = *peer.key.answer(peer.auth, &asked).unwrap().as_bytes();
        let mut own = [0xC3; 64];
        own[..4].copy_from_slice(&[1, 2, 0, 0]);
        peer.send(&[answer, own].concat());
        assert!(peer.rest().is_empty());
    });
}

#[test]
fn only_bytes_that_answer_are_answers() {
    let harness = AgentHarness::new();
    for byte in [2, 4, 5, 42, 128, 252, 253, 254, 255] {
        harness.assert_fails(&format!("it answered {byte}, which is not a valid answer"), |mut peer| {
            peer.request();
            peer.authenticate();
            peer.send(&[byte]);
            peer.rest();
        });
    }
    harness.assert_fails("more than one answer", |mut peer| {
        peer.request();
        let own = peer.prove();
        let _: [u8; 64] = peer.take();
        let _ = own;
        peer.send(&[0, 0]);
        peer.rest();
    });
    let answer = |byte: u8| {
        move |mut peer: Peer| {
            peer.request();
            peer.authenticate();
            peer.send(&[byte]);
        }
    };
    let (ran, ()) = harness.run("-o list -t 20", answer(0));
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
    let (ran, ()) = harness.run("-o monitor -t 20", answer(3));
    assert_eq!(ran.code, 1, "monitor knows no permission: {ran:?}");
    let (ran, ()) = harness.run("-o off -n node1 -t 20", answer(3));
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("permission denied"), "{ran:?}");
    let (ran, ()) = harness.run("-o off -n node1 -t 20", answer(0));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn a_list_that_is_cut_is_not_printed() {
    let harness = AgentHarness::new();
    let whole = {
        let entry = |name: &str| fence_virt::fence::HostEntry {
            name: name.to_owned(),
            uuid: format!("uuid-{name}"),
            state: fence_virt::fence::PowerState::Off,
        };
        fence_virt::wire::encode_host_list(&[entry("node1"), entry("node2")])
    };
    for length in [1, 2, 131, 261, 300] {
        let piece = whole[..length].to_vec();
        let (ran, ()) = harness.run("-o list -t 20", move |mut peer| {
            peer.request();
            peer.authenticate();
            peer.send(&piece);
        });
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{length}: {ran:?}");
    }
    let (ran, ()) = harness.run("-o list -t 20", move |mut peer| {
        peer.request();
        peer.authenticate();
        // A byte at a time.
        whole.iter().for_each(|byte| peer.send(&[*byte]));
    });
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 2), "{ran:?}");
}

#[test]
fn the_timeout_holds_wherever_a_daemon_stalls() {
    let harness = AgentHarness::new();
    type Script = fn(&mut Peer);
    let stalls: [(&str, Script); 4] = [
        ("did not send a first byte", |peer| {
            peer.request();
        }),
        ("did not send its answer to our challenge", |peer| {
            peer.send(&[1]);
        }),
        ("did not send its answer to the request", |peer| {
            peer.request();
            peer.authenticate();
        }),
        ("did not send its answer to our challenge", |peer| {
            peer.request();
            // Slow bytes without end do not extend the timeout.
            while peer.send_if_open(&[7]) && !peer.is_closed_within(Duration::from_millis(50)) {}
        }),
    ];
    for (words, stall) in stalls {
        let begin = Instant::now();
        let (ran, _) = harness.run("-o off -n node1 -t 1", |mut peer| {
            stall(&mut peer);
            peer.rest()
        });
        let took = begin.elapsed();
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
        assert!(took >= Duration::from_secs(1) && took < SOON, "{took:?}");
        assert!(ran.stderr.contains("timed out after 1 s") && ran.stderr.contains(words), "{ran:?}");
    }
    // An answer after the timeout does not count.
    let (ran, _) = harness.run("-o off -n node1 -t 1", |mut peer| {
        peer.request();
        peer.authenticate();
        assert!(peer.is_closed_within(SOON));
        peer.send_if_open(&[0])
    });
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[test]
fn the_delay_elapses_before_power_and_before_the_timeout_begins() {
    let harness = AgentHarness::new();
    let served = |mut peer: Peer| {
        let arrived = Instant::now();
        peer.request();
        peer.authenticate();
        peer.send(&[0]);
        arrived
    };
    for operation in ["off", "on", "reboot"] {
        let begin = Instant::now();
        let (ran, arrived) = harness.run(&format!("-o {operation} -n node1 -w 2 -t 1"), served);
        assert_eq!(ran.code, 0, "{operation}: {ran:?}");
        assert!(arrived - begin >= Duration::from_secs(2), "{operation}");
    }
    for operation in ["status", "monitor"] {
        let begin = Instant::now();
        let (ran, arrived) = harness.run(&format!("-o {operation} -n node1 -w 3600 -t 20"), served);
        assert_eq!(ran.code, 0, "{operation}: {ran:?}");
        assert!(arrived - begin < SOON, "{operation}");
    }
}

#[test]
fn a_vm_that_the_host_does_not_list_is_said_to_be_unknown() {
    let harness = AgentHarness::new();
    for (name, words) in
        [("ghost", "lists no VM with this name"), ("NODE1", "the daemon's log on the host says why")]
    {
        let ran: AgentRun = thread::scope(|scope| {
            scope.spawn(|| {
                let mut peer = Peer::new(ready(&harness.listener).accept().unwrap().0);
                peer.request();
                peer.authenticate();
                peer.send(&[1]);
                let mut peer = Peer::new(ready(&harness.listener).accept().unwrap().0);
                assert_eq!(peer.request().request.operation, fence_virt::fence::Operation::HostList);
                peer.authenticate();
                let entry = fence_virt::fence::HostEntry {
                    name: "node1".to_owned(),
                    uuid: "u".to_owned(),
                    state: fence_virt::fence::PowerState::Off,
                };
                peer.send(&fence_virt::wire::encode_host_list(&[entry]));
            });
            harness.agent(&format!("-o off -n {name} -t 20")).output().unwrap().into()
        });
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
}

#[test]
fn the_key_is_needed_where_it_is_asked_for() {
    let harness = AgentHarness::new();
    let empty = harness.dir.write("empty", "");
    harness.listener.set_nonblocking(true).unwrap();
    for (path, words) in [
        ("/nonexistent/key", "cannot read the key file /nonexistent/key"),
        (empty.to_str().unwrap(), "is empty"),
        (harness.dir.path("").to_str().unwrap(), "cannot read the key file"),
    ] {
        for more in ["", "-c none", "-C none"] {
            for action in ["off", "validate-all"] {
                let ran: AgentRun = harness
                    .agent(&format!("-o {action} -n node1 -t 2 -k {path} {more}"))
                    .output()
                    .unwrap()
                    .into();
                assert_eq!(ran.code, 1, "{path} {more}: {ran:?}");
                assert!(ran.stderr.contains(words), "{ran:?}");
            }
        }
    }
    assert!(harness.listener.accept().is_err(), "nothing was sent");
    let ran: AgentRun = harness.agent("-o validate-all -n node1").output().unwrap().into();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let ran: AgentRun =
        harness.agent("-o validate-all -n node1 -k /nonexistent -c none -C none").output().unwrap().into();
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran: AgentRun = harness.agent("-o validate-all").output().unwrap().into();
    assert_eq!(ran.code, 1, "it needs a VM: {ran:?}");
    assert!(harness.listener.accept().is_err(), "validate-all talks to nobody");
}

#[test]
fn steps_are_told_with_d_and_only_then() {
    let harness = AgentHarness::new();
    let served = |mut peer: Peer| {
        peer.request();
        peer.authenticate();
        peer.send(&[0]);
    };
    let (ran, ()) = harness.run("-o status -n node1 -t 20 -d", served);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "Status: ON\n"));
    for words in ["status via tcp", "4096 bytes", "connecting to", "waiting for a first byte", "success"] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    let (ran, ()) = harness.run("-o status -n node1 -t 20", served);
    assert_eq!(ran.stderr, "");
}

#[test]
fn all_addresses_of_a_name_are_tried() {
    // localhost is ::1 and 127.0.0.1 on most machines; the harness listens on 127.0.0.1 only.
    let harness = AgentHarness::new();
    let served = |mut peer: Peer| {
        peer.request();
        peer.authenticate();
        peer.send(&[0]);
    };
    let (ran, ()) = harness.run("-o status -n node1 -t 20 -T localhost -d", served);
    assert_eq!(ran.code, 0, "{ran:?}");
    let port = harness.listener.local_addr().unwrap().port();
    drop(harness.listener);
    let ran: AgentRun = std::process::Command::new(OURS)
        .args(["-T", "127.0.0.1", "-p", &port.to_string(), "-o", "off", "-n", "a", "-t", "5", "-c", "none"])
        .args(["-C", "none"])
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("Connection refused") && ran.stderr.contains("is fence_virtd running"),
        "{ran:?}"
    );
    let ran: AgentRun = std::process::Command::new(OURS)
        .args(["-T", "no-such-host.invalid", "-o", "off", "-n", "a", "-t", "5", "-c", "none", "-C", "none"])
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("no-such-host.invalid"), "{ran:?}");
}
