use std::fmt;

use crate::fence::Operation;

/// What an agent is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Something that a daemon answers.
    Ask(Operation),
    /// Print the metadata.
    Metadata,
    /// Look at the options; talk to nobody.
    ValidateAll,
}

/// Every action and its name, in the order of the metadata.
pub(super) const ACTIONS: [(&str, Action); 10] = [
    ("null", Action::Ask(Operation::Null)),
    ("on", Action::Ask(Operation::On)),
    ("off", Action::Ask(Operation::Off)),
    ("reboot", Action::Ask(Operation::Reboot)),
    ("metadata", Action::Metadata),
    ("status", Action::Ask(Operation::Status)),
    ("monitor", Action::Ask(Operation::Devstatus)),
    ("list", Action::Ask(Operation::HostList)),
    ("list-status", Action::Ask(Operation::HostList)),
    ("validate-all", Action::ValidateAll),
];

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // list and list-status are the same question.
        let name = ACTIONS.iter().find(|(_, action)| action == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl Action {
    pub(super) fn from_name(name: &str) -> Option<Action> {
        ACTIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, action)| *action)
    }

    /// Whether it is about one VM, which has to be named.
    pub(super) fn names_a_domain(self) -> bool {
        match self {
            Action::Ask(operation) => operation.names_a_domain(),
            Action::ValidateAll => true,
            Action::Metadata => false,
        }
    }
}
