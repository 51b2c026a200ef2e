use super::*;
use crate::auth::HashKind;
use PowerState::{Off, Running};
use VmListing::{Absent, Listed, Unknown};

fn address(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn listing((at, vm): (usize, &VmListing)) -> HostListing {
    HostListing { host: Some(address(at as u8 + 1)), vm: *vm }
}

/// Judges lists of the hosts 1, 2, ..., of which 1 gave the answer.
fn found(lists: &[VmListing]) -> Whereabouts {
    let listings: Vec<HostListing> = lists.iter().enumerate().map(listing).collect();
    find(&listings, Some(address(1)))
}

/// The answer counts, and these hosts are named.
fn named(lists: &[VmListing], hosts: &[u8]) {
    let Whereabouts::Elsewhere(others) = found(lists) else { panic!("{lists:?}: {:?}", found(lists)) };
    let addresses: Vec<Option<IpAddr>> = hosts.iter().map(|host| Some(address(*host))).collect();
    assert_eq!(others.iter().map(|other| other.host).collect::<Vec<_>>(), addresses, "{lists:?}");
}

#[test]
fn the_only_other_host_that_runs_the_vm_is_asked() {
    assert_eq!(found(&[Absent, Listed(Running)]), Whereabouts::At(address(2)));
    assert_eq!(found(&[Absent, Absent, Listed(Running), Listed(Off)]), Whereabouts::At(address(3)));
}

#[test]
fn an_answer_stands_where_its_host_has_the_vm_or_has_sent_no_list() {
    for state in [Running, Off] {
        for others in [&[][..], &[Absent], &[Unknown], &[Listed(Running)], &[Listed(Off)]] {
            let lists = [&[Listed(state)], others].concat();
            assert_eq!(found(&lists), Whereabouts::Stands, "{lists:?}");
        }
    }
    for others in [&[][..], &[Absent], &[Unknown]] {
        assert_eq!(found(&[&[Unknown], others].concat()), Whereabouts::Stands);
    }
    assert_eq!(found(&[]), Whereabouts::Stands);
    named(&[Unknown, Listed(Running)], &[2]);
    named(&[Unknown, Listed(Off), Absent], &[2]);
    let without_own = [HostListing { host: Some(address(2)), vm: Listed(Running) }];
    assert_eq!(find(&without_own, Some(address(1))), Whereabouts::Elsewhere(without_own.to_vec()));
}

#[test]
fn a_host_where_the_vm_is_off_is_not_asked() {
    named(&[Absent, Listed(Off)], &[2]);
    named(&[Absent, Absent, Listed(Off)], &[3]);
}

#[test]
fn no_host_is_asked_while_another_one_has_sent_no_list() {
    named(&[Absent, Listed(Running), Unknown], &[2, 3]);
    named(&[Absent, Unknown, Absent, Listed(Running)], &[2, 4]);
}

#[test]
fn neither_of_several_is_asked() {
    named(&[Absent, Listed(Running), Listed(Running)], &[2, 3]);
    named(&[Absent, Listed(Off), Listed(Off)], &[2, 3]);
}

#[test]
fn a_vm_that_nobody_lists() {
    let nowhere = |hosts: &[u8]| Whereabouts::Nowhere(hosts.iter().map(|host| address(*host)).collect());
    assert_eq!(found(&[Absent]), nowhere(&[1]));
    assert_eq!(found(&[Absent, Unknown, Absent]), nowhere(&[1, 3]));
    let one = [HostListing { host: None, vm: Absent }];
    assert_eq!(find(&one, None), Whereabouts::Nowhere(Vec::new()));
}

#[test]
fn answers_that_are_enough() {
    let tcp = Transport::Tcp { host: "192.0.2.1".to_owned(), port: 1229 };
    let framing = crate::client::serial_params::parse("9600,8N1").unwrap();
    let serial = Transport::Serial { device: "/dev/ttyS1".into(), framing };
    let old = SignatureKind::Hash(HashKind::Sha256);
    let new = SignatureKind::HmacSha256;
    for operation in Operation::ALL {
        let is_status = operation == Operation::Status;
        for transport in [&tcp, &serial] {
            for hash in [old, new] {
                assert!(!is_open(Verdict::Success, operation, hash, transport));
                assert!(!is_open(Verdict::Denied, operation, hash, transport), "a denial stands");
            }
            assert_eq!(is_open(Verdict::Failure, operation, old, transport), operation.is_power());
            assert_eq!(
                is_open(Verdict::Failure, operation, new, transport),
                operation.is_power() || is_status
            );
        }
        assert_eq!(is_open(Verdict::Off, operation, old, &tcp), is_status);
        assert!(!is_open(Verdict::Off, operation, new, &tcp), "the host has the VM");
        assert!(!is_open(Verdict::Off, operation, old, &serial), "a list is slow there");
    }
}

#[test]
fn half_of_the_time_is_left_for_a_second_request() {
    let begin = Instant::now();
    let after = Duration::from_secs;
    assert_eq!(lists_end(begin, after(5), begin + after(60)), begin + after(5));
    assert_eq!(lists_end(begin, after(5), begin + after(4)), begin + after(2));
    assert_eq!(lists_end(begin + after(1), after(5), begin), begin + after(1), "none is left");
}
