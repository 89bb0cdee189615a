//! Builds the programs of a node from their pinned sources.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio::process::Command;

use crate::catalog::Program;
use crate::error::{Code, Error, Result};
use crate::node_image::Progress;
use crate::node_image::cache::Cache;
use crate::node_image::published::Published;
use crate::node_image::recipe::{CNI_PLUGINS, Module, Release, Versions, kubernetes_program, settings_program};
use crate::node_image::tool::{run, watch};

/// Linker flags that leave out symbols and debug information.
const STRIP: &str = "-s -w";
/// How many packages are compiled between two lines that say so.
const SHOWN_PACKAGES: usize = 10;
const RUNC_TAGS: &str = "seccomp netgo osusergo urfave_cli_no_docs";
/// The build date that Kubernetes reports; a fixed one, so that the same inputs give the same program.
const BUILD_DATE: &str = "2026-01-01T00:00:00Z";

/// The directories with what was built.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    /// `containerd`, `containerd-shim-runc-v2`, `ctr`.
    pub(super) containerd: PathBuf,
    /// The CNI plugins by name.
    pub(super) cni: PathBuf,
    /// `coredns`.
    pub(super) coredns: PathBuf,
    /// `crictl`.
    pub(super) crictl: PathBuf,
    /// `kubernetes`, the program that is all of Kubernetes' components.
    pub(super) kubernetes: PathBuf,
    /// `local-path-provisioner`.
    pub(super) provisioner: PathBuf,
    /// `pause`.
    pub(super) pause: PathBuf,
}

/// One `go build` in the source of a module.
struct GoBuild<'a> {
    name: &'a str,
    module: &'a Module,
    /// Packages, each of which gives a program of its last path element's name; the root package that of `name`.
    packages: Vec<String>,
    tags: &'a str,
    /// Go variables to set, `path=value`.
    variables: Vec<String>,
}

/// What can be set in a version of Kubernetes.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// With documentation, as JSON.
    pub(super) list: Vec<u8>,
    /// Without, packed for a label.
    pub(super) label: String,
}

/// Builds programs with the Go on this machine.
pub(super) struct Builder<'a> {
    cache: &'a Cache,
    progress: Progress<'a>,
    go_version: String,
}

impl<'a> Builder<'a> {
    pub(super) async fn new(cache: &'a Cache, progress: Progress<'a>) -> Result<Self> {
        let mut command = go();
        command.args(["env", "GOVERSION"]);
        let said = run(command, "ask Go for its version").await?;
        Ok(Self { cache, progress, go_version: String::from_utf8_lossy(&said).trim().to_owned() })
    }

