//! `coracle kubectl`: the cluster's own version, copied once out of the node and run on the host.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;

use crate::cli::command::Run;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::options::{KubeconfigOption, NameOption};
use crate::cluster::found::Cluster;
use crate::cluster::{self, access};
use crate::engine::Engine;
use crate::error::{Code, Error, OTHER_CACHE, Result};
use crate::host;
use crate::kubeconfig::{self, Entry};

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Kubectl {
    // Without the short option: `-n` is kubectl's namespace.
    /// Name of the cluster [default: coracle]
    #[arg(long, env = "CORACLE_CLUSTER_NAME", value_name = "NAME", add = complete::clusters())]
    name: Option<String>,
    /// Arguments for kubectl; `--name` comes before them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

impl Run for Kubectl {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let cluster = cluster::get(&*engine, &NameOption { name: self.name }.get()?).await?;
        if asks_the_api(&self.arguments) {
            cluster.require_api()?;
        }
        let cache = host::kubectl::cache()?;
        let binary = binary(&*engine, &cluster, &cache, context).await?;
        let entry = access::entry(&*engine, &cluster, false).await?;
        let location = KubeconfigOption { kubeconfig: None }.location()?;
        let users = kubeconfig::files_with_own(&location, &entry.name);
        if users.is_none() && change_of(&self.arguments).is_some() {
            context.ui.warn(format!(
                "your kubeconfig does not have the context `{}`, so only `coracle kubectl` sees this change",
                entry.name
            ));
            context.ui.hint(format!("`coracle export kubeconfig --name {}` adds the context", cluster.name));
        }
        let own = host::kubectl::kubeconfig(&cache, cluster.name.as_str());
        let config = kubeconfigs(&entry, own, users, change_of(&self.arguments))?;
        // Returns only if it fails: kubectl takes the place of this process, with its signals and its exit code.
        // The kubeconfig is in the environment: an option could not stand before the name of a plugin.
        let failed = Command::new(&binary)
            .env("KUBECONFIG", config)
            .env("PATH", search_path(&binary, std::env::var_os("PATH").as_deref()))
            .args(&self.arguments)
            .exec();
        let error = Error::new(Code::FileFailed, format!("cannot run `{}`", binary.display())).with_cause(&failed);
        // Such as a file system that is mounted with `noexec`.
        Err(if failed.kind() == ErrorKind::PermissionDenied { error.hint(OTHER_CACHE) } else { error })
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

/// Whether kubectl asks the cluster for something: with a cluster that is paused, it would wait for minutes.
fn asks_the_api(arguments: &[OsString]) -> bool {
    const OFFLINE: [&str; 6] = ["config", "completion", "help", "kustomize", "options", "plugin"];
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let is_help =
        words.iter().take_while(|word| **word != "--").any(|word| ["-h", "--help", "--client"].contains(word));
    words.first().is_some_and(|first| !OFFLINE.contains(first)) && !is_help
}

/// What a `kubectl config` command changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The context of the cluster.
    Current,
    /// Anything else in the kubeconfig.
    Other,
}

/// What the command changes in the kubeconfig, if it is one that does.
fn change_of(arguments: &[OsString]) -> Option<Change> {
    // Only as the first word is `config` certain to be the command, or after options that have their value with them.
    let is_whole = |word: &OsString| word.to_str().is_some_and(|word| word.starts_with('-') && word.contains('='));
    let options = arguments.iter().take_while(|word| is_whole(word)).count();
    let (command, rest) = arguments[options..].split_first()?;
    let verb = rest.iter().filter_map(|word| word.to_str()).find(|word| !word.starts_with('-'))?;
    let changes = ["set", "unset", "use", "rename", "delete"].contains(&verb.split('-').next()?);
    let current = rest.iter().filter_map(|word| word.to_str()).any(|word| word.starts_with("--current"));
    (command == "config" && changes).then_some(if current { Change::Current } else { Change::Other })
}

/// The value of KUBECONFIG for kubectl, whose current context is the cluster's.
///
/// If the user's files have that context, it counts with its namespace, and what kubectl changes is changed there. Only
/// then `users` has a value. The cluster and the credentials still are what the cluster itself has.
fn kubeconfigs(entry: &Entry, own: PathBuf, users: Option<Vec<PathBuf>>, change: Option<Change>) -> Result<OsString> {
    let joined = |files: &[PathBuf]| {
        std::env::join_paths(files).map_err(|source| {
            Error::new(Code::FileFailed, "cannot name the kubeconfigs to kubectl").with_cause(&source)
        })
    };
    match (users, change) {
        // kubectl writes what is new to the first file.
        (Some(users), Some(Change::Other)) => joined(&users),
        (Some(users), _) => {
            write_private(&own, &kubeconfig::render_beside(entry)?)?;
            joined(&[vec![own], users].concat())
        }
        (None, _) => {
            // What was set earlier for this same cluster stays.
            let old = std::fs::read_to_string(&own).ok();
            let refreshed = old.and_then(|old| kubeconfig::refreshed(&old, entry));
            write_private(&own, &refreshed.map_or_else(|| kubeconfig::render(entry), Ok)?)?;
            Ok(own.into())
        }
    }
}

/// Writes a kubeconfig, mode 0600 from the start.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        // Temporary files are 0600, and another kubectl that reads the old one is not disturbed.
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.persist(path).map_err(|failed| failed.error)
    };
    write().map(drop).map_err(|source| host::kubectl::unusable(path, &source))
}

