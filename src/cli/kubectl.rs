//! `coracle kubectl`: the cluster's own version, copied once out of the node and run on the host.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use clap::Args;

use crate::cli::Context;
use crate::cli::options::NameOption;
use crate::cluster::found::Cluster;
use crate::cluster::{self, access};
use crate::engine::{Engine, files};
use crate::error::{Code, Error, Result};
use crate::kubeconfig;

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct KubectlArguments {
    #[command(flatten)]
    name: NameOption,
    /// kubectl's own words; coracle's options come before them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

pub(crate) async fn run(context: &Context, arguments: KubectlArguments) -> Result<()> {
    let (engine, _) = context.engine().await?;
    let cluster = cluster::find(&*engine, &arguments.name.get()?).await?;
    let binary = binary(&*engine, &cluster, context).await?;
    let entry = access::entry(&*engine, &cluster, false).await?;
    let config = private_file(&kubeconfig::render(&entry)?, &cluster.name)?;
    let failed = std::process::Command::new(&binary).arg("--kubeconfig").arg(&config).args(&arguments.arguments).exec();
    Err(Error::new(Code::FileFailed, format!("cannot run `{}`", binary.display())).cause(&failed))
}

fn cache() -> Result<PathBuf> {
    dirs::cache_dir()
        .map(|folder| folder.join("coracle"))
        .ok_or_else(|| Error::new(Code::FileFailed, "there is no cache folder").hint("set HOME or XDG_CACHE_HOME"))
}

/// A kubeconfig of this cluster alone, mode 0600 from the start.
fn private_file(text: &str, cluster: &str) -> Result<PathBuf> {
    use std::io::Write;
    let folder = cache()?.join("kubeconfig");
    let path = folder.join(cluster);
    let failed = |source: &dyn std::error::Error| {
        Error::new(Code::FileFailed, format!("cannot write `{}`", path.display())).cause(source)
    };
    std::fs::create_dir_all(&folder).map_err(|source| failed(&source))?;
    // Temporary files are 0600, and another kubectl that reads the old one is not disturbed.
    let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(|source| failed(&source))?;
    file.write_all(text.as_bytes()).map_err(|source| failed(&source))?;
    file.persist(&path).map_err(|source| failed(&source))?;
    Ok(path)
}

/// kubectl of the cluster's version in the cache; copied out of a node the first time.
async fn binary(engine: &dyn Engine, cluster: &Cluster, context: &Context) -> Result<PathBuf> {
    let folder = cache()?.join("kubectl").join(cluster.version());
    let path = folder.join("kubectl");
    if path.exists() {
        return Ok(path);
    }
    let failed = |source: &dyn std::error::Error| {
        Error::new(Code::FileFailed, format!("cannot write `{}`", path.display())).cause(source)
    };
    let node = cluster.control_plane().ok_or_else(|| Error::new(Code::NotFound, "the cluster has no control plane"))?;
    let step = context.ui.step(format!("Copying kubectl {} out of the node", cluster.version()));
    let missing = || Error::new(Code::NotFound, "there is no kubectl in the node").on_node(&node.name);
    let bytes = files::read_file(engine, &node.name, "/usr/bin/kubectl").await?.ok_or_else(missing)?;
    std::fs::create_dir_all(&folder).map_err(|source| failed(&source))?;
    let file = tempfile::NamedTempFile::new_in(&folder).map_err(|source| failed(&source))?;
    std::fs::write(file.path(), bytes).map_err(|source| failed(&source))?;
    std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(|source| failed(&source))?;
    file.persist(&path).map_err(|source| failed(&source))?;
    step.finish();
    Ok(path)
}
