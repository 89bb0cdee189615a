//! The root file system: Debian packages, by version and hash.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::error::{Code, Error, Result};
use crate::node_image::Progress;
use crate::node_image::cache::Cache;
use crate::node_image::recipe::{Debian, Mirror, Root};
use crate::node_image::tool::run;
use crate::node_image::tree::Tree;

/// Where a hook leaves what apt knows about the packages it may install.
const AVAILABLE: &str = "coracle-available";
/// Where a hook unpacks what only the build needs.
const SYSROOT: &str = "coracle-sysroot";
/// The package with the static library that runc is linked with.
const SYSROOT_PACKAGE: &str = "libseccomp-dev";

/// The bootstrapped root file system.
#[derive(Debug)]
pub(super) struct RootFileSystem {
    /// Debian as its packages made it.
    pub(super) tree: Tree,
    /// A directory with the headers and libraries of the build.
    pub(super) sysroot: PathBuf,
}

/// Bootstraps Debian, or takes it from the cache.
pub(super) async fn bootstrap(
    cache: &Cache,
    debian: &Debian,
    root: &Root,
    progress: Progress<'_>,
) -> Result<RootFileSystem> {
    let preferences = preferences(debian);
    let mut inputs = vec![debian.suite.as_bytes(), debian.architecture.as_bytes(), preferences.as_bytes()];
    inputs.extend(root.packages.iter().map(String::as_bytes));
    let hashes: Vec<_> = debian.packages.values().map(String::as_bytes).collect();
    inputs.extend(hashes);
    let output = cache
        .output("debian", &inputs, async |output: &Path| {
            progress("debian", &format!("installing {} packages", debian.packages.len() - 1));
            let archive = output.join("root.tar");
            from_any_mirror(cache, debian, root, &archive).await?;
            let mut tree = Tree::read(&archive)?;
            verify(debian, &tree)?;
            for (path, content) in tree.contents_below(SYSROOT)? {
                let path = output.join("sysroot").join(path);
                create(&path, &content)?;
            }
            tree.remove(SYSROOT);
            Ok(())
        })
        .await?;
    let mut tree = Tree::read(&output.join("root.tar"))?;
    tree.remove(SYSROOT);
    tree.remove(AVAILABLE);
    Ok(RootFileSystem { tree, sysroot: output.join("sysroot") })
}

