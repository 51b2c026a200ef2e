use std::time::Duration;

use log::{debug, warn};

use super::program::AgentProgram;
use crate::children::{ChildRunner, RunEnd, RunOutcome};
use crate::libvirt::{LibvirtError, LibvirtResult};
use fence_virt::fence::{PowerState, printable};
use fence_virt::fence_agent::{AgentVm, ApiAction, agent_input, parse_list, plug_problem};

/// Exit code of `status` for a VM that is off.
const EXIT_OFF: i32 = 2;
/// End of a line that many agents print after the reason of a failure.
const USAGE_HINT: &str = "use '-h' for usage";
/// Maximum of lines of an agent's stderr in the log, for each call.
const LOGGED_LINES: usize = 20;
/// Maximum length of such a line, in characters.
const LOGGED_LENGTH: usize = 500;

/// An agent, by its calls. Each starts its program once.
pub(super) struct AgentCalls {
    /// Name of the place.
    pub(super) place: String,
    program: AgentProgram,
    timeout: Duration,
    runner: ChildRunner,
}

impl AgentCalls {
    pub(super) fn new(
        place: String,
        program: AgentProgram,
        timeout: Duration,
        runner: ChildRunner,
    ) -> AgentCalls {
        AgentCalls { place, program, timeout, runner }
    }

    /// True if the agent is asked for VMs by name; otherwise it has one VM only.
    pub(super) fn has_plugs(&self) -> bool {
        self.program.metadata.plug_option().is_some()
    }

    /// True if the agent lists its VMs.
    pub(super) fn has_list(&self) -> bool {
        self.has_plugs() && self.list_action().is_some()
    }

    fn list_action(&self) -> Option<ApiAction> {
        let actions = [ApiAction::ListStatus, ApiAction::List];
        actions.into_iter().find(|action| self.program.metadata.has_action(action.name()))
    }

    /// Asks whether a VM runs.
    pub(super) fn status(&self, plug: &str) -> LibvirtResult<PowerState> {
        let outcome = self.run(ApiAction::Status, Some(plug))?;
        match outcome.end {
            RunEnd::Exited(0) => Ok(PowerState::Running),
            RunEnd::Exited(EXIT_OFF) => Ok(PowerState::Off),
            _ => Err(LibvirtError::Other(self.failure(ApiAction::Status, Some(plug), &outcome))),
        }
    }

    /// Asks to power a VM off, or on. What that has done, only [`AgentCalls::status`] tells.
    pub(super) fn power(&self, action: ApiAction, plug: &str) -> LibvirtResult {
        let outcome = self.run(action, Some(plug))?;
        match outcome.end {
            RunEnd::Exited(0) => Ok(()),
            // The hypervisor may still do it.
            RunEnd::Late => Err(LibvirtError::Busy(self.failure(action, Some(plug), &outcome))),
            _ => Err(LibvirtError::Other(self.failure(action, Some(plug), &outcome))),
        }
    }

    /// Checks that the hypervisor answers.
    pub(super) fn monitor(&self) -> LibvirtResult {
        let outcome = self.run(ApiAction::Monitor, None)?;
        match outcome.end {
            RunEnd::Exited(0) => Ok(()),
            _ => Err(LibvirtError::Other(self.failure(ApiAction::Monitor, None, &outcome))),
        }
    }

    /// Lists the VMs.
    pub(super) fn list(&self) -> LibvirtResult<Vec<AgentVm>> {
        Ok(self.whole_list()?.0)
    }

    /// Lists the VMs, and counts the lines that name none that the agent could be asked for.
    pub(super) fn whole_list(&self) -> LibvirtResult<(Vec<AgentVm>, usize)> {
        let Some(action) = self.list_action() else {
            return Err(LibvirtError::Other("the agent has no list of VMs".to_owned()));
        };
        let outcome = self.run(action, None)?;
        if outcome.end != RunEnd::Exited(0) {
            return Err(LibvirtError::Other(self.failure(action, None, &outcome)));
        }
        let text = self.without_secrets(&String::from_utf8_lossy(&outcome.stdout));
        let has_states = action == ApiAction::ListStatus;
        let (vms, left_out) = parse_list(&text, &self.place, has_states).map_err(LibvirtError::Other)?;
        if left_out > 0 {
            debug!(
                "{}: {left_out} lines of the list name no VM that the agent could be asked for",
                self.place
            );
        }
        if vms.is_empty() && left_out > 0 {
            let first = self.shown(text.lines().next().unwrap_or_default());
            return Err(LibvirtError::Other(format!("the agent's list names no VM: {first}")));
        }
        Ok((vms, left_out))
    }

    /// Leaves out the lines that have secrets: clients see the names of VMs.
    fn without_secrets(&self, text: &str) -> String {
        let secrets = &self.program.secrets;
        let plain = text.lines().filter(|line| secrets.redact(line) == *line);
        plain.flat_map(|line| [line, "\n"]).collect()
    }

    fn run(&self, action: ApiAction, plug: Option<&str>) -> LibvirtResult<RunOutcome> {
        let AgentProgram { path, user, options, metadata, .. } = &self.program;
        if let Some((plug, problem)) = plug.and_then(|plug| Some((plug, plug_problem(plug)?))) {
            let text = format!("the agent cannot be asked for {plug:?}: {problem}");
            return Err(LibvirtError::Other(text));
        }
        let input = agent_input(action, options, metadata.plug_option().zip(plug));
        let outcome = self.runner.run(path, *user, input, self.timeout).map_err(LibvirtError::Other)?;
        self.log(action, plug, &outcome);
        Ok(outcome)
    }

    fn shown(&self, line: &str) -> String {
        let line = printable(&self.program.secrets.redact(line));
        line.chars().take(LOGGED_LENGTH).collect()
    }

    fn log(&self, action: ApiAction, plug: Option<&str>, outcome: &RunOutcome) {
        let what = format!("{}: {}", self.place, what(action, plug));
        let has_failed = !matches!(outcome.end, RunEnd::Exited(0 | EXIT_OFF));
        let stderr = String::from_utf8_lossy(&outcome.stderr);
        for line in stderr.lines().filter(|line| !line.trim().is_empty()).take(LOGGED_LINES) {
            let line = self.shown(line.trim());
            match has_failed {
                true => warn!("{what}: {line}"),
                false => debug!("{what}: {line}"),
            }
        }
        debug!("{what}: {}", outcome.end);
    }

    /// Returns a sentence about a call that was no success, with the agent's reason.
    fn failure(&self, action: ApiAction, plug: Option<&str>, outcome: &RunOutcome) -> String {
        let stderr = String::from_utf8_lossy(&outcome.stderr);
        let is_reason = |line: &&str| !line.is_empty() && !line.ends_with(USAGE_HINT);
        let last = stderr.lines().map(str::trim).rfind(is_reason);
        let last = last.map(|line| format!(": {}", self.shown(line))).unwrap_or_default();
        let end = match outcome.end {
            RunEnd::Late => format!("no end within {} s", self.timeout.as_secs()),
            end => end.to_string(),
        };
        format!("{} failed ({end}){last}", what(action, plug))
    }
}

/// Returns words for a call.
fn what(action: ApiAction, plug: Option<&str>) -> String {
    let of = plug.map(|plug| format!(" of {plug:?}")).unwrap_or_default();
    format!("{}{of}", action.name())
}
