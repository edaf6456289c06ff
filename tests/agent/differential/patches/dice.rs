//! Chance that is the same in each run.

/// SplitMix64: short, and good enough to choose lines.
pub(crate) struct Dice(u64);

impl Dice {
    /// The sequence of a number.
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring numbers would begin alike without the first two throws.
        let mut dice = Self(seed.wrapping_mul(0xA076_1D64_78BD_642F));
        dice.throw();
        dice.throw();
        dice
    }

    /// A number below `bound`, which is above 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.throw() % bound as u64).unwrap()
    }

    /// Whether something happens that happens so often out of a hundred times.
    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    /// One of several.
    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
