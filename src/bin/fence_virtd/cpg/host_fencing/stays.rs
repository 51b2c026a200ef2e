//! Stays of the hosts in the cluster, as the worker hears of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fence_virt::routing::Membership;
use fence_virt::time::Instant;
use fence_virt::wire::cluster::NodeId;

/// Time for which a host that was fenced may still be up by the quorum service's reports: its loss is noticed
/// after corosync's token and consensus timeouts. One that stays longer was not off.
const UP_AFTER_FENCE_MAX: Duration = Duration::from_secs(60);

/// Number of a stay in the cluster: from the time at which a host appears there, past its loss, until it
/// appears again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StayNumber(pub(super) u64);

/// A fence of a host, made after that stay began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FencedStay {
    pub(super) node: NodeId,
    pub(super) stay: StayNumber,
    /// Time at which it was known.
    pub(super) at: Instant,
}

#[derive(Debug)]
struct HostStay {
    number: StayNumber,
    is_up: bool,
    /// Time at which it was known to be fenced in this stay, while that is not reported yet.
    fenced_at: Option<Instant>,
}

/// All hosts that were up since this one joined the cluster, but for this one.
#[derive(Debug, Default)]
pub(super) struct StayTable {
    me: Option<NodeId>,
    hosts: BTreeMap<NodeId, HostStay>,
    /// Nodes with a member of the group.
    members: BTreeSet<NodeId>,
    last: u64,
}

impl StayTable {
    /// Begins anew: this node joins the cluster.
    pub(super) fn join(&mut self, me: NodeId) {
        self.leave();
        self.me = Some(me);
    }

    /// Forgets all hosts: this node is no longer in the cluster.
    pub(super) fn leave(&mut self) {
        self.me = None;
        self.hosts.clear();
        self.members.clear();
    }

    /// Applies a report of the quorum service.
    pub(super) fn votes(&mut self, nodes: &[NodeId]) {
        let nodes: BTreeSet<NodeId> = nodes.iter().copied().collect();
        for (node, host) in &mut self.hosts {
            host.is_up &= nodes.contains(node);
        }
        for node in nodes {
            if !self.hosts.get(&node).is_some_and(|host| host.is_up) {
                self.begin_stay(node);
            }
        }
    }

    /// Applies a change of the group. A host whose daemon joins may have been off before.
    pub(super) fn changed(&mut self, change: &Membership) {
        self.members = change.members.iter().map(|peer| peer.node).collect();
        for peer in &change.joined {
            if self.hosts.contains_key(&peer.node) {
                self.begin_stay(peer.node);
            }
        }
    }

    /// Forgets the fences that are not reported yet.
    pub(super) fn forget_fences(&mut self) {
        self.hosts.values_mut().for_each(|host| host.fenced_at = None);
    }

    fn begin_stay(&mut self, node: NodeId) {
        if self.me == Some(node) {
            return;
        }
        self.last += 1;
        let number = StayNumber(self.last);
        self.hosts.insert(node, HostStay { number, is_up: true, fenced_at: None });
    }

    /// Notes that a host was fenced, unless it has appeared again since.
    pub(super) fn fenced(&mut self, fence: FencedStay) {
        if let Some(host) = self.hosts.get_mut(&fence.node).filter(|host| host.number == fence.stay) {
            host.fenced_at = Some(fence.at);
        }
    }

    /// Takes the hosts that were fenced and are lost, by what the quorum service and the group say: each of them
    /// may be the first to say it.
    pub(super) fn take_fenced(&mut self, now: Instant) -> Vec<NodeId> {
        let mut fenced = Vec::new();
        for (&node, host) in &mut self.hosts {
            host.fenced_at.take_if(|at| host.is_up && now > *at + UP_AFTER_FENCE_MAX);
            let is_lost = !host.is_up && !self.members.contains(&node);
            if is_lost && host.fenced_at.take().is_some() {
                fenced.push(node);
            }
        }
        fenced
    }

