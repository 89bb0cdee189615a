//! `coracle kubectl`: the cluster's own version, copied once out of the node and run on the host.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::NameOption;
use crate::cluster::found::Cluster;
use crate::cluster::{self, access};
use crate::engine::{Engine, files};
use crate::error::{Code, Error, Result};
use crate::kubeconfig;

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Kubectl {
    // Without the short option: `-n` is kubectl's namespace.
    /// Name of the cluster
    #[arg(long, env = "CORACLE_CLUSTER_NAME", value_name = "NAME")]
    name: Option<String>,
    /// Arguments for kubectl; `--name` comes before them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

impl Run for Kubectl {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let cluster = cluster::get(&*engine, &NameOption { name: self.name }.get()?).await?;
        let binary = binary(&*engine, &cluster, context).await?;
        let entry = access::entry(&*engine, &cluster, false).await?;
        let config = private_file(&kubeconfig::render(&entry)?, cluster.name.as_str())?;
        // Returns only if it fails: kubectl takes the place of this process, with its signals and its exit code.
        // The kubeconfig is in the environment: an option could not stand before the name of a plugin.
        let failed = std::process::Command::new(&binary).env("KUBECONFIG", &config).args(&self.arguments).exec();
        Err(Error::new(Code::FileFailed, format!("cannot run `{}`", binary.display())).with_cause(&failed))
    }
}

/// The command line with `--` before what is kubectl's, so that none of its options is taken for one of coracle's.
pub(crate) fn separated(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let text = |at: usize| arguments.get(at).and_then(|argument| argument.to_str());
    let Some(command) = (1..arguments.len()).find(|at| !text(*at).is_some_and(|text| text.starts_with('-'))) else {
        return arguments;
    };
    if text(command) != Some("kubectl") {
        return arguments;
    }
    let mut at = command + 1;
    loop {
        match text(at) {
            Some("--name") => at += 2,
            Some(option) if option.starts_with("--name=") => at += 1,
            _ => break,
        }
    }
    if at < arguments.len() && text(at) != Some("--") {
        arguments.insert(at, "--".into());
    }
    arguments
}

fn cache() -> Result<PathBuf> {
    dirs::cache_dir()
        .map(|directory| directory.join("coracle"))
        .ok_or_else(|| Error::new(Code::FileFailed, "there is no cache directory").hint("set HOME or XDG_CACHE_HOME"))
}

/// A kubeconfig of this cluster alone, mode 0600 from the start.
fn private_file(text: &str, cluster: &str) -> Result<PathBuf> {
    use std::io::Write;
    let directory = cache()?.join("kubeconfig");
    let path = directory.join(cluster);
    let failed = |source: &dyn std::error::Error| {
        Error::new(Code::FileFailed, format!("cannot write `{}`", path.display())).with_cause(source)
    };
    std::fs::create_dir_all(&directory).map_err(|source| failed(&source))?;
    // Temporary files are 0600, and another kubectl that reads the old one is not disturbed.
    let mut file = tempfile::NamedTempFile::new_in(&directory).map_err(|source| failed(&source))?;
    file.write_all(text.as_bytes()).map_err(|source| failed(&source))?;
    file.persist(&path).map_err(|source| failed(&source))?;
    Ok(path)
}

/// kubectl of the cluster's version in the cache; copied out of a node the first time.
async fn binary(engine: &dyn Engine, cluster: &Cluster, context: &Context) -> Result<PathBuf> {
    let version = cluster.version.as_deref().unwrap_or_default();
    let directory = cache()?.join("kubectl").join(version);
    let path = directory.join("kubectl");
    if path.exists() {
        return Ok(path);
    }
    let failed = |source: &dyn std::error::Error| {
        Error::new(Code::FileFailed, format!("cannot write `{}`", path.display())).with_cause(source)
    };
    let node = cluster.control_plane().ok_or_else(|| Error::new(Code::NotFound, "the cluster has no control plane"))?;
    let step = context.ui.step(format!("Copying kubectl {version} from the node"));
    let missing = || Error::new(Code::NotFound, "the node has no kubectl").on_node(&node.name);
    let bytes = files::read_file(engine, &node.name, "/usr/bin/kubectl").await?.ok_or_else(missing)?;
    std::fs::create_dir_all(&directory).map_err(|source| failed(&source))?;
    let file = tempfile::NamedTempFile::new_in(&directory).map_err(|source| failed(&source))?;
    std::fs::write(file.path(), bytes).map_err(|source| failed(&source))?;
    std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(|source| failed(&source))?;
    file.persist(&path).map_err(|source| failed(&source))?;
    step.finish();
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_after_the_name_is_kubectls() {
        let separated = |line: &str| {
            let words = separated(line.split(' ').map(OsString::from));
            words.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        let same = [
            "coracle get nodes -n a",
            "coracle",
            "coracle --version",
            "coracle kubectl",
            "coracle kubectl -- -n a",
            "coracle kubectl --name",
        ];
        assert_eq!(same.map(&separated), same.map(str::to_owned));
        assert_eq!(separated("coracle kubectl -n kube-system get pods"), "coracle kubectl -- -n kube-system get pods");
        assert_eq!(
            separated("coracle -q kubectl --name a -v=6 get pods"),
            "coracle -q kubectl --name a -- -v=6 get pods"
        );
        assert_eq!(separated("coracle kubectl --name=a --help"), "coracle kubectl --name=a -- --help");
    }
}
