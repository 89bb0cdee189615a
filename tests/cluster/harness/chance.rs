//! What happens at random: how many rounds of it, and a seed that is printed and can be given again.
#![allow(dead_code)] // not every scenario with faults needs all of it

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Whether faults are to come many times over: `tests/run --long`.
pub fn is_long() -> bool {
    std::env::var("CORACLE_TEST_LONG").as_deref() == Ok("1")
}

/// How many rounds: few every time, and many when there are hours.
pub fn rounds(few: usize, many: usize) -> usize {
    if is_long() { many } else { few }
}

/// Random numbers, the same ones for the same seed (splitmix64).
pub struct Chance(u64);

impl Chance {
    /// With the seed of `CORACLE_TEST_SEED`, else another one each time. It is printed.
    pub fn new(what: &str) -> Result<Self, String> {
        let given = std::env::var("CORACLE_TEST_SEED").ok();
        let given = given.map(|seed| seed.parse().map_err(|error| format!("CORACLE_TEST_SEED={seed}: {error}")));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
        let seed = given.unwrap_or_else(|| Ok(u64::from(now.subsec_nanos()) ^ now.as_secs()))?;
        println!("        {what}: CORACLE_TEST_SEED={seed}");
        Ok(Self(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or_default()
    }

    /// One of these.
    pub fn one_of<'o, T>(&mut self, options: &'o [T]) -> &'o T {
        &options[self.below(options.len())]
    }

    /// A moment within this time.
    pub fn moment(&mut self, most: Duration) -> Duration {
        most * u32::try_from(self.below(1000)).unwrap_or_default() / 1000
    }
}
