//! Standard input, without keeping a command that is interrupted.

use crate::error::{Code, Error, Result};

/// Reads all of standard input as text; a thread that still waits for it ends with the process.
pub(crate) async fn read() -> Result<String> {
    let reading = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    let failed = |source: &dyn std::error::Error| Error::new(Code::FileFailed, "cannot read `-`").with_cause(source);
    reading.await.map_err(|source| failed(&source))?.map_err(|source| failed(&source))
}