    /// Current stays of all hosts.
    pub(super) fn stays(&self) -> BTreeMap<NodeId, StayNumber> {
        self.hosts.iter().map(|(&node, host)| (node, host.number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::routing::Peer;

    const SECOND: Duration = Duration::from_secs(1);

    struct Bench {
        table: StayTable,
        now: Instant,
    }

    impl Bench {
        /// Node 2 with nodes 1 and 3.
        fn new() -> Bench {
            let mut table = StayTable::default();
            table.join(NodeId(2));
            let mut bench = Bench { table, now: Instant::from_boot(1000 * SECOND) };
            bench.votes(&[1, 2, 3]);
            bench
        }

        fn votes(&mut self, nodes: &[u32]) {
            let nodes: Vec<NodeId> = nodes.iter().copied().map(NodeId).collect();
            self.table.votes(&nodes);
        }

        fn stay(&self) -> StayNumber {
            self.table.stays()[&NodeId(1)]
        }

        /// Node 1 was fenced in this stay.
        fn fenced(&mut self, stay: StayNumber) {
            self.table.fenced(FencedStay { node: NodeId(1), stay, at: self.now });
        }

        /// The group has these members, of which the daemon of node 1 has just joined.
        fn joins_1(&mut self) {
            self.changes(&[1, 2, 3], &[1]);
        }

        fn changes(&mut self, members: &[u32], joined: &[u32]) {
            let peers =
                |nodes: &[u32]| nodes.iter().map(|&node| Peer { node: NodeId(node), pid: node }).collect();
            let (members, joined) = (peers(members), peers(joined));
            self.table.changed(&Membership { members, left: Vec::new(), joined });
        }

        fn takes(&mut self) -> Vec<NodeId> {
            self.table.take_fenced(self.now)
        }
    }

    #[test]
    fn a_fence_is_reported_once_and_not_before_the_loss() {
        let mut bench = Bench::new();
        assert_eq!(bench.table.stays().into_keys().collect::<Vec<_>>(), [NodeId(1), NodeId(3)]);
        bench.fenced(bench.stay());
        assert_eq!(bench.takes(), []);
        bench.now += UP_AFTER_FENCE_MAX;
        bench.votes(&[2, 3]);
        assert_eq!(bench.takes(), [NodeId(1)]);
        assert_eq!(bench.takes(), []);
        // It is fenced again.
        bench.fenced(bench.stay());
        assert_eq!(bench.takes(), [NodeId(1)]);
    }

    #[test]
    fn a_fence_after_which_the_host_stays_up_is_none() {
        let mut bench = Bench::new();
        bench.fenced(bench.stay());
        bench.now += UP_AFTER_FENCE_MAX + SECOND;
        assert_eq!(bench.takes(), []);
        bench.votes(&[2, 3]);
        assert_eq!(bench.takes(), []);
    }

    #[test]
    fn a_fence_of_an_earlier_stay_is_none() {
        // The host is back: the quorum service says so, or its daemon has joined.
        let back: [fn(&mut Bench); 2] = [|bench| bench.votes(&[1, 2, 3]), Bench::joins_1];
        for is_back in back {
            let mut bench = Bench::new();
            let stay = bench.stay();
            bench.votes(&[2, 3]);
            assert_eq!(bench.stay(), stay, "a loss ends no stay");
            is_back(&mut bench);
            assert_ne!(bench.stay(), stay);
            bench.fenced(stay);
            bench.changes(&[2, 3], &[]);
            bench.votes(&[2, 3]);
            assert_eq!(bench.takes(), []);
        }
        // It was fenced, and is back before that was reported.
        let mut bench = Bench::new();
        bench.fenced(bench.stay());
        bench.joins_1();
        bench.changes(&[2, 3], &[]);
        bench.votes(&[2, 3]);
        assert_eq!(bench.takes(), []);
    }

    #[test]
    fn a_loss_counts_once_the_quorum_service_and_the_group_have_said_it() {
        let says: [fn(&mut Bench); 2] = [|bench| bench.votes(&[2, 3]), |bench| bench.changes(&[2, 3], &[])];
        for [first, second] in [says, [says[1], says[0]]] {
            let mut bench = Bench::new();
            bench.changes(&[1, 2, 3], &[]);
            bench.fenced(bench.stay());
            first(&mut bench);
            assert_eq!(bench.takes(), []);
            second(&mut bench);
            assert_eq!(bench.takes(), [NodeId(1)]);
        }
    }

    #[test]
    fn fences_that_are_not_reported_can_be_forgotten() {
        let mut bench = Bench::new();
        bench.fenced(bench.stay());
        bench.table.forget_fences();
        bench.votes(&[2, 3]);
        assert_eq!(bench.takes(), []);
        bench.fenced(bench.stay());
        assert_eq!(bench.takes(), [NodeId(1)]);
    }

    #[test]
    fn a_host_that_leaves_the_cluster_and_rejoins_knows_nothing() {
        let mut bench = Bench::new();
        let stay = bench.stay();
        bench.table.leave();
        bench.fenced(stay);
        bench.joins_1();
        assert!(bench.table.stays().is_empty(), "the quorum service has not said that it is up");
        bench.table.join(NodeId(2));
        bench.votes(&[1, 2]);
        assert_ne!(bench.stay(), stay);
        bench.fenced(stay);
        bench.votes(&[2]);
        assert_eq!(bench.takes(), []);
    }
}
