//! Rows with their budgets, as a table for the terminal and the page.

use std::fmt::Write as _;
use std::path::Path;

use crate::machine::Machine;
use crate::samples::{Samples, millis};

/// What of the page is ours; the rest is written by people.
const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";

/// One measured thing.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    what: String,
    ours: String,
    peer: String,
    result: String,
    budget: String,
    met: bool,
    notes: Vec<String>,
}

impl Row {
    /// Our median over the peer's, at most `budget`.
    pub(crate) fn ratio(what: &str, ours: &Samples, peer: &Samples, budget: f64) -> Self {
        let ratio = ours.p50() / peer.p50();
        Self {
            what: what.into(),
            ours: times(ours),
            peer: times(peer),
            result: shown(ratio),
            budget: format!("<= {}", shown(budget)),
            met: ratio <= budget,
            notes: Vec::new(),
        }
    }

    /// Our median, at most `budget` milliseconds.
    pub(crate) fn time(what: &str, ours: &Samples, budget: f64) -> Self {
        let mut row = Self::number(what, ours.p50(), budget, "ms");
        row.ours = times(ours);
        row
    }

    /// A number of ours, at most `budget`.
    pub(crate) fn number(what: &str, ours: f64, budget: f64, unit: &str) -> Self {
        let with_unit = |number: f64| format!("{} {unit}", shown(number)).trim_end().to_owned();
        Self {
            what: what.into(),
            ours: with_unit(ours),
            peer: String::new(),
            result: with_unit(ours),
            budget: format!("<= {}", with_unit(budget)),
            met: ours <= budget,
            notes: Vec::new(),
        }
    }

    /// A share that must be whole.
    pub(crate) fn whole(what: &str, share: f64) -> Self {
        let shown = format!("{:.2} %", share * 100.0);
        Self {
            what: what.into(),
            ours: shown.clone(),
            peer: String::new(),
            result: shown,
            budget: "100 %".into(),
            met: share >= 1.0,
            notes: Vec::new(),
        }
    }

    /// Adds a sentence on how it was measured, or of what it consists.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// All rows, and the machine that they were measured on.
pub(crate) struct Report {
    machine: Machine,
    rows: Vec<Row>,
}

impl Report {
    /// No rows yet.
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine, rows: Vec::new() }
    }

    /// Adds a row, and shows it at once: a run takes many minutes.
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("{}: {} (budget {}, {})", row.what, row.result, row.budget, verdict(row.met));
        self.rows.push(row);
    }

    /// The table, the notes and the machine.
    pub(crate) fn markdown(&self) -> String {
        let mut text =
            String::from("| What | Podwright | Peer | Result | Budget | |\n|---|---|---|---|---|---|\n");
        for (index, row) in self.rows.iter().enumerate() {
            let Row { what, ours, peer, result, budget, met, .. } = row;
            let (number, verdict) = (index + 1, verdict(*met));
            // Writing to a String cannot fail.
            let _ =
                writeln!(text, "| {number}. {what} | {ours} | {peer} | {result} | {budget} | {verdict} |");
        }
        text.push_str("\nTimes are p50 / p95. What was measured:\n\n");
        for (index, row) in self.rows.iter().enumerate().filter(|(_, row)| !row.notes.is_empty()) {
            let _ = writeln!(text, "- {}: {}", index + 1, row.notes.join(" "));
        }
        text.push('\n');
        text.push_str(&self.machine.markdown());
        text
    }

    /// Replaces the measured part of a page.
    pub(crate) fn write(&self, page: &Path) {
        let text = std::fs::read_to_string(page).expect("the page is there");
        let (before, rest) = text.split_once(BEGIN).expect("the page says where the measured part begins");
        let (_, after) = rest.split_once(END).expect("the page says where the measured part ends");
        let text = format!("{before}{BEGIN}{}{END}{after}", self.markdown());
        std::fs::write(page, text).expect("the page can be written");
    }
}

fn times(samples: &Samples) -> String {
    format!("{} / {} ({})", millis(samples.p50()), millis(samples.p95()), samples.count())
}

fn shown(number: f64) -> String {
    let text = if number.abs() >= 100.0 { format!("{number:.0}") } else { format!("{number:.2}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}
