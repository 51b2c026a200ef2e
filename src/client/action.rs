use std::fmt;

use crate::fence::Operation;

/// Action of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AgentAction {
    /// Send a request to the daemon.
    Request(Operation),
    /// Print the metadata.
    Metadata,
    /// Validate the options without contacting a daemon.
    ValidateAll,
}

/// Names of all actions, in the order of the metadata.
pub(super) const ACTIONS: [(&str, AgentAction); 10] = [
    ("null", AgentAction::Request(Operation::Null)),
    ("on", AgentAction::Request(Operation::On)),
    ("off", AgentAction::Request(Operation::Off)),
    ("reboot", AgentAction::Request(Operation::Reboot)),
    ("metadata", AgentAction::Metadata),
    ("status", AgentAction::Request(Operation::Status)),
    ("monitor", AgentAction::Request(Operation::Devstatus)),
    ("list", AgentAction::Request(Operation::HostList)),
    ("list-status", AgentAction::Request(Operation::HostList)),
    ("validate-all", AgentAction::ValidateAll),
];

impl fmt::Display for AgentAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // list and list-status send the same request.
        let name = ACTIONS.iter().find(|(_, action)| action == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl AgentAction {
    pub(super) fn from_name(name: &str) -> Option<AgentAction> {
        ACTIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, action)| *action)
    }

    /// True if the action needs the name of a VM.
    pub(super) fn names_a_domain(self) -> bool {
        match self {
            AgentAction::Request(operation) => operation.names_a_domain(),
            AgentAction::ValidateAll => true,
            AgentAction::Metadata => false,
        }
    }
}
