use std::fmt;

use super::Operation;

/// The verdict on a request. The numbers are those of the wire, and also the
/// exit codes of the agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// Done and verified; for status: the VM runs.
    Success = 0,
    /// Not done, or not verified.
    Failure = 1,
    /// Status only: the VM is off.
    Off = 2,
    /// The groups do not let this requester do this.
    Denied = 3,
}

impl Verdict {
    /// The verdict with this byte on the wire, if it can be one on `operation`:
    /// only status knows "off", and a host list is never just "success".
    pub fn from_wire(byte: u8, operation: Operation) -> Option<Verdict> {
        match byte {
            0 if operation != Operation::HostList => Some(Verdict::Success),
            1 => Some(Verdict::Failure),
            2 if operation == Operation::Status => Some(Verdict::Off),
            3 => Some(Verdict::Denied),
            _ => None,
        }
    }

    /// The byte on the wire.
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

/// Whether a VM counts as running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    /// Anything but off: running, blocked, paused, crashed, suspended, unknown.
    Running,
    /// libvirt says SHUTOFF.
    Off,
}

/// One VM of a host list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// libvirt's name of the VM.
    pub name: String,
    /// Its UUID, in the usual 36 characters.
    pub uuid: String,
    /// Whether it runs.
    pub state: PowerState,
}

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// One byte.
    Verdict(Verdict),
    /// The list of VMs.
    HostList(Vec<HostEntry>),
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Answer {
        Answer::Verdict(verdict)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Verdict(verdict) => verdict.fmt(f),
            Answer::HostList(entries) => write!(f, "{} VMs listed", entries.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_taken_only_where_it_can_be_one() {
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
