//! Judgement of a snapshot: the problems, and the warnings. Text, JSON, metrics and exit code follow it.

use std::time::Duration;

use super::snapshot::{FencerState, ListenerState, OldestCall, RefusalCount, Snapshot, Streak, UriState};
use super::span::span;
use fence_virt::restraints::PowerHold;

/// Duration after which a call on a lane counts as a problem: a destroy of a VM whose
/// process survives SIGKILL takes 15 s.
const CALL_MAX: Duration = Duration::from_secs(30);

/// Refusals for one reason, none answered between, from which on they are worth a warning: one agent that
/// gives up, or a port scan, is none.
const STREAK_MIN: u64 = 3;

/// Maximum of holds that the warning about them names.
const HOLDS_NAMED: usize = 3;

/// Judgement of the state of a daemon. Each sentence names what it is about first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Judgement {
    /// What keeps requests from being heard or carried out.
    pub(super) problems: Vec<String>,
    /// What may do so for some of them, or points to agents that are set up wrongly.
    pub(super) warnings: Vec<String>,
}

impl Judgement {
    pub(super) fn of(snapshot: &Snapshot) -> Judgement {
        let mut judgement = Judgement::default();
        judgement.judge_worker(snapshot);
        if let Some(refused) = &snapshot.refused_reload {
            judgement.problems.push(format!(
                "the reload {} ago was refused, and the configuration before it is in force: {}",
                span(refused.at.elapsed()),
                refused.reason
            ));
        }
        snapshot.listeners.iter().for_each(|listener| judgement.judge_listener(listener));
        snapshot.uris.iter().for_each(|uri| judgement.judge_uri(uri));
        judgement.judge_cluster(snapshot);
        judgement.judge_holds(&snapshot.restraints.holds);
        judgement
    }

    fn judge_holds(&mut self, holds: &[PowerHold]) {
        let Some(last) = holds.iter().map(|hold| hold.ends).max() else { return };
        let named = holds.iter().take(HOLDS_NAMED).map(|hold| format!("{:?}", hold.subject.as_str()));
        let more = holds.len().saturating_sub(HOLDS_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        self.warnings.push(format!(
            "holds ({}, the last one until {last}): power operations fail on {}{more}; end one with --release",
            holds.len(),
            named.collect::<Vec<_>>().join(", ")
        ));
    }

    /// Returns true without problems. Warnings do not count.
    pub(super) fn is_well(&self) -> bool {
        self.problems.is_empty()
    }

    fn judge_worker(&mut self, snapshot: &Snapshot) {
        if !snapshot.is_worker_healthy {
            let busy = snapshot.busy_for.unwrap_or_default().as_secs();
            self.problems.push(format!("the worker has been stuck in one call for {busy} s"));
        }
        if snapshot.queue.len >= snapshot.queue.max {
            self.problems.push("the worker's queue is full: new requests fail".to_owned());
        }
    }

    fn judge_listener(&mut self, listener: &ListenerState) {
        let ListenerState { name, reception, refusals, .. } = listener;
        let faults = reception.faults.join("; ");
        if reception.is_deaf {
            let time = reception.deaf_for.map_or_else(String::new, |time| format!(" (for {})", span(time)));
            let faults = if faults.is_empty() { "it has not begun yet" } else { &faults };
            self.problems.push(format!("{name} does not listen{time}: {faults}"));
        } else if !faults.is_empty() {
            self.warnings.push(format!("{name} does not listen everywhere: {faults}"));
        }
        self.warnings.extend(refusals.iter().filter_map(|refusal| warning(name, refusal)));
    }

    fn judge_uri(&mut self, uri: &UriState) {
        let name = &uri.uri;
        self.problems.extend(uri.obstacle.as_ref().map(|reason| format!("{name}: {reason}")));
        if let Some(OldestCall { label, began }) = &uri.lanes.oldest {
            let seconds = began.elapsed().as_secs();
            if began.elapsed() >= CALL_MAX {
                self.problems.push(format!("{name}: a call has taken {seconds} s so far: {label}"));
            }
        }
    }

    fn judge_cluster(&mut self, snapshot: &Snapshot) {
        let Some(cluster) = &snapshot.cluster else { return };
        if let Some(FencerState::Lost(reason)) = &cluster.fencing.fencer {
            self.problems.push(format!("no fence of a lost host is known: {reason}"));
        }
        let alone = cluster.alone.as_ref();
        self.problems
            .extend(alone.map(|reason| format!("this host is not in the cluster's group: {reason}")));
    }
}

/// Returns a warning about refusals for one reason, if many came and no request was answered between.
fn warning(name: &str, refusal: &RefusalCount) -> Option<String> {
    let Streak { count, began, ended } = refusal.streak.filter(|streak| streak.count >= STREAK_MIN)?;
    let cause = cause(refusal.reason)?;
    Some(format!(
        "{name} has refused {count} requests in a row ({}), the first {} ago, the last {} ago: {cause}",
        refusal.reason,
        span(began),
        span(ended)
    ))
}

/// Returns what refusals for a reason point to; none for those that are no sign of a fault.
fn cause(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "signature" => {
            "the agents have another key: compare fence_xvm --key-fingerprint with the key of the listener"
        }
        "proof" => "the agents have another key or `auth`",
        "weak_hash" => "the agents' `hash` is weaker than that of the listener",
        "replay" => "somebody sends what the daemon has sent, or requests of multicast by another way",
        "malformed" => "what arrives is no request: another program sends to this port",
        "late" => "the agents stall, or the daemon stood still",
        "hung_up" => {
            "the agents hang up before their requests are complete: their key, `auth` or time-out may be wrong"
        }
        "crowded" => "there are too many sessions or requests at a time",
        "unreachable" => "the agents cannot be called back: a firewall on the guests may drop 1229/tcp",
        "error" => "the system or the network fails: the log has the reasons",
        // Multicast agents send each request several times.
        _ => return None,
    })
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
mod tests;
