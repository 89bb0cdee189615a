//! Builds the node agent, a static program of its own crate, and puts it into the command.
//!
//! `CORACLE_AGENT` names an agent that is already built, for hosts that cannot build Linux programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const CRATE: &str = "node-image/agent";
/// What the binary is made of, by its path in the crate; its tests are no part of it.
const SOURCES: &[&str] = &["src", "Cargo.toml", "Cargo.lock", "manifest.yaml", "../shared/src", "../shared/Cargo.toml"];

fn main() -> Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let output = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-env-changed=CORACLE_AGENT");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={CRATE}/{source}");
    }
    let binary = if let Some(built) = env::var_os("CORACLE_AGENT") {
        let built = root.join(built);
        println!("cargo::rerun-if-changed={}", built.display());
        built
    } else {
        build(&root)?
    };
    compress(&binary, &output.join("agent.zst"))?;
    let manifest = root.join(CRATE).join("manifest.yaml");
    fs::copy(&manifest, output.join("agent.yaml")).map_err(|error| unusable(&manifest, &error))?;
    Ok(())
}

/// Compresses the agent to a third of its size; less well where no one keeps the result.
fn compress(from: &Path, to: &Path) -> Result<()> {
    let level = if env::var("PROFILE")? == "release" { 19 } else { 1 };
    let program = fs::read(from).map_err(|error| unusable(from, &error))?;
    fs::write(to, zstd::encode_all(program.as_slice(), level)?).map_err(|error| unusable(to, &error))?;
    Ok(())
}

/// Builds the agent and returns its path.
fn build(root: &Path) -> Result<PathBuf> {
    if !env::var("HOST")?.contains("linux") {
        return Err("the node agent is a Linux program: set CORACLE_AGENT to a binary that is already built".into());
    }
    let target = format!("{}-unknown-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH")?);
    // One directory for all profiles, so that the agent is built once; not cargo's own, which is locked while this runs.
    let shared = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |set| root.join(set));
    let directory = shared.join("agent");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_the_outer_build) {
            cargo.env_remove(name);
        }
    }
    cargo
        .args(["build", "--release", "--locked", "--quiet", "--bin", "coracle-agent", "--target", &target])
        .current_dir(root.join(CRATE))
        .env("CARGO_TARGET_DIR", &directory)
        // Static, so that it runs in whatever the node image is made of.
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("the node agent in {CRATE} could not be built: {status}").into());
    }
    Ok(directory.join(target).join("release/coracle-agent"))
}

/// Settings of the build that runs this (clippy's wrapper, coverage flags, the profile) that must not reach the agent's;
/// where cargo finds its home, registries and job slots must.
fn is_of_the_outer_build(name: &str) -> bool {
    const OUTER: &[&str] = &["RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTDOCFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS"];
    const PREFIXES: &[&str] = &[
        "CARGO_BUILD_",
        "CARGO_CFG_",
        "CARGO_ENCODED_",
        "CARGO_FEATURE_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CARGO_MANIFEST_",
        "CARGO_PRIMARY_",
    ];
    OUTER.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn unusable(path: &Path, error: &std::io::Error) -> String {
    format!("cannot use `{}`: {error}", path.display())
}