    /// Builds everything but runc and what is published, one after the other: the compiler takes all processors by itself.
    pub(super) async fn programs(
        &self,
        versions: &Versions,
        release: &Release,
        published: Option<&Published>,
    ) -> Result<Programs> {
        let module = |name| versions.module(name, None);
        let coredns = versions.module("github.com/coredns/coredns", Some(&release.coredns))?;
        let or_built = async |there: Option<&PathBuf>, build: GoBuild<'_>| match there {
            Some(there) => Ok(there.clone()),
            None => self.go(&build).await,
        };
        let (cni_plugins, cri_tools) =
            (module("github.com/containernetworking/plugins")?, module("sigs.k8s.io/cri-tools")?);
        Ok(Programs {
            kubernetes: self.kubernetes(release).await?,
            pause: self.pause(release).await?,
            containerd: or_built(
                published.map(|there| &there.containerd),
                containerd(module("github.com/containerd/containerd/v2")?),
            )
            .await?,
            cni: or_built(published.map(|there| &there.cni), cni(cni_plugins)).await?,
            coredns: or_built(published.map(|there| &there.coredns), simple("coredns", coredns, "grpcnotrace", None))
                .await?,
            crictl: or_built(published.map(|there| &there.crictl), crictl(cri_tools)).await?,
            provisioner: self.go(&provisioner(module("github.com/rancher/local-path-provisioner")?)).await?,
        })
    }

    async fn go(&self, build: &GoBuild<'_>) -> Result<PathBuf> {
        let variables = build.variables.join(" ");
        let inputs = [&self.go_version, &build.module.sum, &build.packages.join(" "), build.tags, &variables];
        let inputs = inputs.map(str::as_bytes);
        self.cache
            .output(build.name, &inputs, async |output: &Path| {
                let source = self.source(build.module).await?;
                let flags = linker_flags(&build.variables);
                // A directory as output takes one program per package; the root package would be named by the module.
                let target = if build.packages == ["."] { output.join(build.name) } else { output.join("") };
                let mut command = go();
                command.current_dir(&source).args(["build", "-v", "-tags", build.tags, "-ldflags", &flags, "-o"]);
                command.arg(target).args(&build.packages);
                let mut list = go();
                list.current_dir(source).args(["list", "-deps", "-tags", build.tags]).args(&build.packages);
                self.compile(build.name, &build.module.version, command, list).await
            })
            .await
    }

    /// Builds the program of an add-on.
    pub(super) async fn addon(&self, module: &Module, program: &Program) -> Result<PathBuf> {
        let (packages, variables) = (vec![program.package.clone()], program.variables.clone());
        self.go(&GoBuild { name: program.name(), module, packages, tags: "", variables }).await
    }

    async fn kubernetes(&self, release: &Release) -> Result<PathBuf> {
        let files = kubernetes_program(&release.version)?;
        let flags = kubernetes_flags(release);
        let mut inputs = vec![self.go_version.as_bytes(), flags.as_bytes()];
        inputs.extend(files.values().copied());
        self.cache
            .output("kubernetes", &inputs, async |output: &Path| {
                let source = self.cache.scratch()?;
                for (name, content) in &files {
                    write(&source.path().join(name), content)?;
                }
                let mut command = go();
                command.current_dir(source.path()).args(["build", "-v", "-ldflags", &flags, "-o"]);
                command.arg(output.join("kubernetes")).arg(".");
                let mut list = go();
                list.current_dir(source.path()).args(["list", "-deps", "."]);
                self.compile("kubernetes", &release.version, command, list).await
            })
            .await
    }

    /// Lists what can be set in the release, from its sources and from its program, which is already built.
    pub(super) async fn settings(&self, release: &Release, kubernetes: &Path) -> Result<Settings> {
        let files = settings_program(&release.version)?;
        let built = kubernetes.file_name().unwrap_or_default().as_encoded_bytes();
        let mut inputs = vec![self.go_version.as_bytes(), built];
        inputs.extend(files.values().copied());
        let output = self
            .cache
            .output("settings", &inputs, async |output: &Path| {
                self.say("kubernetes", "listing its fields and flags");
                let source = self.cache.scratch()?;
                for (name, content) in &files {
                    let path = source.path().join(name);
                    path.parent().map_or(Ok(()), create_directory)?;
                    write(&path, content)?;
                }
                let mut command = go();
                command.current_dir(source.path()).args(["run", "./settings"]).arg(kubernetes.join("kubernetes"));
                command.arg(&release.version).arg(output).env("GOTMPDIR", source.path());
                run(command, "list what can be set in Kubernetes").await.map(drop)
            })
            .await?;
        let list = read(&output.join("settings.json"))?;
        let label = String::from_utf8_lossy(&read(&output.join("settings.label"))?).into_owned();
        Ok(Settings { list, label })
    }

    /// The program of the pod sandbox: upstream's own, from the source of Kubernetes.
    async fn pause(&self, release: &Release) -> Result<PathBuf> {
        let module = release.module();
        let inputs = [module.sum.as_bytes(), release.pause.as_bytes()];
        self.cache
            .output("pause", &inputs, async |output: &Path| {
                let source = self.source(&module).await?;
                let mut command = Command::new("gcc");
                command.args(["-Os", "-static", "-s"]).arg(format!("-DVERSION={}", release.pause)).arg("-o");
                command.arg(output.join("pause")).arg(source.join("build/pause/linux/pause.c"));
                run(command, "build pause").await.map(drop)
            })
            .await
    }

    /// Builds runc against the static libseccomp in `sysroot`; returns the directory with `runc`.
    pub(super) async fn runc(&self, versions: &Versions, sysroot: &Path) -> Result<PathBuf> {
        let module = versions.module("github.com/opencontainers/runc", None)?;
        let library = versions.debian.packages.get("libseccomp-dev").map_or("", String::as_str);
        let inputs = [self.go_version.as_bytes(), module.sum.as_bytes(), library.as_bytes()];
        self.cache
            .output("runc", &inputs, async |output: &Path| {
                let source = self.source(module).await?;
                let root = sysroot.display();
                let version = module.version.trim_start_matches('v');
                let flags = format!("{STRIP} -X main.version={version} -linkmode external -extldflags -static");
                let mut command = go();
                command.env("CGO_ENABLED", "1");
                // The sysroot takes pkg-config's place.
                command.env("PKG_CONFIG", "true").env("CGO_CFLAGS", format!("-I{root}/usr/include"));
                command.env("CGO_LDFLAGS", format!("-L{root}/usr/lib/x86_64-linux-gnu -lseccomp"));
                command.current_dir(&source).args(["build", "-v", "-tags", RUNC_TAGS]);
                command.args(["-ldflags", &flags, "-o"]).arg(output.join("runc")).arg(".");
                let mut list = go();
                list.current_dir(source).args(["list", "-deps", "-tags", RUNC_TAGS, "."]);
                self.compile("runc", &module.version, command, list).await
            })
            .await
    }

    /// Runs `go build -v`, and says how many packages are compiled, of those that `go list -deps` names. What Go has compiled
    /// before is not compiled again, so there may be fewer.
    async fn compile(&self, name: &str, version: &str, mut build: Command, list: Command) -> Result<()> {
        self.say(name, &format!("building {version}"));
        let most = run(list, &format!("list the packages of {name}")).await?;
        let most = String::from_utf8_lossy(&most).lines().count();
        // Go's own temporary directory is hundreds of megabytes, and stays behind when Go is killed.
        let temporary = self.cache.scratch()?;
        build.env("GOTMPDIR", temporary.path());
        let mut done = 0;
        let mut keep = |line: &str| {
            let is_package = !line.contains([' ', ':', '#']);
            done += usize::from(is_package);
            if is_package && done % SHOWN_PACKAGES == 0 {
                self.say(name, &format!("building {version}, {done} of at most {most} packages"));
            }
            !is_package
        };
        watch(build, &format!("build {name}"), &mut keep).await.map(drop)
    }

    /// Downloads a module and checks it against its pinned hash; returns where its source is.
    pub(super) async fn source(&self, module: &Module) -> Result<PathBuf> {
        let name = format!("{}@{}", module.path, module.version);
        self.say(&module.path, "downloading");
        let mut command = go();
        command.current_dir(std::env::temp_dir()).args(["mod", "download", "-json", &name]);
        let said = run(command, &format!("download {name}")).await?;
        let download: Download = serde_json::from_slice(&said).map_err(|source| {
            Error::new(Code::BuildFailed, format!("cannot understand what Go says about {name}")).with_cause(&source)
        })?;
        if download.sum != module.sum {
            return Err(Error::new(Code::BuildFailed, format!("{name} is not what versions.yaml pins"))
                .because(format!("its hash is {} instead of {}", download.sum, module.sum)));
        }
        Ok(download.dir)
    }

    fn say(&self, thing: &str, text: &str) {
        (self.progress)(thing, text);
    }
}

