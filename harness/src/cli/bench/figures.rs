//! A figure as a person reads it: median and spread, and whether it meets its goal.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Seconds, shown as such.
    Seconds,
    /// Seconds, shown as milliseconds.
    Milliseconds,
    /// How many times another value of the same round.
    Times,
    /// Megabytes of 10⁶ bytes.
    Megabytes,
    /// Seconds of CPU time.
    CpuSeconds,
}

/// What a row should be, in its unit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// The median is at most this.
    Median(f64),
    /// The median is less than this.
    MedianBelow(f64),
    /// The median is at least this.
    MedianFrom(f64),
    /// Every value is at most this.
    Always(f64),
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) unit: Unit,
    pub(super) values: Vec<f64>,
    pub(super) goal: Option<Goal>,
}

impl Unit {
    /// A value without its unit.
    fn number(self, value: f64) -> String {
        match self {
            Self::Seconds | Self::Times | Self::CpuSeconds => format!("{value:.2}"),
            Self::Milliseconds if value.abs() < 0.002 => format!("{:.2}", value * 1_000.0),
            Self::Milliseconds if value < 0.01 => format!("{:.1}", value * 1_000.0),
            Self::Milliseconds => format!("{:.0}", value * 1_000.0),
            Self::Megabytes => format!("{value:.0}"),
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Times => "×",
            Self::Megabytes => "MB",
            Self::CpuSeconds => "CPU s",
        }
    }

    /// A value with its unit.
    pub(super) fn shown(self, value: f64) -> String {
        format!("{} {}", self.number(value), self.symbol())
    }
}

impl Goal {
    fn shown(self, unit: Unit) -> String {
        match self {
            Self::Median(limit) => format!("≤ {}", unit.shown(limit)),
            Self::MedianBelow(limit) => format!("< {}", unit.shown(limit)),
            Self::MedianFrom(limit) => format!("≥ {}", unit.shown(limit)),
            Self::Always(limit) => format!("always ≤ {}", unit.shown(limit)),
        }
    }

    fn met(self, sorted: &[f64]) -> bool {
        match self {
            Self::Median(limit) => median(sorted) <= limit,
            Self::MedianBelow(limit) => median(sorted) < limit,
            Self::MedianFrom(limit) => median(sorted) >= limit,
            Self::Always(limit) => sorted.iter().all(|value| *value <= limit),
        }
    }
}

/// The rows as a Markdown table.
pub(super) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(["measured", "median", "min–max", "runs", "goal", "verdict"]);
    for column in 1..=3 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in rows {
        table.add_row(cells(row));
    }
    table.to_string()
}

fn cells(row: &Row) -> [String; 6] {
    let goal = row.goal.map(|goal| goal.shown(row.unit)).unwrap_or_default();
    let mut sorted = row.values.clone();
    sorted.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else {
        return [row.what.clone(), "-".to_owned(), "-".to_owned(), "0".to_owned(), goal, "not measured".to_owned()];
    };
    let verdict = match row.goal.map(|goal| goal.met(&sorted)) {
        Some(true) => "met",
        Some(false) => "**not met**",
        None => "",
    };
    let spread = format!("{}–{}", row.unit.number(*least), row.unit.number(*most));
    let median = row.unit.shown(median(&sorted));
    [row.what.clone(), median, spread, sorted.len().to_string(), goal, verdict.to_owned()]
}

/// The median of sorted values; of an even number of them, the mean of the two in the middle.
pub(super) fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted {
        [] => f64::NAN,
        _ if sorted.len().is_multiple_of(2) => f64::midpoint(sorted[half - 1], sorted[half]),
        _ => sorted[half],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(&[1.0, 2.0, 9.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[1.0, 2.0, 4.0, 9.0]) - 3.0).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_row_says_whether_its_goal_is_met() {
        let row = |values: &[f64], goal| Row {
            what: "gone".to_owned(),
            unit: Unit::Milliseconds,
            values: values.to_owned(),
            goal: Some(goal),
        };
        let one_is_late = [0.9, 0.1, 0.2];
        let expected = ["gone", "200 ms", "100–900", "3", "≤ 500 ms", "met"];
        assert_eq!(cells(&row(&one_is_late, Goal::Median(0.5))), expected);
        assert_eq!(cells(&row(&one_is_late, Goal::Always(0.5)))[4..], ["always ≤ 500 ms", "**not met**"]);
        assert_eq!(cells(&row(&[0.5], Goal::MedianBelow(0.5)))[5], "**not met**");
        assert_eq!(cells(&row(&[0.5], Goal::MedianFrom(0.5)))[4..], ["≥ 500 ms", "met"]);
        assert_eq!(cells(&row(&[0.4], Goal::MedianFrom(0.5)))[5], "**not met**");
        assert_eq!(cells(&row(&[], Goal::Always(0.5)))[5], "not measured");
    }
}
