//! Samples and their formatting.

/// Pair of values, one for each daemon.
pub(crate) struct Pair<T> {
    pub(crate) ours: T,
    pub(crate) theirs: T,
}

impl<T> Pair<Vec<T>> {
    /// Makes a sample of one figure of each round.
    pub(crate) fn map(&self, figure: impl Fn(&T) -> f64) -> Pair<Vec<f64>> {
        let side = |rounds: &[T]| rounds.iter().map(&figure).collect();
        Pair { ours: side(&self.ours), theirs: side(&self.theirs) }
    }
}

/// Unit of a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Seconds,
    PerSecond,
    Bytes,
    Ratio,
}

impl Unit {
    fn write(self, value: f64) -> String {
        match self {
            Unit::Seconds if value < 1e-3 => format!("{:.0} µs", value * 1e6),
            Unit::Seconds if value < 1.0 => format!("{:.1} ms", value * 1e3),
            Unit::Seconds => format!("{value:.2} s"),
            Unit::PerSecond => format!("{value:.0}/s"),
            Unit::Bytes if value < 1024.0 => format!("{value:.0} B"),
            Unit::Bytes if value < 1024.0 * 1024.0 => format!("{:.0} KiB", value / 1024.0),
            Unit::Bytes => format!("{:.1} MiB", value / 1024.0 / 1024.0),
            Unit::Ratio if value < 0.01 => format!("{value:.5}"),
            Unit::Ratio => format!("{value:.2}"),
        }
    }

    /// Formats the median, with minimum and maximum in brackets.
    pub(crate) fn spread(self, samples: &[f64]) -> String {
        let median = self.write(percentile(samples, 50));
        let least = self.write(percentile(samples, 0));
        let most = self.write(percentile(samples, 100));
        if least == most { median } else { format!("{median} ({least} .. {most})") }
    }
}

/// Returns the percentile of the samples.
pub(crate) fn percentile(samples: &[f64], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) * percent).div_ceil(100)]
}

pub(crate) fn median(samples: &[f64]) -> f64 {
    percentile(samples, 50)
}
