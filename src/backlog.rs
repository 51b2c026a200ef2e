//! What waits for one worker. Power operations go first, so that no crowd of
//! questions holds up a fence; but a question that waits gets its turn after
//! some of them, or a crowd of those would keep every monitor waiting.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

/// So many power operations go ahead of a question.
const AHEAD_MAX: usize = 8;

/// The queue.
#[derive(Debug)]
pub struct Backlog<T> {
    power: VecDeque<T>,
    questions: VecDeque<T>,
    /// Power operations that were taken while a question waited.
    ahead: usize,
}

impl<T> Default for Backlog<T> {
    fn default() -> Backlog<T> {
        Backlog { power: VecDeque::new(), questions: VecDeque::new(), ahead: 0 }
    }
}

impl<T> Backlog<T> {
    /// Puts one at the end.
    pub fn push(&mut self, item: T, is_power: bool) {
        let queue = if is_power { &mut self.power } else { &mut self.questions };
        queue.push_back(item);
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<T> {
        if self.ahead < AHEAD_MAX || self.questions.is_empty() {
            if let Some(item) = self.power.pop_front() {
                self.ahead = if self.questions.is_empty() { 0 } else { self.ahead + 1 };
                return Some(item);
            }
        }
        self.ahead = 0;
        self.questions.pop_front()
    }

    /// Drops those that are not wanted any more.
    pub fn retain(&mut self, is_wanted: impl Fn(&T) -> bool) {
        self.power.retain(&is_wanted);
        self.questions.retain(&is_wanted);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.power.len() + self.questions.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_waits_for_some_fences_and_not_for_all() {
        let mut backlog = Backlog::default();
        for is_power in std::iter::repeat_n(true, 20).chain([false; 3]) {
            backlog.push(is_power, is_power);
        }
        let mut order = Vec::new();
        while let Some(is_power) = backlog.pop() {
            order.push(is_power);
        }
        let questions: Vec<usize> = (0..23).filter(|&at| !order[at]).collect();
        assert_eq!(questions, [AHEAD_MAX, 2 * AHEAD_MAX + 1, 22]);
    }
}
