//! Which kubeconfig files are used, by kubectl's rules.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

/// The kubeconfig files in the order in which kubectl reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    files: Vec<PathBuf>,
    owner: Option<(u32, u32)>,
}

impl Location {
    /// Finds the files from the `--kubeconfig` option, the value of `KUBECONFIG` and the home directory.
    ///
    /// As for kubectl, the option names one file and wins; `KUBECONFIG` is a list, whose empty parts are
    /// ignored; without either, the file is `.kube/config` in the home directory.
    pub fn new(option: Option<&Path>, variable: Option<&OsStr>, home: Option<&Path>) -> Result<Self> {
        let mut files = Vec::new();
        if let Some(option) = option.filter(|path| !path.as_os_str().is_empty()) {
            files.push(option.to_owned());
        } else if let Some(variable) = variable {
            for path in std::env::split_paths(variable) {
                if !path.as_os_str().is_empty() && !files.iter().any(|known| is_same(known, &path)) {
                    files.push(path);
                }
            }
        }
        if files.is_empty() {
            let home = home.ok_or_else(|| {
                Error::new(Code::UsageInvalid, "there is no home directory for the kubeconfig")
                    .hint("set `KUBECONFIG`, or use `--kubeconfig FILE`")
            })?;
            files.push(home.join(".kube").join("config"));
        }
        Ok(Self { files, owner: None })
    }

    /// This file alone.
    pub(super) fn of_file(file: &Path) -> Self {
        Self { files: vec![file.to_owned()], owner: None }
    }

    /// The files as absolute paths, without devices and pipes: where an entry can be found again.
    pub fn places(&self) -> Vec<PathBuf> {
        let files = self.files.iter().filter(|file| !super::file::is_stream(file));
        files.filter_map(|file| std::path::absolute(file).ok()).collect()
    }

    /// Gives new files and directories to the user and group that called sudo, which are the values of
    /// `SUDO_UID` and `SUDO_GID`; changes nothing if one of them is missing or not a number.
    #[must_use]
    pub fn owned_by(mut self, user: Option<&str>, group: Option<&str>) -> Self {
        let number = |value: Option<&str>| value.and_then(|value| value.parse::<u32>().ok());
        self.owner = number(user).zip(number(group));
        self
    }

    /// All files, including those that do not exist.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The user and group of new files that root writes.
    pub(super) fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }

    /// The file for new entries and the current context: the first that exists, else the last.
    pub(super) fn default_file(&self) -> &Path {
        let last = self.files.last().map_or(Path::new(""), PathBuf::as_path);
        self.files.iter().map(PathBuf::as_path).find(|path| path.exists()).unwrap_or(last)
    }
}

/// Whether two paths are the same file in different words, such as `./a` and `a`; what a symbolic link leads to is another one.
fn is_same(one: &Path, other: &Path) -> bool {
    let plain = |path: &Path| {
        let path = std::path::absolute(path).ok()?;
        Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
    };
    one == other || plain(one).is_some_and(|one| plain(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(option: Option<&str>, variable: Option<&str>) -> Vec<PathBuf> {
        let home = Some(Path::new("/home/me"));
        Location::new(option.map(Path::new), variable.map(OsStr::new), home).unwrap().files
    }

    #[test]
    fn the_option_wins_then_the_variable_then_home() {
        assert_eq!(files(Some("/a"), Some("/b")), [PathBuf::from("/a")]);
        assert_eq!(files(Some(""), Some("/b:/c")), [PathBuf::from("/b"), PathBuf::from("/c")]);
        assert_eq!(files(None, None), [PathBuf::from("/home/me/.kube/config")]);
    }

    #[test]
    fn empty_parts_and_repetitions_are_ignored() {
        assert_eq!(files(None, Some(":/b::/b:/c:")), [PathBuf::from("/b"), PathBuf::from("/c")]);
        assert_eq!(files(None, Some(":")), [PathBuf::from("/home/me/.kube/config")]);
        assert_eq!(files(None, Some("")), [PathBuf::from("/home/me/.kube/config")]);
        assert_eq!(files(None, Some("/usr/a:/usr/./a:/usr/bin/../a:/usr/b")), ["/usr/a", "/usr/b"].map(PathBuf::from));
        let here = std::env::current_dir().unwrap().join("a");
        assert_eq!(files(None, Some(&format!("a:./a:{}", here.display()))), [PathBuf::from("a")]);
    }

    #[test]
    fn without_a_home_a_file_must_be_named() {
        assert_eq!(Location::new(None, None, None).unwrap_err().code(), Code::UsageInvalid);
    }

    #[test]
    fn new_entries_go_to_the_first_existing_file_else_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b, c) = (directory.path().join("a"), directory.path().join("b"), directory.path().join("c"));
        let list = std::env::join_paths([&a, &b, &c]).unwrap();
        let location = Location::new(None, Some(&list), None).unwrap();
        assert_eq!(location.default_file(), c);
        std::fs::write(&b, "").unwrap();
        assert_eq!(location.default_file(), b);
    }
}
