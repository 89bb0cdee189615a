//! Runs nft.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Makes all changes of a script, or none.
pub(crate) async fn run(script: &str) -> Result<(), String> {
    call(&["-f", "-"], script).await.map(drop)
}

/// The output of `nft` with these arguments.
pub(crate) async fn call(arguments: &[&str], input: &str) -> Result<String, String> {
    let run = async {
        let mut child = Command::new("nft")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = run.await.map_err(|error| format!("cannot run nft: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("nft: {}", text.lines().next().unwrap_or("failed")))
}
