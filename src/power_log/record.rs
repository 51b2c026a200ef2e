use super::WallTime;
use crate::fence::{Operation, Verdict};
use crate::origins::{Network, Origin, Standing};

/// Maximum length of the name of a listener, in bytes: a kind, a colon and a label.
const LISTENER_MAX: usize = 80;
/// Maximum length of a requester, and of its share, in bytes: the name of a VM, and its UUID.
const REQUESTER_MAX: usize = 320;
/// Maximum length of the name of a VM, in bytes. Clients send 63 at most, other hosts 127.
const VM_MAX: usize = 160;
/// Maximum length of a reason, in bytes. libvirt's errors can be long.
const REASON_MAX: usize = 512;

/// Result of a power operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerVerdict {
    /// Done and verified.
    Success,
    /// Not done, or not verified.
    Failure,
    /// No group permits it.
    Denied,
    /// Not looked at: too many requests, or too late.
    Refused,
}

impl PowerVerdict {
    /// All results, in the order of their declaration.
    pub const ALL: [PowerVerdict; 4] =
        [PowerVerdict::Success, PowerVerdict::Failure, PowerVerdict::Denied, PowerVerdict::Refused];

    /// Word for a report.
    pub fn word(self) -> &'static str {
        match self {
            PowerVerdict::Success => "success",
            PowerVerdict::Failure => "failure",
            PowerVerdict::Denied => "denied",
            PowerVerdict::Refused => "refused",
        }
    }

    /// Result that a word stands for.
    pub(super) fn of_word(word: &str) -> Option<PowerVerdict> {
        PowerVerdict::ALL.into_iter().find(|verdict| verdict.word() == word)
    }

    /// True if the operation was not permitted, or not looked at.
    pub fn is_refusal(self) -> bool {
        matches!(self, PowerVerdict::Denied | PowerVerdict::Refused)
    }
}

/// Result of a power operation with this verdict.
impl From<Verdict> for PowerVerdict {
    fn from(verdict: Verdict) -> PowerVerdict {
        match verdict {
            Verdict::Success => PowerVerdict::Success,
            Verdict::Denied => PowerVerdict::Denied,
            // "Off" answers no power operation.
            Verdict::Failure | Verdict::Off => PowerVerdict::Failure,
        }
    }
}

/// Power operation that has ended: off, on or reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerRecord {
    /// Time of the answer.
    pub time: WallTime,
    /// Listener that received the request; `cpg` if another host asked.
    pub listener: String,
    /// Requester as the log names it: address, CID, VM, or node of the cluster.
    pub requester: String,
    /// Unit by which the requester is counted, see [`share_of`].
    pub share: String,
    /// Operation.
    pub operation: Operation,
    /// Name or UUID of the VM, as requested.
    pub vm: String,
    /// Result.
    pub verdict: PowerVerdict,
    /// Reason.
    pub reason: String,
    /// Milliseconds since the request was received; none if it was refused.
    pub millis: Option<u64>,
}

impl PowerRecord {
    /// Shortens texts that are too long.
    pub(super) fn bounded(mut self) -> PowerRecord {
        for (text, max) in [
            (&mut self.listener, LISTENER_MAX),
            (&mut self.requester, REQUESTER_MAX),
            (&mut self.share, REQUESTER_MAX),
            (&mut self.vm, VM_MAX),
            (&mut self.reason, REASON_MAX),
        ] {
            shorten(text, max);
        }
        self
    }
}

/// Shortens a text to `max` bytes, the last three of which are dots.
fn shorten(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max - 3).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
        text.shrink_to_fit();
    }
}

/// Unit by which a requester is counted: its origin if that is established, else its network. So a host
/// without the key has no further unit by taking further addresses of its network. One with the key has a unit
/// for each address that it has proven it from, and a host in several networks one in each.
pub fn share_of(standing: &Standing) -> String {
    match (standing.network.filter(|_| !standing.is_established), standing.origin) {
        (Some(Network::OnLink(prefix)), _) => prefix.to_string(),
        (Some(Network::LinkLocal), _) => "fe80::/10".to_owned(),
        (Some(Network::Remote), _) => "other networks".to_owned(),
        (None, Origin::Ip(address)) => address.to_string(),
        (None, Origin::Cid(cid)) => format!("CID {cid}"),
        (None, Origin::Domain(uuid)) => uuid.to_string(),
        (None, Origin::Key(key)) => format!("key {key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::Source;
    use crate::origins::Origins;
    use crate::time::Instant;
    use std::time::Duration;

    #[test]
    fn long_texts_are_cut_between_characters() {
        for (text, max, cut) in [("abcdef", 6, "abcdef"), ("abcdefg", 6, "abc..."), ("ééé", 5, "é...")] {
            let mut text = text.to_owned();
            shorten(&mut text, max);
            assert_eq!(text, cut);
        }
    }

    #[test]
    fn off_is_no_success_of_a_power_operation() {
        let verdicts = [Verdict::Success, Verdict::Failure, Verdict::Off, Verdict::Denied];
        let expected =
            [PowerVerdict::Success, PowerVerdict::Failure, PowerVerdict::Failure, PowerVerdict::Denied];
        assert_eq!(verdicts.map(PowerVerdict::from), expected);
    }

    #[test]
    fn further_addresses_of_a_network_are_no_further_shares() {
        let mut origins = Origins::default();
        let share =
            |origins: &Origins, text: &str| share_of(&origins.standing(&Source::Ip(text.parse().unwrap())));
        assert_eq!(share(&origins, "192.0.2.1"), share(&origins, "198.51.100.7"));
        assert_eq!(share(&origins, "fe80::1"), "fe80::/10");
        let now = Instant::from_boot(Duration::from_secs(1));
        origins.proved(&Source::Ip("192.0.2.1".parse().unwrap()), now);
        assert_eq!(share(&origins, "192.0.2.1"), "192.0.2.1");
        assert_eq!(share_of(&origins.standing(&Source::Cid(5))), "CID 5");
    }
}
