//! What corosync says, without joining the group.

use std::thread;
use std::time::{Duration, Instant};

use super::ask::{LIMIT, Reply, Unanswered};
use super::finding::{Finding, Level, listed};
use super::process::Running;
use crate::backend;
use fence_virt::config::BackendConfig;
use fence_virt::sys::corosync::{self, Error, Heard, Libraries, Member};
use fence_virt::sys::poll::{Interest, PollSet};
use fence_virt::wire::cluster::GROUP;

const ABOUT: &str = "backend cpg";

/// How long corosync may take to tell of its quorum, and of its group while that changes.
const PATIENCE: Duration = Duration::from_secs(2);

/// What corosync said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cluster {
    /// The id of this node.
    node: u32,
    /// Whether this part has quorum, and its nodes; none if nobody counts votes.
    quorum: Option<(bool, Vec<u32>)>,
    /// Who is in the group of the daemons: node and process id.
    members: Result<Vec<(u32, u32)>, String>,
}

/// Asks it. May take for ever while corosync is frozen.
pub(super) fn look() -> Result<Cluster, String> {
    let libraries = Libraries::open()?;
    // libquorum needs a larger stack than threads have.
    let builder = thread::Builder::new().stack_size(corosync::STACK);
    let thread = builder
        .spawn(move || ask(&libraries).map_err(|error| error.to_string()))
        .map_err(|error| format!("no thread can be started: {error}"))?;
    thread.join().unwrap_or_else(|_| Err("its thread has failed".to_owned()))
}

fn ask(libraries: &Libraries) -> Result<Cluster, Error> {
    let mut onlooker = Member::connect(libraries)?;
    let quorum = await_quorum(&mut onlooker)?;
    let members = onlooker.members(GROUP).map_err(|error| error.to_string());
    Ok(Cluster { node: onlooker.node(), quorum, members })
}

fn await_quorum(onlooker: &mut Member) -> Result<Option<(bool, Vec<u32>)>, Error> {
    let end = Instant::now() + PATIENCE;
    let mut heard = Vec::new();
    loop {
        onlooker.dispatch(64, &mut heard)?;
        let newest = heard.iter().rev().find_map(|heard| match heard {
            Heard::Quorum { is_quorate, nodes } => Some((*is_quorate, nodes.clone())),
            _ => None,
        });
        let left = end.saturating_duration_since(Instant::now());
        if newest.is_some() || left.is_zero() {
            return Ok(newest);
        }
        let mut set = PollSet::new();
        for fd in onlooker.fds() {
            set.add(fd, Interest::Read);
        }
        if set.wait(Some(left)).is_err() {
            return Ok(None);
        }
    }
}

pub(super) fn judge(
    backend: &BackendConfig,
    reply: &Reply<Cluster>,
    running: Option<Running>,
) -> Vec<Finding> {
    let mut findings = match reply {
        Ok(cluster) => judge_cluster(cluster, running),
        Err(why) => vec![unanswered(backend, why)],
    };
    let delay = backend::warn_of_delay(backend);
    findings.extend(delay.map(|flaw| Finding::of(Level::Warning, ABOUT, flaw)));
    findings
}

fn unanswered(backend: &BackendConfig, why: &Unanswered) -> Finding {
    if let Err(reason) = backend::check(backend) {
        let remedy = "install that package; without a cluster of hosts write backend = \"libvirt\";";
        return Finding::error(ABOUT, reason, remedy);
    }
    match why {
        Unanswered::Refused(reason) => {
            let remedy = "`systemctl start corosync`; `corosync-quorumtool` and `journalctl -u corosync` say what it lacks";
            Finding::error(ABOUT, reason, remedy)
        }
        Unanswered::Silent => {
            let what = format!("corosync does not answer within {} s", LIMIT.as_secs());
            Finding::error(ABOUT, what, "look what it hangs in (`journalctl -u corosync`), or restart it")
        }
    }
}

fn judge_cluster(cluster: &Cluster, running: Option<Running>) -> Vec<Finding> {
    let node = cluster.node;
    let quorum = match &cluster.quorum {
        Some((true, nodes)) => Finding::ok(
            ABOUT,
            format!("corosync runs, this is node {node}, with quorum: nodes {}", listed(nodes)),
        ),
        Some((false, nodes)) => Finding::warning(
            ABOUT,
            format!("this part of the cluster (node {node}; nodes {}) has no quorum", listed(nodes)),
            "bring the other hosts back: `corosync-quorumtool` shows the votes; until then VMs of lost hosts cannot be fenced",
        ),
        None => Finding::warning(
            ABOUT,
            format!(
                "corosync runs, this is node {node}, but nobody counts votes: that is as if there were no quorum"
            ),
            "write quorum { provider: corosync_votequorum } in corosync.conf on each host, and restart corosync",
        ),
    };
    vec![quorum, judge_group(cluster, running)]
}

fn judge_group(cluster: &Cluster, running: Option<Running>) -> Finding {
    let members = match &cluster.members {
        Ok(members) => members,
        Err(reason) => {
            let what = format!("who is in the group {GROUP} cannot be told: {reason}");
            return Finding::note(ABOUT, what, "run this again in a moment");
        }
    };
    let shown: Vec<String> =
        members.iter().map(|(node, pid)| format!("node {node} (process {pid})")).collect();
    let text = format!("in the group {GROUP}: {}", listed(&shown));
    let is_in = |running: Running| members.contains(&(cluster.node, running.pid));
    match running {
        Some(running) if !is_in(running) => {
            let what =
                format!("the daemon that runs here (process {}) is not in the group {GROUP}", running.pid);
            Finding::warning(
                ABOUT,
                what,
                "it joins by itself when corosync lets it: its log says what is in the way",
            )
        }
        _ if members.is_empty() => {
            let what = format!("no host has a daemon in the group {GROUP}");
            Finding::note(ABOUT, what, "start fence_virtd on each host")
        }
        _ => Finding::ok(ABOUT, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(change: impl Fn(&mut Cluster), running: Option<u32>) -> Vec<(Level, String)> {
        let (quorum, members) = (Some((true, vec![1, 2])), Ok(vec![(1, 7), (2, 8)]));
        let mut cluster = Cluster { node: 1, quorum, members };
        change(&mut cluster);
        let running = running.map(|pid| Running { pid, uid: Some(0) });
        let findings = judge_cluster(&cluster, running);
        findings.into_iter().map(|finding| (finding.level, finding.text)).collect()
    }

    #[test]
    fn quorum_and_members() {
        let found = judged(|_| (), Some(7));
        assert_eq!(
            found.iter().map(|found| found.0).collect::<Vec<_>>(),
            [Level::Ok, Level::Ok],
            "{found:?}"
        );
        assert!(
            found[1].1.contains("in the group fence-agents: node 1 (process 7), node 2 (process 8)"),
            "{found:?}"
        );
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
