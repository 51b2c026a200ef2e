//! The life of a large cluster, stage by stage.

use fence_virt::fence::Operation;
use fence_virt::routing::RESYNC_EVERY;

use crate::group::{Cost, Group};

/// Requests for VMs of hosts that are lost.
const LOST_REQUESTS: usize = 1000;
/// Requests to each node for VMs that have vanished.
const GONE_REQUESTS: usize = 5;

type Stage<'a> = (&'static str, &'a dyn Fn(&mut Group));

/// Stage with its cost, and a figure of the caller that was taken around it.
pub type Measured<T> = (&'static str, Cost, T);

/// Lets a cluster go through all stages; `around` runs each.
pub fn run<T>(nodes: usize, vms_each: usize, around: impl Fn(&mut dyn FnMut()) -> T) -> Vec<Measured<T>> {
    let mut group = Group::new(nodes, vms_each);
    let stages: [Stage<'_>; 8] = [
        ("all but one join, one by one", &|group| (1..nodes).for_each(|_| group.join_next())),
        ("the last one joins", &Group::join_next),
        ("all advertise again", &|group| group.pass(RESYNC_EVERY)),
        ("a status from each", &|group| {
            (0..nodes).for_each(|at| group.ask(at, Operation::Status, (at + 1) % nodes, 0));
            group.settle();
        }),
        ("half are cut off", &Group::lose_half),
        ("1000 offs of lost VMs", &|group| {
            (0..LOST_REQUESTS).for_each(|vm| group.ask(0, Operation::Off, nodes - 1, vm));
            group.settle();
        }),
        ("the halves meet again", &Group::heal),
        ("5 vanished VMs from each", &|group| {
            group.remove_one_each();
            for at in 0..nodes {
                (0..GONE_REQUESTS).for_each(|next| group.ask(at, Operation::Status, (at + next) % nodes, 0));
            }
            group.settle();
        }),
    ];
    let mut measure = |&(name, stage): &Stage<'_>| {
        let figure = around(&mut || stage(&mut group));
        (name, std::mem::take(&mut group.cost), figure)
    };
    stages.iter().map(&mut measure).collect()
}
