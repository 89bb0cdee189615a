//! The result of a check, and what would mend it.

use crate::cluster::doctor::fix::Fix;
use crate::error::Error;
use crate::host::check::Check;
use crate::host::checks::Id;

/// The result of a check, and what coracle itself can do about it.
#[derive(Debug)]
pub struct Finding {
    pub check: Check,
    pub fix: Option<Fix>,
}

impl From<Check> for Finding {
    fn from(check: Check) -> Self {
        Self { check, fix: None }
    }
}

impl Finding {
    /// One for each failure, or one that says that all is well.
    pub(super) fn each(id: Id, failures: Vec<(Error, Option<Fix>)>) -> Vec<Self> {
        if failures.is_empty() {
            return vec![Check::new(id, Ok(())).into()];
        }
        failures.into_iter().map(|(error, fix)| Self { check: Check::new(id, Err(error)), fix }).collect()
    }

    /// What to do: what the failure itself says, else what the list says.
    pub fn helps(&self) -> Vec<&str> {
        let hints = self.check.result.as_ref().err().map(Error::hints).unwrap_or_default();
        if hints.is_empty() { vec![self.check.id.row().helps] } else { hints.iter().map(String::as_str).collect() }
    }

    /// The command that mends it, if one does: the first that is quoted.
    pub fn command(&self) -> Option<String> {
        let quoted = |text: &str| {
            let mut parts = text.split('`').skip(1).step_by(2);
            parts.find(|part| COMMANDS.iter().any(|command| part.starts_with(command))).map(str::to_owned)
        };
        self.helps().into_iter().find_map(quoted)
    }
}

/// How commands in hints begin.
const COMMANDS: [&str; 10] =
    ["sudo ", "coracle ", "docker ", "kubectl ", "chmod ", "rm ", "unset ", "ip ", "wsl ", "export "];
