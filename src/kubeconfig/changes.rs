//! What a merge changes in a kubeconfig file.

/// The three lists of a kubeconfig; an entry of coracle has one item in each, all with the same name.
pub(super) const LISTS: [&str; 3] = ["clusters", "contexts", "users"];

/// What a merge changes in one file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Changes {
    /// Which of [`LISTS`] get the entry's item.
    pub(super) lists: [bool; 3],
    /// The current context becomes the entry.
    pub(super) current: bool,
}

impl Changes {
    pub(super) fn any(self) -> bool {
        self.current || self.lists.contains(&true)
    }
}
