//! Standard input, without keeping a command that is interrupted.

use crate::error::{Code, Error, Result};

/// Reads all of standard input as text; a thread that still waits for it ends with the process.
pub(crate) async fn read() -> Result<String> {
    let reading = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    let failed = |source: &dyn std::error::Error| Error::new(Code::FileFailed, "cannot read `-`").with_cause(source);
    reading.await.map_err(|source| failed(&source))?.map_err(|source| failed(&source))
}

/// The code of a file that was named in the command line and cannot be read: a name that is wrong is a wrong command line.
pub(crate) fn code(source: &std::io::Error) -> Code {
    use std::io::ErrorKind;
    match source.kind() {
        ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory => Code::UsageInvalid,
        _ => Code::FileFailed,
    }
}
