//! Checks of the fence agents of the backend, and of their VMs.

use std::time::Duration;

use super::libvirt::{ListedVm, UriReply};
use super::process::RunningDaemon;
use crate::backend::agent::{self, AgentAnswers, AgentVms};
use crate::problem::Problem;
use crate::tools::finding::{Finding, Level};
use crate::tools::service_reply::NoReply;
use fence_virt::config::AgentConfig;
use fence_virt::fence::{PowerState, counted};
use fence_virt::fence_agent::{AgentVm, place_uuid};
use fence_virt::time::millis;

/// Duration of a call from which on a power-off, which needs three, takes longer than clients wait.
const SLOW: Duration = Duration::from_secs(10);

/// Result of the checks of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AgentReply {
    place: String,
    program: String,
    /// Time limit of each of its calls.
    limit: Duration,
    /// Problems of its program, user and password file.
    files: Vec<Problem>,
    /// Its answers, or the reason why it cannot be used; none if its files forbid to start it.
    answers: Option<Result<AgentAnswers, Problem>>,
}

/// Checks the files of an agent as the running daemon would, and asks it if they are in order.
pub(super) fn ask(config: &AgentConfig, running: Option<RunningDaemon>) -> AgentReply {
    let uid = running.and_then(|running| running.uid).unwrap_or_else(super::process::own_uid);
    let files = agent::check_files(config, uid);
    let answers = files.is_empty().then(|| agent::ask(config));
    let (place, limit) = (config.place(), agent::inquiry_limit(config));
    AgentReply { place, program: config.program.display().to_string(), limit, files, answers }
}

/// Returns the agents with their VMs, as those of URIs. Agents without a list are none of them.
pub(super) fn places(agents: &[AgentReply]) -> Vec<UriReply> {
    let listed = |vm: &AgentVm| ListedVm {
        name: vm.name.clone(),
        uuid: vm.uuid.to_string(),
        runs: vm.state == Some(PowerState::Running),
    };
    let vms = |reply: &AgentReply| {
        Some(match reply.answers.as_ref().and_then(|answers| answers.as_ref().ok()).map(|it| &it.vms) {
            Some(Ok(AgentVms::Listed(vms, _))) => Ok(vms.iter().map(listed).collect()),
            Some(Ok(AgentVms::One(vm))) => Ok(vec![listed(vm)]),
            Some(Ok(AgentVms::Unlisted)) => return None,
            Some(Err(reason)) => Err(NoReply::Failed(reason.clone())),
            None => Err(NoReply::Failed("it cannot be used".to_owned())),
        })
    };
    agents.iter().filter_map(|reply| Some((reply.place.clone(), vms(reply)?))).collect()
}

/// Returns the agents that have no list.
pub(super) fn without_list(agents: &[AgentReply]) -> Vec<String> {
    let is_unlisted = |reply: &&AgentReply| {
        matches!(&reply.answers, Some(Ok(AgentAnswers { vms: Ok(AgentVms::Unlisted), .. })))
    };
    agents.iter().filter(is_unlisted).map(|reply| reply.place.clone()).collect()
}

pub(super) fn judge(agents: &[AgentReply]) -> Vec<Finding> {
    agents.iter().flat_map(judge_agent).collect()
}

fn judge_agent(reply: &AgentReply) -> Vec<Finding> {
    let AgentReply { place, program, limit, files, answers } = reply;
    let mut findings: Vec<Finding> =
        files.iter().map(|problem| Finding::of(Level::Error, place, problem.clone())).collect();
    match answers {
        None => findings.push(Finding::remark(place, "not asked: correct that first")),
        Some(Err(problem)) => findings.push(Finding::of(Level::Error, place, problem.clone())),
        Some(Ok(answers)) => {
            let text = format!("{program} can be used: nobody else can replace it, and it has all options");
            findings.push(Finding::ok(place, text));
            findings.push(judge_monitor(place, answers, *limit));
            findings.extend(judge_vms(place, answers));
        }
    }
    findings
}

fn judge_monitor(place: &str, answers: &AgentAnswers, limit: Duration) -> Finding {
    match &answers.monitor {
        Ok(took) if *took >= SLOW => Finding::warning(
            place,
            format!("monitor: success after {} ms; the limit is {} s", millis(*took), limit.as_secs()),
            "a power-off needs three such calls, and clients wait 30 s by default: find out why it is slow, or raise \
             their timeout",
        ),
        Ok(took) => Finding::ok(place, format!("monitor: success after {} ms", millis(*took))),
        Err(reason) => Finding::error(
            place,
            reason,
            "check its options (address, user, password), and whether this host reaches the hypervisor",
        ),
    }
}

fn judge_vms(place: &str, answers: &AgentAnswers) -> Vec<Finding> {
    match &answers.vms {
        // The monitor's error says it already.
        Err(_) if answers.monitor.is_err() => Vec::new(),
        Err(reason) => {
            let remedy = "until that works, its VMs cannot be found: check what its user may see";
            vec![Finding::error(place, reason, remedy)]
        }
        Ok(AgentVms::One(vm)) => {
            let state = if vm.state == Some(PowerState::Running) { "on" } else { "off" };
            vec![Finding::ok(place, format!("its only VM is {:?}: {state}", vm.name))]
        }
        Ok(AgentVms::Unlisted) => vec![Finding::note(
            place,
            "the agent has no list: it is asked for each VM that a request names, and clients' lists lack its VMs",
            "none needed; a VM that it does not have makes requests fail",
        )],
        Ok(AgentVms::Listed(vms, left_out)) => judge_list(place, vms, *left_out),
    }
}

fn judge_list(place: &str, vms: &[AgentVm], left_out: usize) -> Vec<Finding> {
    if vms.is_empty() {
        let remedy = "if there should be VMs, check what the user of its options may see";
        return vec![Finding::note(place, "the list names no VM", remedy)];
    }
    let runs = vms.iter().filter(|vm| vm.state == Some(PowerState::Running)).count();
    let stateless = vms.iter().filter(|vm| vm.state.is_none()).count();
    let states = match stateless {
        0 => format!("running: {runs}"),
        all if all == vms.len() => "without their states".to_owned(),
        some => format!("running: {runs}, of unknown state: {some}"),
    };
    let made = vms.iter().filter(|vm| vm.uuid == place_uuid(place, &vm.plug)).count();
    let uuids = match made {
        0 => "with UUIDs".to_owned(),
        all if all == vms.len() => {
            "without UUIDs: those in use are made of the agent's name and the VM's".to_owned()
        }
        some => format!("{some} of them without UUIDs"),
    };
    let mut findings = vec![Finding::ok(place, format!("list: VMs: {}, {states}; {uuids}", vms.len()))];
    if left_out > 0 {
        let what = format!("{} of the list cannot be asked for", counted(left_out, "VM"));
        let remedy = "give them names of letters, digits, blanks and ._:@+/- alone, of 63 bytes at most";
        findings.push(Finding::warning(place, what, remedy));
    }
    findings
}

#[cfg(test)]
#[path = "agents_tests.rs"]
mod tests;
