//! What a compaction's own request leaves out when it does not fit: whole units, so that no call loses its output
//! and no reasoning the calls that it led to.

use std::ops::Range;

use super::History;
use crate::llm::wire::Assembly;

/// Items of a window that stay or go together.
struct Unit {
    items: Range<usize>,
    /// Whether it is a response of the model with the outputs of its calls, and not something said to the model.
    is_step: bool,
}

impl History {
    /// How many units this window has before `end` beside its layers. They are left out in this order: the oldest steps
    /// of the model first; what was said to it, and the summary of the window before, only when no step is left.
    pub fn units(&self, end: usize) -> usize {
        self.cut(end).len()
    }

    /// The window's messages before `end` without its first `left_out` units in the order of leaving out.
    pub(super) fn without(&self, left_out: usize, end: usize) -> Assembly {
        let units = self.cut(end);
        let (steps, words): (Vec<&Unit>, Vec<&Unit>) = units.iter().partition(|unit| unit.is_step);
        let gone: Vec<usize> =
            steps.into_iter().chain(words).take(left_out).map(|unit| unit.items.start).collect();
        let mut assembly = self.layers();
        for unit in units.iter().filter(|unit| !gone.contains(&unit.items.start)) {
            let entries = self.entries.get(unit.items.clone()).unwrap_or_default();
            entries.iter().filter_map(|entry| self.fragment(entry)).for_each(|part| assembly.push(part));
        }
        assembly
    }

    /// Cuts the window's own items before `end` into units, in their order.
    fn cut(&self, end: usize) -> Vec<Unit> {
        let mut units: Vec<Unit> = Vec::new();
        let mut after_output = false;
        let start = self.first.map_or(self.window_start(), |first| first + 1);
        for (ordinal, entry) in self.entries.iter().enumerate().take(end).skip(start) {
            let is_output = entry.item.item.is_output();
            let is_answer = entry.item.item.is_the_models();
            let joins = is_output || is_answer && !after_output;
            match units.last_mut() {
                Some(unit) if unit.is_step && joins => unit.items.end = ordinal + 1,
                Some(_) | None => {
                    units.push(Unit { items: ordinal..ordinal + 1, is_step: is_output || is_answer })
                }
            }
            after_output = is_output;
        }
        units
    }
}
