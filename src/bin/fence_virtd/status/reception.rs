//! Reception of a listener: what it hears, and why it hears nothing.
//!
//! The threads that notice a change record it here; the status report reads it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;

/// Part of what a listener listens on: an interface, an address, or a libvirt URI with its VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Channel {
    pub(crate) name: String,
    /// Reason why nothing is heard there; none while the listener listens.
    pub(crate) fault: Option<String>,
}

impl Channel {
    /// Makes a channel where the listener listens.
    pub(crate) fn open(name: impl Into<String>) -> Channel {
        Channel { name: name.into(), fault: None }
    }

    /// Makes a channel where nothing is heard, for this reason.
    pub(crate) fn closed(name: impl Into<String>, reason: impl Into<String>) -> Channel {
        Channel { name: name.into(), fault: Some(reason.into()) }
    }
}

/// Reception at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ReceptionState {
    /// Names of the channels where it listens.
    pub(crate) open: Vec<String>,
    /// Reasons why nothing is heard on the others, or, if it is deaf, at all.
    pub(crate) faults: Vec<String>,
    /// True if nothing is heard at all.
    pub(crate) is_deaf: bool,
    /// Time for which that has been so, if it is known.
    pub(crate) deaf_for: Option<Duration>,
}

#[derive(Debug)]
struct ReceptionRecord {
    channels: Vec<Channel>,
    /// Reason outside the sockets of the listener why no channel works.
    obstacle: Option<String>,
    deaf_since: Option<Instant>,
}

/// Reception of one listener, shared by its thread and its observers.
#[derive(Debug, Clone)]
pub(crate) struct Reception {
    record: Arc<Mutex<ReceptionRecord>>,
    /// Directory without which nothing is heard. It is looked for when the state is asked for.
    directory: Option<PathBuf>,
}

impl Reception {
    /// Makes the reception of a listener that does not listen yet.
    pub(crate) fn new(directory: Option<PathBuf>) -> Reception {
        let record =
            ReceptionRecord { channels: Vec::new(), obstacle: None, deaf_since: Some(Instant::now()) };
        Reception { record: Arc::new(Mutex::new(record)), directory }
    }

    /// Replaces all channels. Returns true if one of them has changed.
    pub(crate) fn set_channels(&self, channels: Vec<Channel>) -> bool {
        self.change(|record| {
            let is_new = record.channels != channels;
            record.channels = channels;
            is_new
        })
    }

    /// Replaces or adds one channel. Returns true if it has changed.
    pub(crate) fn set_channel(&self, channel: Channel) -> bool {
        self.change(|record| match record.channels.iter_mut().find(|known| known.name == channel.name) {
            Some(known) if *known == channel => false,
            Some(known) => {
                *known = channel;
                true
            }
            None => {
                record.channels.push(channel);
                true
            }
        })
    }

    /// Sets the reason outside the listener's sockets why it hears nothing. Returns true if that is new.
    pub(crate) fn set_obstacle(&self, obstacle: Option<String>) -> bool {
        self.change(|record| {
            let is_new = record.obstacle != obstacle;
            record.obstacle = obstacle;
            is_new
        })
    }

    fn change(&self, change: impl FnOnce(&mut ReceptionRecord) -> bool) -> bool {
        let mut record = lock(&self.record);
        let is_new = change(&mut record);
        let hears = record.obstacle.is_none() && record.channels.iter().any(|it| it.fault.is_none());
        record.deaf_since = match (hears, record.deaf_since) {
            (true, _) => None,
            (false, since) => Some(since.unwrap_or_else(Instant::now)),
        };
        is_new
    }

    /// Returns the state at present.
    pub(crate) fn state(&self) -> ReceptionState {
        if let Some(path) = self.directory.as_ref().filter(|path| !path.is_dir()) {
            let reason = format!("the directory {} does not exist", path.display());
            return ReceptionState { open: Vec::new(), faults: vec![reason], is_deaf: true, deaf_for: None };
        }
        let record = lock(&self.record);
        let names = record.channels.iter().filter(|channel| channel.fault.is_none());
        let faults = record.channels.iter().filter_map(|channel| channel.fault.clone());
        let deaf_for = record.deaf_since.map(|since| since.elapsed());
        let (open, faults) = match &record.obstacle {
            Some(obstacle) => (Vec::new(), vec![obstacle.clone()]),
            None => (names.map(|channel| channel.name.clone()).collect(), faults.collect()),
        };
        ReceptionState { open, faults, is_deaf: deaf_for.is_some(), deaf_for }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(reception: &Reception) -> (Vec<String>, Vec<String>, bool) {
        let ReceptionState { open, faults, is_deaf, .. } = reception.state();
        (open, faults, is_deaf)
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_listener_hears_as_long_as_one_channel_is_open() {
        let reception = Reception::new(None);
        assert_eq!(shown(&reception), (words(&[]), words(&[]), true), "it does not listen yet");
        assert!(reception.set_channels(vec![Channel::open("br0"), Channel::closed("br1", "br1 is down")]));
        assert_eq!(shown(&reception), (words(&["br0"]), words(&["br1 is down"]), false));
        assert!(!reception.set_channel(Channel::open("br0")), "nothing new");
        assert!(reception.set_channel(Channel::closed("br0", "br0 is gone")));
        assert_eq!(shown(&reception), (words(&[]), words(&["br0 is gone", "br1 is down"]), true));
        assert!(reception.set_channel(Channel::open("br2")));
        assert_eq!(shown(&reception).0, ["br2"]);
    }

    #[test]
    fn an_obstacle_closes_all_channels() {
        let reception = Reception::new(None);
        reception.set_channel(Channel::open("a"));
        assert!(reception.set_obstacle(Some("no address".to_owned())));
        assert!(!reception.set_obstacle(Some("no address".to_owned())));
        assert_eq!(shown(&reception), (words(&[]), words(&["no address"]), true));
        assert!(reception.set_obstacle(None));
        assert_eq!(shown(&reception), (words(&["a"]), words(&[]), false));
    }

    #[test]
    fn deafness_begins_once() {
        let reception = Reception::new(None);
        let first = lock(&reception.record).deaf_since;
        reception.set_channel(Channel::closed("a", "b"));
        reception.set_obstacle(Some("c".to_owned()));
        assert_eq!(lock(&reception.record).deaf_since, first);
        reception.set_obstacle(None);
        reception.set_channel(Channel::open("a"));
        assert_eq!(lock(&reception.record).deaf_since, None);
    }

    #[test]
    fn a_missing_directory_is_noticed_when_it_is_asked_for() {
        let path = std::env::temp_dir().join(format!("fence-virtd-{}-reception", std::process::id()));
        let reception = Reception::new(Some(path.clone()));
        reception.set_channel(Channel::open("a"));
        assert!(shown(&reception).2, "{:?}", reception.state());
        std::fs::create_dir(&path).unwrap();
        assert_eq!(shown(&reception), (words(&["a"]), words(&[]), false));
        std::fs::remove_dir(&path).unwrap();
        assert!(reception.state().faults[0].contains("does not exist"));
    }
}