/// What `go mod download -json` prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Download {
    dir: PathBuf,
    sum: String,
}

fn simple<'a>(name: &'a str, module: &'a Module, tags: &'a str, variable: Option<&str>) -> GoBuild<'a> {
    let variables = variable.map(|variable| format!("{variable}={}", module.version)).into_iter().collect();
    GoBuild { name, module, packages: vec![".".to_owned()], tags, variables }
}

fn containerd(module: &Module) -> GoBuild<'_> {
    let packages = ["containerd", "containerd-shim-runc-v2", "ctr"].map(|name| format!("./cmd/{name}")).to_vec();
    let variables = vec![format!("github.com/containerd/containerd/v2/version.Version={}", module.version)];
    GoBuild { name: "containerd", module, packages, tags: "no_btrfs no_devmapper no_zfs", variables }
}

fn cni(module: &Module) -> GoBuild<'_> {
    let packages = CNI_PLUGINS.iter().map(|name| format!("./plugins/{name}")).collect();
    let variable = "github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion";
    let variables = vec![format!("{variable}={}", module.version)];
    GoBuild { name: "cni-plugins", module, packages, tags: "", variables }
}

fn crictl(module: &Module) -> GoBuild<'_> {
    let variables = vec![format!("sigs.k8s.io/cri-tools/pkg/version.Version={}", module.version)];
    GoBuild { name: "crictl", module, packages: vec!["./cmd/crictl".to_owned()], tags: "", variables }
}

