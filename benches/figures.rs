//! Medians, percentiles and tables.

use std::time::Duration;

/// Measured times in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Times {
    all: Vec<u64>,
}

impl Times {
    /// One more.
    pub fn push(&mut self, nanoseconds: u64) {
        self.all.push(nanoseconds);
    }

    /// One more.
    pub fn add(&mut self, time: Duration) {
        self.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those of a range of creations.
    #[must_use]
    pub fn range(&self, from: usize, to: usize) -> Times {
        Times { all: self.all.get(from..to.min(self.all.len())).unwrap_or_default().to_vec() }
    }

    /// The time below which `part` of all lie, in microseconds; 0 without any.
    #[must_use]
    pub fn percentile(&self, part: f64) -> f64 {
        let mut sorted = self.all.clone();
        sorted.sort_unstable();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into a short list")]
        let index = ((sorted.len().saturating_sub(1)) as f64 * part).round() as usize;
        sorted.get(index).map_or(0.0, |time| *time as f64 / 1000.0)
    }

    /// The median in microseconds.
    #[must_use]
    pub fn p50(&self) -> f64 {
        self.percentile(0.5)
    }

    /// The ninetieth percentile in microseconds.
    #[must_use]
    pub fn p90(&self) -> f64 {
        self.percentile(0.9)
    }
}

/// The median of a few numbers.
#[must_use]
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Rows of text with aligned columns: the first to the left, all others to the right.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column == 0 {
                line.push_str(&format!("{cell:<width$}"));
            } else {
                line.push_str(&format!("  {cell:>width$}"));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// "1.23", or "-" where there is nothing to divide by.
#[must_use]
pub fn ratio(of: f64, by: f64) -> String {
    if by > 0.0 { format!("{:.2}", of / by) } else { "-".into() }
}
