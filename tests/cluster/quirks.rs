//! Faults and checks beyond the base model.

use std::fmt;
use std::str::FromStr;

use super::world::Time;

/// Faults and checks that are on.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Quirks {
    /// An event of libvirt may be late by this number of milliseconds.
    pub late: Time,
    /// A migration ends in two phases: the VM runs on the target while it is paused on the source. Or it
    /// fails, and goes on where it was.
    pub phases: bool,
    /// The worker may be in a libvirt call for 8 s, while the cpg thread goes on.
    pub blocks: bool,
    /// A daemon may be replaced by one that joins before the group reports that the earlier one has left.
    pub overlap: bool,
    /// A C daemon may hang for 10 s.
    pub c_hangs: bool,
    /// A host's libvirt may be away for 4 s.
    pub away: bool,
    /// `on` and reboot are checked for second copies.
    pub on: bool,
    /// Replies of this suite to C daemons are checked.
    pub c_oracle: bool,
    /// The verdicts of nodes that have received the same events are compared.
    pub same: bool,
    /// In the end, the hosts that are not in order are fenced: then every VM can be.
    pub fenced: bool,
    /// VMs of two hosts fence each other, and nobody else requests more than their status.
    pub duels: bool,
    /// An answer is wrong also if the daemon had no means to know better: it should have failed.
    pub strict: bool,
}

/// Combinations that are tried if none is chosen: the base, each quirk alone, and those that need others.
pub const COMBINATIONS: [&str; 18] = [
    "",
    "phases",
    "late=1000",
    "late=4000",
    "blocks",
    "overlap",
    "c_hangs",
    "away",
    "on",
    "c_oracle",
    "same",
    "fenced",
    "duels",
    "strict",
    "phases,late=4000",
    "strict,away",
    "on,strict",
    "c_hangs,c_oracle",
];

impl Quirks {
    fn flags(&mut self) -> [(&'static str, &mut bool); 11] {
        [
            ("phases", &mut self.phases),
            ("blocks", &mut self.blocks),
            ("overlap", &mut self.overlap),
            ("c_hangs", &mut self.c_hangs),
            ("away", &mut self.away),
            ("on", &mut self.on),
            ("c_oracle", &mut self.c_oracle),
            ("same", &mut self.same),
            ("fenced", &mut self.fenced),
            ("duels", &mut self.duels),
            ("strict", &mut self.strict),
        ]
    }
}

impl Quirks {
    /// Returns the parts of the model that these quirks use.
    pub fn parts(&self) -> Vec<&'static str> {
        let parts = [
            (self.late > 0, "late events"),
            (self.phases, "migrations in two phases"),
            (self.phases, "migrations that failed"),
            (self.blocks, "blocks of the worker"),
            (self.overlap, "replaced daemons"),
            (self.c_hangs, "C daemons that hang"),
            (self.away, "absences of libvirt"),
            (self.on, "starts by jobs"),
            (self.c_oracle, "replies to C daemons"),
            (self.same, "compared verdicts"),
            (self.fenced, "requests after all was fenced"),
            (self.duels, "duels"),
            (self.duels, "fallen in duels"),
            (self.duels, "survivors of duels"),
        ];
        parts.into_iter().filter(|(is_used, _)| *is_used).map(|(_, part)| part).collect()
    }
}

impl FromStr for Quirks {
    type Err = String;

    fn from_str(text: &str) -> Result<Quirks, String> {
        let mut quirks = Quirks::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            if let Some(number) = word.strip_prefix("late=") {
                quirks.late = number.parse().map_err(|_| format!("{number:?} is no number"))?;
                continue;
            }
            let flag = quirks.flags().into_iter().find(|(name, _)| *name == word).map(|(_, flag)| flag);
            *flag.ok_or_else(|| format!("{word:?} is no quirk"))? = true;
        }
        Ok(quirks)
    }
}

impl fmt::Display for Quirks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut copy = *self;
        let flags = copy.flags().into_iter().filter(|(_, is_on)| **is_on);
        let mut words: Vec<String> = flags.map(|(name, _)| name.to_owned()).collect();
        if self.late > 0 {
            words.push(format!("late={}", self.late));
        }
        f.write_str(&words.join(","))
    }
}
