//! The life of a large cluster, stage by stage.

use fence_virt::fence::Operation;
use fence_virt::routing::RESYNC_EVERY;

use std::time::Duration;

use crate::group::{Cost, Group, SETTLED};

/// Time between joins of hosts that start together.
const BETWEEN_JOINS: Duration = Duration::from_millis(20);
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
    let stages: [Stage<'_>; 9] = [
        ("all but one join, one by one", &|group| {
            for _ in 1..nodes {
                group.join_next();
                group.pass(BETWEEN_JOINS);
            }
            group.pass(SETTLED);
        }),
        ("the last one joins", &|group| {
            group.join_next();
            group.pass(SETTLED);
        }),
        ("a daemon is restarted", &Group::restart_first),
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
        ("the halves meet again", &|group| {
            group.heal();
            group.pass(SETTLED);
        }),
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
