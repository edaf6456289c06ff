//! How the searches of the tests run: lives that follow from one number each, the seed. Whatever a life does by chance it
//! takes from [`Dice`], so a life that fails is lived again by its seed alone.
//!
//! | Variable | Says |
//! |---|---|
//! | `PODWRIGHT_SEARCH_SEED` | that only this life is lived, and told step by step |
//! | `PODWRIGHT_SEARCH_LIVES` | how many lives are lived; without it, so many as the test says |
//! | `PODWRIGHT_SEARCH_SECONDS` | for how long lives are begun, instead of a number of them |
//! | `PODWRIGHT_SEARCH_FROM` | the first seed, 0 without it |

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Steps of a life that are told when it fails: the last ones. All of them are told when it alone is lived.
const TOLD: usize = 60;

/// Numbers that follow from a seed. The generator is splitmix64: nothing here needs a better one.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// True in so many of 100 cases.
    pub(crate) fn chance(&mut self, of_a_hundred: usize) -> bool {
        self.below(100) < of_a_hundred
    }

    pub(crate) fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }
}

/// What happened in a life, for whoever has to find out why it failed.
#[derive(Debug, Default)]
pub(crate) struct Told {
    steps: Vec<String>,
}

impl Told {
    pub(crate) fn tell(&mut self, step: impl Display) {
        self.steps.push(step.to_string());
    }

    pub(crate) fn steps_of(&mut self, step: Option<String>) {
        self.steps.extend(step);
    }

    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    pub(crate) fn end(&self) -> String {
        let told = if number::<u64>("PODWRIGHT_SEARCH_SEED").is_some() { self.len() } else { TOLD };
        self.steps[self.len().saturating_sub(told)..].join("\n")
    }
}

/// Lives the `kept` seeds, which have failed before, and then `lives` others, or what the environment says.
/// `name` is the test's.
pub(crate) fn search(name: &str, kept: &[u64], lives: u64, live: impl Fn(u64)) {
    if let Some(seed) = number("PODWRIGHT_SEARCH_SEED") {
        attempt(name, seed, &live);
        return;
    }
    kept.iter().for_each(|seed| attempt(name, *seed, &live));
    let first = number("PODWRIGHT_SEARCH_FROM").unwrap_or(0);
    let lives = number("PODWRIGHT_SEARCH_LIVES").unwrap_or(lives);
    let time = number("PODWRIGHT_SEARCH_SECONDS").map(Duration::from_secs);
    let began = Instant::now();
    let mut seed = first;
    while time.map_or(seed - first < lives, |time| began.elapsed() < time) {
        attempt(name, seed, &live);
        seed += 1;
    }
    println!("{name}: {} lives from {first} in {} s", seed - first, began.elapsed().as_secs());
}

fn attempt(name: &str, seed: u64, live: &impl Fn(u64)) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| live(seed))) {
        println!(
            "{name}: seed {seed} has failed; again: PODWRIGHT_SEARCH_SEED={seed} cargo test --lib {name}"
        );
        resume_unwind(panic);
    }
}

fn number<T: FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    let Ok(number) = text.parse() else { panic!("{variable} is {text}, and should be a number") };
    Some(number)
}
