//! The files that a node gets before its first boot. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::engine::spec::ContainerSpec;
use crate::error::{Code, Error, Result};

/// A file, its mode and whether it must stay secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// Text that may be shown.
    Text {
        /// Content.
        content: String,
        /// Permission bits.
        mode: u32,
    },
    /// A certificate, shown by its subject only.
    Certificate {
        /// PEM text.
        content: String,
        /// The subject, as a description for people.
        subject: String,
        /// What it was issued from; two certificates of the same origin can replace each other, though their keys differ.
        origin: String,
    },
    /// A key or a file that contains one: mode 0600, shown by name only.
    Secret {
        /// Content.
        content: String,
        /// A description for people.
        subject: String,
        /// What it was made from, without any secret; two files of the same origin can replace each other.
        origin: String,
    },
    /// A symbolic link to another path.
    Link {
        /// The path to which it leads.
        target: String,
    },
}

impl File {
    /// Its content; a link has none.
    pub fn content(&self) -> Option<&str> {
        match self {
            Self::Text { content, .. } | Self::Certificate { content, .. } | Self::Secret { content, .. } => {
                Some(content)
            }
            Self::Link { .. } => None,
        }
    }

    /// Its permission bits.
    pub fn mode(&self) -> u32 {
        match self {
            Self::Text { mode, .. } => *mode,
            Self::Certificate { .. } => 0o644,
            Self::Secret { .. } => 0o600,
            Self::Link { .. } => 0o777,
        }
    }
}

/// Files by absolute path, in order, so that the same plan gives the same bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileTree(BTreeMap<String, File>);

impl FileTree {
    /// Adds a text file with mode 0644.
    pub fn text(&mut self, path: impl Into<String>, content: impl Into<String>) {
        self.0.insert(path.into(), File::Text { content: content.into(), mode: 0o644 });
    }

    /// Adds a text file with mode 0600, which kubeadm gives to manifests.
    pub fn private(&mut self, path: impl Into<String>, content: impl Into<String>) {
        self.0.insert(path.into(), File::Text { content: content.into(), mode: 0o600 });
    }

    /// Adds a script with mode 0755.
    pub fn program(&mut self, path: impl Into<String>, content: impl Into<String>) {
        self.0.insert(path.into(), File::Text { content: content.into(), mode: 0o755 });
    }

    /// The files at these paths, as far as there are any.
    #[must_use]
    pub fn only(mut self, paths: &[&str]) -> Self {
        self.0.retain(|path, _| paths.contains(&path.as_str()));
        self
    }

    /// Adds a certificate.
    pub fn certificate(
        &mut self,
        path: impl Into<String>,
        content: impl Into<String>,
        subject: impl Into<String>,
        origin: impl Into<String>,
    ) {
        let (content, subject, origin) = (content.into(), subject.into(), origin.into());
        self.0.insert(path.into(), File::Certificate { content, subject, origin });
    }

    /// Adds a secret file.
    pub fn secret(
        &mut self,
        path: impl Into<String>,
        content: impl Into<String>,
        subject: impl Into<String>,
        origin: impl Into<String>,
    ) {
        let (content, subject, origin) = (content.into(), subject.into(), origin.into());
        self.0.insert(path.into(), File::Secret { content, subject, origin });
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: impl Into<String>, target: impl Into<String>) {
        self.0.insert(path.into(), File::Link { target: target.into() });
    }

    /// The file at a path.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.0.get(path)
    }

    /// The files in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &File)> {
        self.0.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// A tar archive of all files, owned by root, for the engine's archive call.
    pub fn to_tar(&self, modified: u64) -> Result<Bytes> {
        let failed = |source: std::io::Error| Error::new(Code::StepFailed, "cannot pack files").with_cause(&source);
        let mut tar = tar::Builder::new(Vec::with_capacity(256 * 1024));
        for (path, file) in self.iter() {
            let mut header = tar::Header::new_gnu();
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(modified);
            let path = path.trim_start_matches('/');
            header.set_mode(file.mode());
            let content = match file {
                File::Link { target } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    tar.append_link(&mut header, path, target).map_err(failed)?;
                    continue;
                }
                File::Text { content, .. } | File::Certificate { content, .. } | File::Secret { content, .. } => {
                    content
                }
            };
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes()).map_err(failed)?;
        }
        tar.into_inner().map(Bytes::from).map_err(failed)
    }
}

/// A container and the files that it gets before its first boot.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// The container.
    pub spec: ContainerSpec,
    /// Its files.
    pub files: FileTree,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_readable_by_root_only_in_the_tar() {
        let mut files = FileTree::default();
        files.secret("/etc/kubernetes/pki/ca.key", "key", "CA", "");
        files.text("/etc/hosts.d", "x");
        let tar = files.to_tar(0).unwrap();
        let mut archive = tar::Archive::new(&tar[..]);
        let modes: Vec<_> = archive.entries().unwrap().map(|entry| entry.unwrap().header().mode().unwrap()).collect();
        assert_eq!(modes, [0o644, 0o600]);
    }
}
