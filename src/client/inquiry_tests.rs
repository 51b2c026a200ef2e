use super::*;
use PowerState::{Off, Running};
use VmListing::{Absent, Listed, Stale, Unknown};

fn address(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

/// Judges lists of the hosts 1, 2, ..., of which 1 gave the verdict.
fn found(verdict: Verdict, lists: &[VmListing]) -> Whereabouts {
    let listing = |(at, vm): (usize, &VmListing)| HostListing { host: Some(address(at as u8 + 1)), vm: *vm };
    let listings: Vec<HostListing> = lists.iter().enumerate().map(listing).collect();
    find(&listings, Some(address(1)), verdict)
}

#[test]
fn the_host_that_runs_the_vm_has_the_word() {
    for verdict in [Verdict::Failure, Verdict::Off, Verdict::Denied] {
        for others in [&[][..], &[Absent], &[Listed(Running)], &[Listed(Off), Listed(Running)]] {
            let lists = [&[Listed(Running)], others].concat();
            assert_eq!(found(verdict, &lists), Whereabouts::Stands, "{verdict} {lists:?}");
        }
        for own in [Absent, Unknown, Listed(Off)] {
            let lists = [own, Absent, Listed(Running), Listed(Off)];
            assert_eq!(found(verdict, &lists), Whereabouts::At(address(3)), "{verdict} {own:?}");
        }
    }
}

#[test]
fn a_host_where_the_vm_is_off_is_asked_only_if_the_first_one_has_none() {
    assert_eq!(found(Verdict::Failure, &[Absent, Listed(Off)]), Whereabouts::At(address(2)));
    assert_eq!(found(Verdict::Off, &[Absent, Unknown, Listed(Off)]), Whereabouts::At(address(3)));
    for own in [Listed(Off), Unknown] {
        assert_eq!(
            found(Verdict::Failure, &[own, Listed(Off)]),
            Whereabouts::Stands,
            "it may run at the first"
        );
        assert_eq!(found(Verdict::Off, &[own, Listed(Off)]), Whereabouts::Stands);
    }
    for own in [Absent, Unknown, Listed(Off)] {
        assert_eq!(found(Verdict::Denied, &[own, Listed(Off)]), Whereabouts::At(address(2)), "{own:?}");
    }
}

#[test]
fn a_vm_that_nobody_lists() {
    let nowhere =
        |hosts: &[u8]| Whereabouts::Nowhere(hosts.iter().map(|host| Some(address(*host))).collect());
    for verdict in [Verdict::Failure, Verdict::Off] {
        assert_eq!(found(verdict, &[Absent]), nowhere(&[1]));
        assert_eq!(found(verdict, &[Absent, Unknown, Absent]), nowhere(&[1, 3]));
        assert_eq!(found(verdict, &[Unknown, Absent]), Whereabouts::Stands, "the first proves nothing");
        assert_eq!(found(verdict, &[]), Whereabouts::Stands);
    }
    assert_eq!(found(Verdict::Denied, &[Absent, Absent]), Whereabouts::Stands, "denied, not unknown");
    let one = [HostListing { host: None, vm: Absent }];
    assert_eq!(find(&one, None, Verdict::Failure), Whereabouts::Nowhere(vec![None]));
}

#[test]
fn neither_of_several_is_asked() {
    let several = Whereabouts::AtSeveral(vec![address(2), address(3)]);
    assert_eq!(found(Verdict::Failure, &[Absent, Listed(Running), Listed(Running)]), several);
    assert_eq!(found(Verdict::Failure, &[Absent, Listed(Off), Listed(Off)]), several);
}

#[test]
fn nothing_is_asked_of_anybody_if_one_may_have_carried_out_the_first_request() {
    for lists in [&[Absent, Stale][..], &[Absent, Stale, Listed(Running)], &[Listed(Running), Stale]] {
        assert_eq!(found(Verdict::Failure, lists), Whereabouts::Doubtful(address(2)), "{lists:?}");
    }
}

#[test]
fn answers_that_are_enough() {
    for operation in Operation::ALL {
        for has_others in [false, true] {
            assert!(!is_open(Verdict::Success, operation, has_others));
            assert_eq!(is_open(Verdict::Failure, operation, has_others), operation.is_power());
        }
        assert!(!is_open(Verdict::Denied, operation, false));
    }
    assert!(!is_open(Verdict::Denied, Operation::HostList, true));
    assert!(!is_open(Verdict::Failure, Operation::Devstatus, true));
}
