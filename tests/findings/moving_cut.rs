//! A partition that changes sides before any host is fenced.

use fence_virt::fence::{Operation, PowerState, Verdict};

use crate::group::Group;
use crate::node::{SECOND, local};

use Operation::{Off, Reboot, Status};

/// vm9 runs on node 1, which keeps its definition, and moves to node 2 while node 3 is cut off. Then node
/// 2 is cut off instead, and nobody has fenced it.
fn moved_while_another_was_cut_off() -> Group {
    let vm = local(9, PowerState::Running);
    let mut group = Group::new(vec![(1, vec![vm.clone()]), (2, Vec::new()), (3, Vec::new())]);
    group.form(&[&[1, 2, 3]]);
    group.passes(10 * SECOND);
    group.form(&[&[1, 2], &[3]]);
    group.passes(10 * SECOND);
    group.migrate(&vm, 1, 2);
    group.form(&[&[1, 3], &[2]]);
    group.passes(10 * SECOND);
    group
}

#[test]
fn a_vm_that_moved_while_this_node_was_cut_off_may_run_where_it_went() {
    for operation in [Status, Off, Reboot] {
        for asked in [1, 3] {
            let verdict = moved_while_another_was_cut_off().outcome(asked, operation, "vm9");
            assert_eq!(verdict, Verdict::Failure, "{operation}, asked of node {asked}");
        }
    }
}
