//! Schedules, and the states to which they lead.

use crate::cluster::Cluster;
use crate::event::Event;

/// Events of a schedule, each by its place among those that could happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Schedule {
    places: [u8; 15],
    len: u8,
}

impl Schedule {
    /// Longest schedule.
    pub const MAX: usize = 15;

    pub fn with(mut self, place: usize) -> Schedule {
        self.places[usize::from(self.len)] = u8::try_from(place).expect("there are few events");
        self.len += 1;
        self
    }

    fn places(&self) -> &[u8] {
        &self.places[..usize::from(self.len)]
    }
}

/// A walk from schedule to schedule, which repeats only the events that differ. States take kilobytes, and
/// schedules do not.
pub struct Walk<'a, E> {
    events: E,
    start: &'a Cluster,
    path: Vec<(u8, Cluster)>,
}

impl<'a, E: Fn(&Cluster) -> Vec<Event>> Walk<'a, E> {
    /// A walk among schedules of these events.
    pub fn new(start: &'a Cluster, events: E) -> Walk<'a, E> {
        Walk { events, start, path: Vec::new() }
    }

    /// Returns the state after a schedule.
    pub fn to(&mut self, schedule: &Schedule) -> &Cluster {
        let places = schedule.places();
        let same = self.path.iter().zip(places).take_while(|((place, _), wanted)| place == *wanted).count();
        self.path.truncate(same);
        for &place in &places[same..] {
            let before = self.path.last().map_or(self.start, |(_, cluster)| cluster);
            let event = (self.events)(before)[usize::from(place)];
            let mut after = before.clone();
            after.apply(event);
            self.path.push((place, after));
        }
        self.path.last().map_or(self.start, |(_, cluster)| cluster)
    }

    /// Returns the events of a schedule.
    pub fn events_of(&mut self, schedule: &Schedule) -> Vec<Event> {
        let mut events = Vec::new();
        let mut prefix = Schedule::default();
        for &place in schedule.places() {
            let before = self.to(&prefix).clone();
            events.push((self.events)(&before)[usize::from(place)]);
            prefix = prefix.with(usize::from(place));
        }
        events
    }
}
