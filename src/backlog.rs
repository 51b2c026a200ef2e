//! Queue of jobs for one worker. Power operations have priority, so that queries do not delay fencing; a
//! waiting query gets its turn after `AHEAD_MAX` of them, so that monitor operations do not starve.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

/// Maximum power operations that overtake a waiting query.
const AHEAD_MAX: usize = 8;

/// Queue with priority for power operations.
#[derive(Debug, Clone)]
pub struct Backlog<T> {
    power: VecDeque<T>,
    queries: VecDeque<T>,
    /// Power operations taken since a query started to wait.
    ahead: usize,
}

impl<T> Default for Backlog<T> {
    fn default() -> Backlog<T> {
        Backlog { power: VecDeque::new(), queries: VecDeque::new(), ahead: 0 }
    }
}

impl<T> Backlog<T> {
    /// Appends an item to its queue.
    pub fn push(&mut self, item: T, is_power: bool) {
        let queue = if is_power { &mut self.power } else { &mut self.queries };
        queue.push_back(item);
    }

    /// Takes the next item.
    pub fn pop(&mut self) -> Option<T> {
        if self.ahead < AHEAD_MAX || self.queries.is_empty() {
            if let Some(item) = self.power.pop_front() {
                self.ahead = if self.queries.is_empty() { 0 } else { self.ahead + 1 };
                return Some(item);
            }
        }
        self.ahead = 0;
        self.queries.pop_front()
    }

    /// Keeps only the items for which `is_wanted` returns true.
    pub fn retain(&mut self, is_wanted: impl Fn(&T) -> bool) {
        self.power.retain(&is_wanted);
        self.queries.retain(&is_wanted);
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.power.len() + self.queries.len()
    }

    /// True if it has no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_waits_for_some_power_operations_and_not_for_all() {
        let mut backlog = Backlog::default();
        for is_power in std::iter::repeat_n(true, 20).chain([false; 3]) {
            backlog.push(is_power, is_power);
        }
        let mut order = Vec::new();
        while let Some(is_power) = backlog.pop() {
            order.push(is_power);
        }
        let queries: Vec<usize> = (0..23).filter(|&at| !order[at]).collect();
        assert_eq!(queries, [AHEAD_MAX, 2 * AHEAD_MAX + 1, 22]);
    }
}
