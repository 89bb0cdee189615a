//! Something that must hold before, or while, a cluster runs.

use crate::error::{Error, Result};

/// A check and its result. The error has the cause and the hints.
#[derive(Debug, Clone)]
pub struct Check {
    /// What is checked, such as `inotify instances`.
    pub name: &'static str,
    pub result: Result<()>,
}

impl Check {
    pub fn new(name: &'static str, result: Result<()>) -> Self {
        Self { name, result }
    }
}

/// The error of the first check that failed.
pub fn first_failure(checks: impl IntoIterator<Item = Check>) -> Option<Error> {
    checks.into_iter().find_map(|check| check.result.err())
}

/// Fails as the first check that failed.
pub fn require(checks: impl IntoIterator<Item = Check>) -> Result<()> {
    first_failure(checks).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn the_first_failure_counts() {
        let failed = |message: &str| Check::new("a", Err(Error::new(Code::StepFailed, message)));
        let checks = [Check::new("fine", Ok(())), failed("one"), failed("two")];
        assert_eq!(require(checks).unwrap_err().message(), "one");
        assert!(require([]).is_ok());
    }
}