fn provisioner(module: &Module) -> GoBuild<'_> {
    simple("local-path-provisioner", module, "", Some("main.VERSION"))
}

fn kubernetes_flags(release: &Release) -> String {
    let (version, minor) = (&release.version, release.minor());
    let variables = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].map(|package| {
        [
            format!("{package}.gitVersion={version}"),
            format!("{package}.gitMajor=1"),
            format!("{package}.gitMinor={minor}"),
            format!("{package}.gitTreeState=clean"),
            format!("{package}.buildDate={BUILD_DATE}"),
        ]
    });
    linker_flags(variables.as_flattened())
}

/// The linker's flags that set these Go variables.
fn linker_flags(variables: &[String]) -> String {
    let mut flags = vec![STRIP.to_owned()];
    flags.extend(variables.iter().map(|variable| format!("-X {variable}")));
    flags.join(" ")
}

/// Go for a node: Linux, no C, nothing from this machine's workspaces, dependencies as pinned.
fn go() -> Command {
    let mut command = Command::new("go");
    command.envs([
        ("CGO_ENABLED", "0"),
        ("GO111MODULE", "on"),
        ("GOARCH", "amd64"),
        ("GOFLAGS", "-mod=readonly -buildvcs=false -trimpath"),
        ("GOOS", "linux"),
        ("GOWORK", "off"),
    ]);
    command
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|source| Error::new(Code::FileFailed, format!("cannot read `{}`", path.display())).with_cause(&source))
}

fn create_directory(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|source| {
        Error::new(Code::FileFailed, format!("cannot create `{}`", path.display())).with_cause(&source)
    })
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    std::fs::write(path, content).map_err(|source| {
        Error::new(Code::FileFailed, format!("cannot write `{}`", path.display())).with_cause(&source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_reports_its_release() {
        let versions = Versions::load().unwrap();
        let flags = kubernetes_flags(versions.release(Some("1.35")).unwrap());
        assert!(flags.contains("component-base/version.gitVersion=v1.35."), "{flags}");
        assert!(flags.contains("client-go/pkg/version.gitMinor=35"), "{flags}");
    }

    #[test]
    fn one_package_is_named_by_the_build() {
        let versions = Versions::load().unwrap();
        let build = provisioner(versions.module("github.com/rancher/local-path-provisioner", None).unwrap());
        assert_eq!(build.packages, ["."]);
        assert_eq!(build.variables, [format!("main.VERSION={}", build.module.version)]);
    }
}
