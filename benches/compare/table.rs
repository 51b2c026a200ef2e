//! Printed table of figures and targets.

use std::fmt;

use crate::stats::{Pair, Unit, median};

/// Table with one figure per line.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    /// Adds a figure measured in rounds; returns the median of the rounds' ratios, ours / C.
    pub(crate) fn compare(&mut self, name: &str, unit: Unit, samples: &Pair<Vec<f64>>) -> f64 {
        let rounds = samples.ours.iter().zip(&samples.theirs);
        let ratios: Vec<f64> = rounds.map(|(ours, theirs)| ours / theirs).collect();
        self.add(name, unit.spread(&samples.ours), unit.spread(&samples.theirs), Unit::Ratio.spread(&ratios));
        median(&ratios)
    }

    /// Adds a figure of unpaired samples; returns the ratio of the medians.
    pub(crate) fn compare_unpaired(&mut self, name: &str, unit: Unit, ours: &[f64], theirs: &[f64]) -> f64 {
        let ratio = median(ours) / median(theirs);
        self.add(name, unit.spread(ours), unit.spread(theirs), Unit::Ratio.spread(&[ratio]));
        ratio
    }

    /// Adds a figure of our daemon alone.
    pub(crate) fn ours_only(&mut self, name: &str, unit: Unit, samples: &[f64]) {
        self.add(name, unit.spread(samples), "-".to_owned(), "-".to_owned());
    }

    fn add(&mut self, name: &str, ours: String, theirs: String, ratio: String) {
        self.rows.push([name.to_owned(), ours, theirs, ratio]);
    }

    pub(crate) fn print(&self) {
        let head = ["median (min .. max)", "ours", "C", "ours / C"].map(str::to_owned);
        let rows = || std::iter::once(&head).chain(&self.rows);
        let width = |column: usize| rows().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [0, 1, 2, 3].map(width);
        for (at, row) in rows().enumerate() {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
            if at == 0 {
                println!("| {} |", widths.map(|_| "---").join(" | "));
            }
        }
    }
}

/// Target of a figure.
pub(crate) struct Aim {
    what: &'static str,
    value: f64,
    bound: f64,
    is_floor: bool,
}

impl Aim {
    pub(crate) fn at_most(what: &'static str, value: f64, bound: f64) -> Aim {
        Aim { what, value, bound, is_floor: false }
    }

    pub(crate) fn at_least(what: &'static str, value: f64, bound: f64) -> Aim {
        Aim { what, value, bound, is_floor: true }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_met = if self.is_floor { self.value >= self.bound } else { self.value <= self.bound };
        let word = if is_met { "met   " } else { "MISSED" };
        let sign = if self.is_floor { "≥" } else { "≤" };
        write!(f, "aim {word}  {}: {:.2} ({sign} {})", self.what, self.value, self.bound)
    }
}