async fn from_any_mirror(cache: &Cache, debian: &Debian, root: &Root, archive: &Path) -> Result<()> {
    let mut last = Error::new(Code::BuildFailed, "versions.yaml names no Debian mirror");
    for mirror in &debian.mirrors {
        match mmdebstrap(cache, debian, root, mirror, archive).await {
            Ok(()) => return Ok(()),
            // What is not installed is not installed whatever the mirror.
            Err(error) if error.code() == Code::ToolMissing => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn mmdebstrap(cache: &Cache, debian: &Debian, root: &Root, mirror: &Mirror, archive: &Path) -> Result<()> {
    let scratch = cache.scratch()?;
    let preferences_file = scratch.path().join("preferences");
    create(&preferences_file, preferences(debian).as_bytes())?;
    let Debian { suite, architecture, .. } = debian;
    let mut command = Command::new("mmdebstrap");
    command.env("TMPDIR", scratch.path()).env("LC_ALL", "C");
    command.args(["--variant=apt", "--format=tar", &format!("--architectures={architecture}")]);
    command.arg(format!("--include={}", root.packages.join(",")));
    command.arg("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr");
    command.args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=APT::Install-Recommends \"false\""]);
    for path in ["man", "doc", "locale", "info"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
    }
    command.arg("--setup-hook=mkdir -p \"$1/etc/apt/preferences.d\"");
    command.arg(format!("--setup-hook=upload {} /etc/apt/preferences.d/coracle", preferences_file.display()));
    let apt = "export APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\"";
    command.arg(format!("--customize-hook={apt}; apt-cache dumpavail >\"$1/{AVAILABLE}\""));
    command.arg(format!(
        "--customize-hook={apt}; mkdir \"$1/{SYSROOT}\" && cd \"$1/{SYSROOT}\" && \
         apt-get download {SYSROOT_PACKAGE} && dpkg-deb -x {SYSROOT_PACKAGE}_*.deb . && rm {SYSROOT_PACKAGE}_*.deb"
    ));
    command.arg(suite).arg(archive);
    let Mirror { main, security } = mirror;
    command.arg(format!("deb {main} {suite} main")).arg(format!("deb {main} {suite}-updates main"));
    command.arg(format!("deb {security} {suite}-security main"));
    run(command, "bootstrap Debian").await.map(drop)
}

/// apt preferences that make it take the pinned versions, as long as a mirror has them.
fn preferences(debian: &Debian) -> String {
    let mut text = String::new();
    for (name, pin) in &debian.packages {
        let version = pin.split(' ').next().unwrap_or_default();
        let _ = writeln!(text, "Package: {name}\nPin: version {version}\nPin-Priority: 1001\n");
    }
    text
}

/// Fails unless exactly the pinned packages are installed, each with its pinned hash. The hashes are those of the
/// archive's signed index, against which apt has checked what it downloaded.
fn verify(debian: &Debian, tree: &Tree) -> Result<()> {
    let mut installed = packages(&tree.text("var/lib/dpkg/status")?, "Version");
    let hashes = packages(&tree.text(AVAILABLE)?, "SHA256");
    if let Some(pin) = debian.packages.get(SYSROOT_PACKAGE) {
        let version = pin.split(' ').next().unwrap_or_default();
        installed.insert(SYSROOT_PACKAGE.to_owned(), version.to_owned());
    }
    let found = |name: &String| {
        let version = installed.get(name)?;
        Some(format!("{version} {}", hashes.get(name).map_or("without a hash", String::as_str)))
    };
    let mut differences = Vec::new();
    for (name, pin) in &debian.packages {
        let found = found(name).unwrap_or_else(|| "nothing".to_owned());
        if found != *pin {
            differences.push(format!("{name}: pinned {pin}, found {found}"));
        }
    }
    for name in installed.keys().filter(|name| !debian.packages.contains_key(*name)) {
        differences.push(format!("{name}: not pinned, found {}", found(name).unwrap_or_default()));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::BuildFailed, "Debian's packages are not those that versions.yaml pins")
        .with_lines(differences)
        .hint("the mirrors have newer ones: use a newer coracle, or a snapshot of the archive"))
}

/// Reads the field of each package in a Debian control file.
fn packages(text: &str, field: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for paragraph in text.split("\n\n") {
        let value = |key: &str| {
            let mut lines = paragraph.lines();
            lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": ").map(str::to_owned))
        };
        if let (Some(name), Some(value)) = (value("Package"), value(field)) {
            found.insert(name, value);
        }
    }
    found
}

fn create(path: &Path, content: &[u8]) -> Result<()> {
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| std::fs::write(path, content)).map_err(|source| {
        Error::new(Code::FileFailed, format!("cannot write `{}`", path.display())).with_cause(&source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian() -> Debian {
        let packages = [("a", "1 aa"), (SYSROOT_PACKAGE, "2 bb")].map(|(name, pin)| (name.to_owned(), pin.to_owned()));
        let (suite, architecture) = ("bookworm".to_owned(), "amd64".to_owned());
        Debian { suite, architecture, mirrors: Vec::new(), packages: packages.into() }
    }

    fn tree(status: &str) -> Tree {
        let available = "Package: a\nVersion: 1\nSHA256: aa\n\nPackage: libseccomp-dev\nSHA256: bb\n";
        let mut tree = Tree::default();
        tree.file("var/lib/dpkg/status", 0o644, status.as_bytes().to_vec());
        tree.file(AVAILABLE, 0o644, available.as_bytes().to_vec());
        tree
    }

    #[test]
    fn only_the_pinned_packages_pass() {
        verify(&debian(), &tree("Package: a\nStatus: ok\nVersion: 1\n")).unwrap();
        let newer = verify(&debian(), &tree("Package: a\nVersion: 1.1\n")).unwrap_err();
        assert_eq!(newer.lines(), ["a: pinned 1 aa, found 1.1 aa"]);
        let more = verify(&debian(), &tree("Package: a\nVersion: 1\n\nPackage: b\nVersion: 3\n")).unwrap_err();
        assert_eq!(more.lines(), ["b: not pinned, found 3 without a hash"]);
    }

    #[test]
    fn apt_is_told_each_version() {
        assert!(preferences(&debian()).starts_with("Package: a\nPin: version 1\nPin-Priority: 1001\n"));
    }
}
