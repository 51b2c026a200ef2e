use std::fmt;

/// Operation that a client requests. The numbers are those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Operation {
    /// Does nothing; daemons answer failure.
    Null = 0,
    /// Powers the VM off and verifies that it is off.
    Off = 1,
    /// Powers the VM off, verifies that it is off, and starts it again.
    Reboot = 2,
    /// Starts the VM.
    On = 3,
    /// Power state of the VM.
    Status = 4,
    /// Health of the fencing device (the daemon and its backend); `monitor` in the agents.
    Devstatus = 5,
    /// List of all VMs with their power states; `list` in the agents.
    HostList = 6,
}

impl Operation {
    /// All operations that a daemon carries out.
    pub const ALL: [Operation; 7] = [
        Operation::Null,
        Operation::Off,
        Operation::Reboot,
        Operation::On,
        Operation::Status,
        Operation::Devstatus,
        Operation::HostList,
    ];

    /// Decodes an operation. 7 (metadata) and 8 (validate-all) exist only
    /// inside the agents and are never sent.
    pub fn from_wire(number: u8) -> Option<Operation> {
        Operation::ALL.get(usize::from(number)).copied()
    }

    /// Number on the wire.
    pub fn to_wire(self) -> u8 {
        self as u8
    }

    /// True if it changes the power state of a VM.
    pub fn is_power(self) -> bool {
        matches!(self, Operation::Off | Operation::Reboot | Operation::On)
    }

    /// True if it has one VM as its target, so that the groups decide about that VM.
    pub fn names_a_domain(self) -> bool {
        self.is_power() || self == Operation::Status
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Null => "null",
            Operation::Off => "off",
            Operation::Reboot => "reboot",
            Operation::On => "on",
            Operation::Status => "status",
            Operation::Devstatus => "devstatus",
            Operation::HostList => "hostlist",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_operations_agree_both_ways() {
        for number in 0..=u8::MAX {
            match Operation::from_wire(number) {
                Some(operation) => assert_eq!(operation.to_wire(), number),
                None => assert!(number > 6),
            }
        }
    }
}