/// PATH with this kubectl first, for plugins that call kubectl.
fn search_path(binary: &Path, path: Option<&OsStr>) -> OsString {
    let directories = binary.parent().map(Path::to_owned).into_iter();
    let path = path.unwrap_or_default();
    std::env::join_paths(directories.chain(std::env::split_paths(path))).unwrap_or_else(|_| path.to_owned())
}

/// PATH with the cluster's kubectl first.
pub(super) async fn path_with(
    path: Option<&OsStr>,
    engine: &dyn Engine,
    cluster: &Cluster,
    context: &Context,
) -> Result<OsString> {
    let binary = binary(engine, cluster, &host::kubectl::cache()?, context).await?;
    Ok(search_path(&binary, path))
}

/// kubectl of the cluster's version in the cache; copied out of a node the first time.
async fn binary(engine: &dyn Engine, cluster: &Cluster, cache: &Path, context: &Context) -> Result<PathBuf> {
    let version = cluster.version.as_deref().unwrap_or_default();
    let path = host::kubectl::path(cache, version);
    if host::kubectl::is_whole(&path) {
        return Ok(path);
    }
    let node = cluster.control_plane().ok_or_else(|| Error::new(Code::NotFound, "the cluster has no control plane"))?;
    let step = context.ui.step(format!("Copying kubectl {version} from the node"));
    host::kubectl::copy(engine, &node.name, &path).await?;
    step.finish();
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_context_counts_and_what_is_changed_lasts() {
        let directory = tempfile::tempdir().unwrap();
        let (own, users) = (directory.path().join("own"), directory.path().join("users"));
        let entry = |key: &str| Entry {
            name: "coracle-dev".to_owned(),
            server: "https://127.0.0.1:6443".to_owned(),
            ca_pem: key.to_owned(),
            client_cert_pem: String::new(),
            client_key_pem: String::new(),
        };
        let files = |users: Option<&Path>, change| {
            let value = kubeconfigs(&entry("CA"), own.clone(), users.map(|users| vec![users.to_owned()]), change);
            value.unwrap().into_string().unwrap()
        };
        let text = || std::fs::read_to_string(&own).unwrap();
        let [own_text, users_text] = [&own, &users].map(|path| path.display().to_string());
        let both = format!("{own_text}:{users_text}");
        assert_eq!(files(Some(&users), None), both);
        assert!(text().contains("current-context: coracle-dev") && !text().contains("contexts"), "{}", text());
        assert_eq!(files(Some(&users), Some(Change::Current)), both);
        assert_eq!(files(Some(&users), Some(Change::Other)), users_text);
        assert_eq!(files(None, Some(Change::Other)), own_text);
        let changed = text().replace("user: coracle-dev\n", "user: coracle-dev\n    namespace: mine\n");
        assert_ne!(changed, text());
        std::fs::write(&own, &changed).unwrap();
        assert_eq!(files(None, None), own_text);
        assert_eq!(text(), changed);
        // Another cluster of the same name has nothing from the one before it.
        kubeconfigs(&entry("another CA"), own.clone(), None, None).unwrap();
        assert!(!text().contains("mine"));
    }

    #[test]
    fn only_what_changes_the_kubeconfig_is_a_change() {
        let change = |line: &str| change_of(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for line in
            ["config view", "get config set", "-n config set image", "config", "config get-contexts", "set image"]
        {
            assert_eq!(change(line), None, "{line}");
        }
        assert_eq!(change("config use-context other"), Some(Change::Other));
        assert_eq!(change("config set-context other --namespace a"), Some(Change::Other));
        assert_eq!(change("config set-context --current --namespace=a"), Some(Change::Current));
        assert_eq!(change("-v=4 --request-timeout=5s config set-context a --cluster=b"), Some(Change::Other));
    }

    #[test]
    fn only_what_asks_the_cluster_needs_one_that_runs() {
        let asks = |line: &str| asks_the_api(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for line in ["get pods", "-n a get pods", "version", "exec web -- sh --help"] {
            assert!(asks(line), "{line}");
        }
        for line in ["config view", "version --client", "get --help", "kustomize ."] {
            assert!(!asks(line), "{line}");
        }
        assert!(!asks_the_api(&[]));
    }

    #[test]
    fn plugins_find_this_kubectl_first() {
        let found = search_path(Path::new("/cache/v1/kubectl"), Some(OsStr::new("/usr/bin:/bin")));
        assert_eq!(found, "/cache/v1:/usr/bin:/bin");
    }

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
