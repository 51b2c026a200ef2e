use std::thread;
use std::time::Duration;

use super::calls::AgentCalls;
use super::link::AGENT_SILENCE_MAX;
use super::program::AgentProgram;
use crate::children::{ChildRunner, Children};
use crate::problem::Problem;
use fence_virt::config::AgentConfig;
use fence_virt::fence_agent::{AgentVm, place_uuid};
use fence_virt::time::Instant;

/// Answers of an agent to the tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentAnswers {
    /// Time that its monitor took, or the reason why it failed.
    pub(crate) monitor: Result<Duration, String>,
    /// Its VMs, or the reason why they are not known.
    pub(crate) vms: Result<AgentVms, String>,
}

/// VMs that an agent tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AgentVms {
    /// VMs of its list, and the number of lines that name none that it could be asked for.
    Listed(Vec<AgentVm>, usize),
    /// The only VM of an agent that takes no plug.
    One(AgentVm),
    /// It has no list: only questions about a VM tell whether it has that.
    Unlisted,
}

/// Time limit of each call of an agent for the tools, which wait for it as the daemon waits for a monitor.
pub(crate) fn inquiry_limit(config: &AgentConfig) -> Duration {
    config.timeout.min(AGENT_SILENCE_MAX)
}

/// Asks an agent for its monitor and, at the same time, for its VMs.
/// Errors: it cannot be used.
pub(crate) fn ask(config: &AgentConfig) -> Result<AgentAnswers, Problem> {
    with_calls(config, |calls| {
        thread::scope(|scope| {
            let vms = scope.spawn(|| vms(calls, config));
            let begin = Instant::now();
            let monitor = calls.monitor().map(|()| begin.elapsed()).map_err(|error| error.to_string());
            let vms = vms.join().unwrap_or_else(|_| Err("its thread panicked".to_owned()));
            AgentAnswers { monitor, vms }
        })
    })
}

/// Asks an agent for its VMs.
/// Errors: a sentence: it cannot be used, or does not tell.
pub(crate) fn ask_vms(config: &AgentConfig) -> Result<AgentVms, String> {
    with_calls(config, |calls| vms(calls, config)).map_err(|problem| problem.to_string())?
}

fn with_calls<T>(config: &AgentConfig, ask: impl FnOnce(&AgentCalls) -> T) -> Result<T, Problem> {
    let children = Children::start().map_err(|reason| Problem::new(reason, "run this again"))?;
    let answers = load(config, children.runner()).map(|calls| ask(&calls));
    drop(children);
    answers
}

fn load(config: &AgentConfig, runner: ChildRunner) -> Result<AgentCalls, Problem> {
    let program = AgentProgram::load(config, &runner)?;
    Ok(AgentCalls::new(config.place(), program, inquiry_limit(config), runner))
}

fn vms(calls: &AgentCalls, config: &AgentConfig) -> Result<AgentVms, String> {
    if !calls.has_plugs() {
        let name = config.name.clone().unwrap_or_default();
        let state = Some(calls.status(&name).map_err(|error| error.to_string())?);
        let uuid = place_uuid(&calls.place, &name);
        return Ok(AgentVms::One(AgentVm { plug: name.clone(), name, uuid, state }));
    }
    if !calls.has_list() {
        return Ok(AgentVms::Unlisted);
    }
    let (vms, left_out) = calls.whole_list().map_err(|error| error.to_string())?;
    Ok(AgentVms::Listed(vms, left_out))
}
