//! State of corosync, queried without joining the group.

use std::thread;
use std::time::Duration;

use super::process::RunningDaemon;
use crate::backends;
use crate::tools::finding::{Finding, Level, listed};
use crate::tools::service_reply::{NoReply, REPLY_TIMEOUT, ServiceReply};
use fence_virt::config::BackendConfig;
use fence_virt::sys::corosync::{self, ClusterEvent, CorosyncError, GroupHandle, Libraries};
use fence_virt::sys::error_text;
use fence_virt::sys::poll::{Interest, PollSet};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::GROUP;

const ABOUT: &str = "backend cpg";

/// Time limit of corosync's first quorum notification.
const QUORUM_TIMEOUT: Duration = Duration::from_secs(2);

/// State of corosync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClusterReport {
    /// Id of this node.
    node: u32,
    /// True if this partition is quorate, and its nodes; none without a quorum provider.
    quorum: Option<(bool, Vec<u32>)>,
    /// Members of the daemons' group: node and process id.
    members: Result<Vec<(u32, u32)>, String>,
}

/// Queries corosync. Blocks while corosync hangs.
pub(super) fn query() -> Result<ClusterReport, String> {
    let libraries = Libraries::open()?;
    // libquorum needs a larger stack than threads have.
    let builder = thread::Builder::new().stack_size(corosync::STACK_SIZE);
    let thread = builder
        .spawn(move || ask(&libraries).map_err(|error| error.to_string()))
        .map_err(|error| format!("cannot start a thread: {}", error_text(&error)))?;
    thread.join().unwrap_or_else(|_| Err("its thread panicked".to_owned()))
}

fn ask(libraries: &Libraries) -> Result<ClusterReport, CorosyncError> {
    let mut observer = GroupHandle::connect(libraries)?;
    let quorum = await_quorum(&mut observer)?;
    let members = observer.members(GROUP).map_err(|error| error.to_string());
    Ok(ClusterReport { node: observer.node(), quorum, members })
}

fn await_quorum(observer: &mut GroupHandle) -> Result<Option<(bool, Vec<u32>)>, CorosyncError> {
    let end = Instant::now() + QUORUM_TIMEOUT;
    let mut heard = Vec::new();
    loop {
        observer.dispatch(64, &mut heard)?;
        let newest = heard.iter().rev().find_map(|heard| match heard {
            ClusterEvent::Quorum { is_quorate, nodes } => Some((*is_quorate, nodes.clone())),
            _ => None,
        });
        let left = end.saturating_duration_since(Instant::now());
        if newest.is_some() || left.is_zero() {
            return Ok(newest);
        }
        let mut set = PollSet::new();
        for fd in observer.fds() {
            set.add(fd, Interest::Read);
        }
        if set.wait(Some(left)).is_err() {
            return Ok(None);
        }
    }
}

pub(super) fn judge(
    backend: &BackendConfig,
    reply: &ServiceReply<ClusterReport>,
    running: Option<RunningDaemon>,
) -> Vec<Finding> {
    let mut findings = match reply {
        Ok(cluster) => judge_cluster(cluster, running),
        Err(why) => vec![unanswered(backend, why)],
    };
    let delay = backends::warn_of_delay(backend);
    findings.extend(delay.map(|problem| Finding::of(Level::Warning, ABOUT, problem)));
    findings
}

fn unanswered(backend: &BackendConfig, why: &NoReply) -> Finding {
    if let Err(reason) = backends::check(backend) {
        let remedy = "install that package, or set backend = \"libvirt\" if the hosts are not a cluster";
        return Finding::error(ABOUT, reason, remedy);
    }
    match why {
        NoReply::Failed(reason) => {
            let remedy = "run `systemctl start corosync`; `corosync-quorumtool` and `journalctl -u corosync` show what is wrong";
            Finding::error(ABOUT, reason, remedy)
        }
        NoReply::TimedOut => {
            let what = format!("corosync does not answer within {} s", REPLY_TIMEOUT.as_secs());
            Finding::error(ABOUT, what, "check why it hangs (`journalctl -u corosync`), or restart it")
        }
    }
}

fn judge_cluster(cluster: &ClusterReport, running: Option<RunningDaemon>) -> Vec<Finding> {
    let node = cluster.node;
    let quorum = match &cluster.quorum {
        Some((true, nodes)) => Finding::ok(
            ABOUT,
            format!("corosync is running: this is node {node}, quorate with nodes {}", listed(nodes)),
        ),
        Some((false, nodes)) => Finding::warning(
            ABOUT,
            format!("this partition of the cluster (node {node}; nodes {}) has no quorum", listed(nodes)),
            "bring the other hosts back: `corosync-quorumtool` shows the votes; until then VMs of lost hosts cannot be fenced",
        ),
        None => Finding::warning(
            ABOUT,
            format!(
                "corosync is running: this is node {node}, without a quorum provider, which counts as no quorum"
            ),
            "set quorum { provider: corosync_votequorum } in corosync.conf on each host, and restart corosync",
        ),
    };
    vec![quorum, judge_group(cluster, running)]
}

fn judge_group(cluster: &ClusterReport, running: Option<RunningDaemon>) -> Finding {
    let members = match &cluster.members {
        Ok(members) => members,
        Err(reason) => {
            let what = format!("cannot list the members of group {GROUP}: {reason}");
            return Finding::note(ABOUT, what, "run this again in a moment");
        }
    };
    if let Some(RunningDaemon { pid, .. }) = running.filter(|it| !members.contains(&(cluster.node, it.pid))) {
        let what = format!("the running daemon (process {pid}) is not in group {GROUP}");
        let remedy = "it joins automatically when corosync allows it; its log shows what is wrong";
        return Finding::warning(ABOUT, what, remedy);
    }
    if members.is_empty() {
        return Finding::note(
            ABOUT,
            format!("group {GROUP} has no members"),
            "start fence_virtd on each host",
        );
    }
    let shown = listed(members.iter().map(|(node, pid)| format!("node {node} (process {pid})")));
    Finding::ok(ABOUT, format!("members of group {GROUP}: {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::finding::shown;

    fn judged(change: impl Fn(&mut ClusterReport), running: Option<u32>) -> Vec<(Level, String)> {
        let members = Ok(vec![(1, 7), (2, 8)]);
        let mut cluster = ClusterReport { node: 1, quorum: Some((true, vec![1, 2])), members };
        change(&mut cluster);
        let running = running.map(|pid| RunningDaemon { pid, uid: Some(0) });
        shown(judge_cluster(&cluster, running))
    }

    #[test]
    fn quorum_and_members() {
        let found = judged(|_| (), Some(7));
        assert!(found.len() == 2 && found.iter().all(|found| found.0 == Level::Ok), "{found:?}");
        let members = "members of group fence-agents: node 1 (process 7), node 2 (process 8)";
        assert!(found[1].1.contains(members), "{found:?}");
        assert_eq!(judged(|cluster| cluster.quorum = Some((false, vec![1])), None)[0].0, Level::Warning);
        assert_eq!(judged(|cluster| cluster.quorum = None, None)[0].0, Level::Warning);
    }

    #[test]
    fn a_daemon_that_is_not_in_the_group() {
        // The same process id on another node is another process.
        assert_eq!(judged(|_| (), Some(8))[1].0, Level::Warning);
        assert_eq!(judged(|cluster| cluster.members = Ok(vec![]), None)[1].0, Level::Note);
        assert_eq!(judged(|cluster| cluster.members = Err("try again".into()), None)[1].0, Level::Note);
    }
}
