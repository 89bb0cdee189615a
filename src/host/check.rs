//! Something that must hold before, or while, a cluster runs.

use crate::error::{Code, Error, Problem, Result};
use crate::host::checks::{Id, Severity};

/// A check and its result. The error has the cause and the hints.
#[derive(Debug, Clone)]
pub struct Check {
    /// Which check of the list.
    pub id: Id,
    pub result: Result<()>,
}

/// A problem of a configuration on this host, and the check that finds it.
pub type Found = (Id, Problem);

impl Check {
    pub fn new(id: Id, result: Result<()>) -> Self {
        Self { id, result }
    }

    /// A check that is well unless there is an error.
    pub fn unless(id: Id, failure: impl Into<Option<Error>>) -> Self {
        Self::new(id, failure.into().map_or(Ok(()), Err))
    }

    /// Its error, if it failed and is as bad as this.
    pub fn failure(&self, severity: Severity) -> Option<&Error> {
        self.result.as_ref().err().filter(|_| self.id.row().severity == severity)
    }
}

/// Checks of one kind: one for each failure, or one that is well.
pub fn each(id: Id, failures: impl IntoIterator<Item = Error>) -> Vec<Check> {
    let failed: Vec<Check> = failures.into_iter().map(|error| Check::new(id, Err(error))).collect();
    if failed.is_empty() { vec![Check::new(id, Ok(()))] } else { failed }
}

/// What is no failure, and may cause trouble: a sentence, and what to do.
pub fn odd(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(Code::StepFailed, message).hint(hint)
}

/// Fails as the first check that failed.
pub fn require<'c>(checks: impl IntoIterator<Item = &'c Check>) -> Result<()> {
    let failed = checks.into_iter().find_map(|check| check.failure(Severity::Error));
    failed.map_or(Ok(()), |error| Err(error.clone()))
}

/// A warning in one line: what is odd, why, and what to do.
pub fn sentence(error: &Error) -> String {
    let hints = error.hints().iter().map(|hint| format!("; {hint}"));
    std::iter::once(error.in_words()).chain(hints).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_counts_and_a_warning_is_none() {
        let failed = |id, message: &str| Check::new(id, Err(Error::new(Code::StepFailed, message)));
        let checks = [
            Check::new(Id::DiskFull, Ok(())),
            failed(Id::InotifyTight, "warning"),
            failed(Id::NoIpv6, "one"),
            failed(Id::DiskFull, "two"),
        ];
        assert_eq!(require(&checks).unwrap_err().message(), "one");
        assert!(require(&checks[..2]).is_ok());
        assert_eq!(sentence(&odd("it is odd", "`mend it`")), "it is odd; `mend it`");
    }
}
