use std::fmt;

use super::{Operation, counted};

/// Verdict on a request. The numbers go over the wire and are the agents' exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// Done and verified; for status: the VM is running.
    Success = 0,
    /// Not done, or not verified.
    Failure = 1,
    /// Status only: the VM is off.
    Off = 2,
    /// No group permits this requester to do this.
    Denied = 3,
}

impl Verdict {
    /// Decodes a verdict; none if the byte cannot answer `operation`: only
    /// status knows "off", and a host list is never just "success".
    pub fn from_wire(byte: u8, operation: Operation) -> Option<Verdict> {
        match byte {
            0 if operation != Operation::HostList => Some(Verdict::Success),
            1 => Some(Verdict::Failure),
            2 if operation == Operation::Status => Some(Verdict::Off),
            3 => Some(Verdict::Denied),
            _ => None,
        }
    }

    /// Byte on the wire.
    pub fn to_wire(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Success => "success",
            Verdict::Failure => "failure",
            Verdict::Off => "off",
            Verdict::Denied => "permission denied",
        })
    }
}

/// Power state of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    /// Anything but off: running, blocked, paused, crashed, suspended, unknown.
    Running,
    /// SHUTOFF in libvirt.
    Off,
}

/// One VM of a host list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// Name in libvirt.
    pub name: String,
    /// UUID, as 36 characters.
    pub uuid: String,
    /// Power state.
    pub state: PowerState,
}

/// Answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// One byte.
    Verdict(Verdict),
    /// List of VMs.
    HostList(Vec<HostEntry>),
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Answer {
        Answer::Verdict(verdict)
    }
}

impl Answer {
    /// Returns the kind of the answer as one word: success, failure, off, denied or list.
    pub fn word(&self) -> &'static str {
        match self {
            Answer::Verdict(Verdict::Success) => "success",
            Answer::Verdict(Verdict::Failure) => "failure",
            Answer::Verdict(Verdict::Off) => "off",
            Answer::Verdict(Verdict::Denied) => "denied",
            Answer::HostList(_) => "list",
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Verdict(verdict) => verdict.fmt(f),
            Answer::HostList(entries) => write!(f, "{} listed", counted(entries.len(), "VM")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_accepted_only_where_it_can_answer() {
        for operation in Operation::ALL {
            for byte in 0..=u8::MAX {
                let Some(verdict) = Verdict::from_wire(byte, operation) else {
                    let odd = byte > 3
                        || (byte == 0 && operation == Operation::HostList)
                        || (byte == 2 && operation != Operation::Status);
                    assert!(odd, "{operation} {byte}");
                    continue;
                };
                assert_eq!(verdict.to_wire(), byte);
            }
        }
        assert_eq!(Verdict::from_wire(2, Operation::Off), None);
        assert_eq!(Verdict::from_wire(0, Operation::HostList), None);
    }
}
