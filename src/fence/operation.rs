use std::fmt;

/// What a client asks for. The numbers are those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Operation {
    /// Does nothing; daemons answer failure.
    Null = 0,
    /// Power the VM off and verify that it is off.
    Off = 1,
    /// Power the VM off, verify that it is off, and start it again.
    Reboot = 2,
    /// Start the VM.
    On = 3,
    /// Is the VM running?
    Status = 4,
    /// Is the fencing device, that is the daemon and its backend, working? Agents call it `monitor`.
    Devstatus = 5,
    /// Which VMs are there, and do they run? Agents call it `list`.
    HostList = 6,
}

impl Operation {
    /// Every operation that a daemon carries out.
    pub const ALL: [Operation; 7] = [
        Operation::Null,
        Operation::Off,
        Operation::Reboot,
        Operation::On,
        Operation::Status,
        Operation::Devstatus,
        Operation::HostList,
    ];

    /// The operation with this number on the wire. 7 (metadata) and 8
    /// (validate-all) are matters of the agents and never sent.
    pub fn from_wire(number: u8) -> Option<Operation> {
        Operation::ALL.get(usize::from(number)).copied()
    }

    /// The number on the wire.
    pub fn to_wire(self) -> u8 {
        self as u8
    }

    /// Whether it changes the power state of a VM.
    pub fn is_power(self) -> bool {
        matches!(self, Operation::Off | Operation::Reboot | Operation::On)
    }

    /// Whether it concerns one VM, so that groups are asked about that VM.
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
