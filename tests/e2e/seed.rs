//! The seed of a randomized test, which is printed so that a failure can be repeated.

use std::str::FromStr;

use rand::{SeedableRng, rngs::StdRng};

/// A seed that is printed when the test fails.
pub(crate) struct Seed(u64);

impl Seed {
    /// Returns the seed in `DROVER_FAULTS_SEED`, or a random seed, with its random number generator.
    pub(crate) fn choose() -> (Self, StdRng) {
        let seed = from_env("DROVER_FAULTS_SEED").unwrap_or_else(rand::random);
        (Self(seed), StdRng::seed_from_u64(seed))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the test harness shows the seed beside the failure")]
            {
                eprintln!("repeat this run with DROVER_FAULTS_SEED={}", self.0);
            }
        }
    }
}

/// Returns the number in an environment variable, if it is set.
pub(crate) fn from_env<T: FromStr>(key: &str) -> Option<T> {
    let value = std::env::var(key).ok()?;
    Some(value.parse().ok().unwrap_or_else(|| panic!("{key}={value} is not a number")))
}
