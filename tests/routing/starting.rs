//! A node that has just started.

use fence_virt::fence::{PowerState, UriIndex};
use fence_virt::routing::{ClusterList, Membership, Router, TELL_LIMIT};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::{ClusterMessage, RequestNumber};

use crate::node::{RULES, local, peer};

/// Node 2, which has joined a group whose other member has told that it has no VM.
fn joined(now: Instant) -> Router {
    let mut router = Router::new(RULES, 1, RequestNumber(100));
    router.joined(peer(2), now);
    let members = vec![peer(1), peer(2)];
    router.changed(&Membership { members: members.clone(), left: Vec::new(), joined: members }, now);
    for is_complete in [false, true] {
        router.heard(peer(1), &ClusterMessage::Hello { is_complete }.encode(), now, false, now);
    }
    router
}

fn count(list: &ClusterList) -> Option<usize> {
    match list {
        ClusterList::Complete(vms) => Some(vms.len()),
        ClusterList::RetryAt(_) | ClusterList::NotJoined(_) => None,
    }
}

#[test]
fn a_list_waits_until_libvirt_has_listed_the_vms_here() {
    let now = Instant::now();
    let mut router = joined(now);
    assert_eq!(count(&router.list(now)), None);
    router.listed(UriIndex(0), vec![local(9, PowerState::Running)], now);
    assert_eq!(count(&router.list(now)), Some(1));
    // libvirt may be away.
    assert_eq!(count(&joined(now).list(now + TELL_LIMIT)), Some(0));
    router.unlisted(UriIndex(0));
    assert_eq!(count(&router.list(now + TELL_LIMIT)), Some(1));
}
