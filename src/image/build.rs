//! Building an image in the engine, with the `docker` program: it knows the user's builder, cache, secrets, proxies and
//! registry credentials, and `.dockerignore`. The engine's own API builds with the classic builder only.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use crate::engine::address::Address;
use crate::error::{Code, Error, Result};
use crate::image::reference::Reference;

/// What to build.
#[derive(Debug, Clone, Default)]
pub struct Build {
    /// The directory with the sources.
    pub directory: PathBuf,
    /// The Dockerfile, if it is not `Dockerfile` in the directory.
    pub file: Option<PathBuf>,
    /// Names of the image.
    pub tags: Vec<Reference>,
    /// Variables of the Dockerfile, `NAME=value`.
    pub arguments: Vec<String>,
    /// The stage to stop at.
    pub target: Option<String>,
    /// Further options of `docker build`.
    pub options: Vec<OsString>,
    /// Print nothing but errors.
    pub quiet: bool,
}

impl Build {
    /// What comes after `docker` in the command line.
    fn arguments(&self, has_buildx: bool) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["build".into()];
        // Builders other than the engine's own keep what they build, unless `--load` hands it to the engine.
        words.extend(has_buildx.then(|| "--load".into()));
        words.extend(self.quiet.then(|| "--quiet".into()));
        for tag in &self.tags {
            words.extend(["--tag".into(), tag.familiar().into()]);
        }
        if let Some(file) = &self.file {
            words.extend(["--file".into(), file.into()]);
        }
        for argument in &self.arguments {
            words.extend(["--build-arg".into(), argument.into()]);
        }
        if let Some(target) = &self.target {
            words.extend(["--target".into(), target.into()]);
        }
        words.extend(self.options.iter().cloned());
        words.extend(["--".into(), self.directory.clone().into()]);
        words
    }
}

/// Builds the image in the engine at this address; the program writes its output to `output`.
pub async fn build(build: &Build, address: &Address, output: Stdio) -> Result<()> {
    let mut probe = docker(address);
    probe.args(["buildx", "version"]).stdout(Stdio::null()).stderr(Stdio::null());
    let has_buildx = probe.status().await.map_err(|source| not_started(&source))?.success();
    let mut command = docker(address);
    command.args(build.arguments(has_buildx)).stdout(output);
    let status = command.status().await.map_err(|source| not_started(&source))?;
    if status.success() {
        return Ok(());
    }
    let names: Vec<String> = build.tags.iter().map(Reference::familiar).collect();
    Err(Error::new(Code::BuildFailed, format!("image `{}` was not built", names.join(", ")))
        .because(format!("`docker build` ended with {status}; see its output above"))
        .hint("correct what it names; `docker build` with the same arguments ends the same way"))
}

fn docker(address: &Address) -> Command {
    let mut command = Command::new("docker");
    // The engine that has the nodes, whatever context the program would use.
    command.env("DOCKER_HOST", address.to_string()).stdin(Stdio::null()).kill_on_drop(true);
    for variable in ["DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        command.env_remove(variable);
    }
    if let Address::Tcp { tls: Some(tls), .. } = address {
        // The files of a context have the names that the program looks for in this directory.
        command.env("DOCKER_CERT_PATH", &tls.directory);
        command.env(if tls.verify { "DOCKER_TLS_VERIFY" } else { "DOCKER_TLS" }, "1");
    }
    command
}

fn not_started(source: &std::io::Error) -> Error {
    if source.kind() == std::io::ErrorKind::NotFound {
        return Error::new(Code::ToolMissing, "`docker` is not installed").hint(
            "install Docker's command line (https://docs.docker.com/engine/install), or build the image with another \
             tool and load it with `coracle load image-archive`",
        );
    }
    Error::new(Code::BuildFailed, "cannot run `docker`").with_cause(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_those_of_docker_build() {
        let build = Build {
            directory: "src".into(),
            file: Some("a/Dockerfile".into()),
            tags: vec!["app".parse().unwrap(), "localhost:5000/app:2".parse().unwrap()],
            arguments: vec!["A=b c".to_owned()],
            target: Some("test".to_owned()),
            options: vec!["--no-cache".into()],
            quiet: false,
        };
        let words = |has_buildx| {
            let words = build.arguments(has_buildx).into_iter();
            words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join("|")
        };
        let rest = "--tag|app:latest|--tag|localhost:5000/app:2|--file|a/Dockerfile|--build-arg|A=b c|--target|test|\
                    --no-cache|--|src";
        assert_eq!(words(false), format!("build|{rest}"));
        assert_eq!(words(true), format!("build|--load|{rest}"));
    }
}
