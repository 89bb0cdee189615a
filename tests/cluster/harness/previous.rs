//! The command as it was at an earlier commit: its clusters are those that users have.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::SKIPPED;
use super::run::{LIMIT, Output, run};

/// The last commit before the sources moved into the house that they live in now.
const COMMIT: &str = "c54a45e";
/// Names a command that is already built.
const BUILT: &str = "CORACLE_TEST_PREVIOUS";
/// Most of what the command is built of was built for this one; the rest takes five minutes on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// Whether the command of that commit is already there.
pub fn is_built() -> bool {
    std::env::var_os(BUILT).is_some() || built().is_ok_and(|built| built.is_file())
}

/// Where it is kept.
fn built() -> Result<PathBuf, String> {
    Ok(target()?.join("previous").join(COMMIT).join("coracle"))
}

/// The command of that commit. It is built once and kept; the reason to skip where the repository does not have the commit.
pub fn command() -> Result<PathBuf, String> {
    if let Some(built) = std::env::var_os(BUILT) {
        return Ok(PathBuf::from(built));
    }
    let built = built()?;
    if !built.is_file() {
        build(&built)?;
    }
    Ok(built)
}

/// The directory that this test was built in, below which its profile has a directory.
fn target() -> Result<&'static Path, String> {
    profile()?.parent().ok_or_else(|| "the command is in no target directory".to_owned())
}

fn profile() -> Result<&'static Path, String> {
    Path::new(env!("CARGO_BIN_EXE_coracle")).parent().ok_or_else(|| "the command is in no directory".to_owned())
}

fn build(built: &Path) -> Result<(), String> {
    let repository = env!("CARGO_MANIFEST_DIR");
    let mut exists = Command::new("git");
    exists.args(["-C", repository, "cat-file", "-e", &format!("{COMMIT}^{{commit}}")]);
    if !run(exists, None, LIMIT).is_ok_and(|output| output.code == 0) {
        return Err(format!("{SKIPPED}this is no repository with commit {COMMIT}, and {BUILT} names no command"));
    }
    let directory = built.parent().unwrap_or(built);
    let (source, own) = (directory.join("source"), directory.join("target"));
    // Also what a run that was killed has left.
    let _ = std::fs::remove_dir_all(directory);
    shell(
        "mkdir -p \"$2\" && git -C \"$1\" archive \"$3\" | tar -x -C \"$2\"",
        &[repository.as_ref(), &source, COMMIT.as_ref()],
    )?;
    // A directory of its own, since in a shared one this command would take the place of the one that is tested; with a copy
    // of what both are built of.
    let name = profile()?.file_name().unwrap_or_default();
    shell(
        "mkdir -p \"$2/$3\" && cd \"$1/$3\" && cp -a --reflink=auto .fingerprint build deps \"$2/$3\"
         if [ -d \"$1/agent\" ]; then cp -a --reflink=auto \"$1/agent\" \"$2\"; fi",
        &[target()?, &own, name.as_ref()],
    )?;
    println!("        building the command of commit {COMMIT}");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--bin", "coracle"]).args((name == "release").then_some("--release"));
    cargo.current_dir(&source).env("CARGO_TARGET_DIR", &own);
    run(cargo, None, BUILD_LIMIT)?.ok()?;
    std::fs::rename(own.join(name).join("coracle"), built).map_err(|error| error.to_string())?;
    for done in [&source, &own] {
        std::fs::remove_dir_all(done).map_err(|error| format!("{}: {error}", done.display()))?;
    }
    Ok(())
}

fn shell(script: &str, arguments: &[&Path]) -> Result<(), String> {
    let mut command = Command::new("bash");
    command.args(["-ec", &format!("set -o pipefail\n{script}"), "bash"]).args(arguments);
    run(command, None, Duration::from_secs(300)).and_then(Output::ok).map(drop)
}
