//! The one error type: what failed, where, why in one line, and what to run next.

use std::fmt;

/// Result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Declares the error codes with their stable ID, exit code and one-line meaning.
macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $id:literal, $exit:literal;)+) => {
        /// What went wrong, as a stable ID that scripts and `docs/reference/errors.md` use.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[doc = $meaning])+ $variant,)+ }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable ID, such as `engine-unreachable`.
            pub fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)+ }
            }

            /// The process exit code, one of those in `docs/reference/errors.md`.
            pub fn exit_code(self) -> u8 {
                match self { $(Self::$variant => $exit,)+ }
            }
        }
    };
}

// Exit codes: 1 a step failed, 2 wrong usage or configuration, 3 not found or already exists,
// 4 the engine or the host is not usable, 5 not ready in time, 130 interrupted, 143 terminated.
codes! {
    /// A step of the command failed on the engine or in a node.
    StepFailed = "step-failed", 1;
    /// A node or a component did not become ready in time.
    NotReady = "not-ready", 5;
    /// A control plane component or the kubelet keeps failing.
    ComponentFailed = "component-failed", 1;
    /// A node container stopped by itself.
    NodeExited = "node-exited", 1;
    /// The cluster is stopped or paused, so that nothing of it answers.
    ClusterStopped = "cluster-stopped", 5;
    /// The Kubernetes API did not accept a request.
    ApiFailed = "api-failed", 1;
    /// A file on this host cannot be read or written.
    FileFailed = "file-failed", 1;
    /// Another program holds the kubeconfig lock.
    KubeconfigLocked = "kubeconfig-locked", 1;
    /// A kubeconfig file cannot be parsed.
    KubeconfigInvalid = "kubeconfig-invalid", 1;
    /// The node image could not be built.
    BuildFailed = "build-failed", 1;
    /// An image archive is damaged or of an unknown layout.
    ArchiveInvalid = "archive-invalid", 1;
    /// An image could not be loaded into a node.
    LoadFailed = "load-failed", 1;
    /// The cluster configuration has mistakes.
    ConfigInvalid = "config-invalid", 2;
    /// The command line has mistakes.
    UsageInvalid = "usage-invalid", 2;
    /// No cluster has this name.
    ClusterNotFound = "cluster-not-found", 3;
    /// A cluster with this name already exists.
    ClusterExists = "cluster-exists", 3;
    /// A registry already exists at another port, or its name is used by something else.
    RegistryExists = "registry-exists", 3;
    /// A container or volume that coracle did not make has a name that it needs.
    NameTaken = "name-taken", 3;
    /// This host has no credentials for a registry, or none that can be used.
    CredentialsMissing = "credentials-missing", 3;
    /// A named node, service or other object does not exist.
    NotFound = "not-found", 3;
    /// An add-on cannot be removed: another one needs it, or users have objects of its kinds.
    AddonInUse = "addon-in-use", 3;
    /// An image neither exists locally nor can be pulled.
    ImageMissing = "image-missing", 3;
    /// An image cannot be removed: a pod uses it, or it came with the node image.
    ImageInUse = "image-in-use", 3;
    /// A node cannot be removed: its pods cannot go elsewhere, or it is a control plane.
    NodeInUse = "node-in-use", 3;
    /// The engine does not answer.
    EngineUnreachable = "engine-unreachable", 4;
    /// The engine refuses this user.
    EnginePermission = "engine-permission", 4;
    /// The kind or version of the engine is not supported.
    EngineUnsupported = "engine-unsupported", 4;
    /// The engine answered a request with an error.
    EngineFailed = "engine-failed", 4;
    /// A host port is taken.
    PortTaken = "port-taken", 4;
    /// No subnet is free, or the wanted one is in use.
    SubnetClash = "subnet-clash", 4;
    /// The kernel's inotify limits do not allow another node.
    InotifyLimit = "inotify-limit", 4;
    /// The engine's disk is full.
    DiskFull = "disk-full", 4;
    /// A required program is not installed.
    ToolMissing = "tool-missing", 4;
    /// The user interrupted the command.
    Interrupted = "interrupted", 130;
    /// Another program asked the command to end.
    Terminated = "terminated", 143;
}

/// One problem at a place, as configuration errors list them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `cluster.yaml:4:5` or `--name`.
    pub place: String,
    /// What is wrong there, one line.
    pub message: String,
    /// The source line, shown with a caret below `column`.
    pub snippet: Option<Snippet>,
}

/// A source line and the column (1-based) that a problem is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// Line number, 1-based.
    pub line: usize,
    /// Column, 1-based, counted in characters.
    pub column: usize,
    /// The line's text.
    pub text: String,
}

/// A failure that callers act on. Users see only the code and the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Another container has the name.
    NameTaken,
    /// The container is stopped or paused.
    NotRunning,
    /// The kernel gave up on freezing the container's processes, and they go on.
    NotFrozen,
    /// The engine cannot grant a capability that the container asks for.
    CapabilityMissing,
    /// Two networks have the name that the container asks for.
    NetworkAmbiguous,
    /// The container has no such program.
    ProgramMissing,
    /// The engine has the request, and whether it does it, or will, is unknown.
    AnswerLost,
}

/// What failed, on which node, why, and what to do.
#[derive(Debug, Clone)]
pub struct Error(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    code: Code,
    reason: Option<Reason>,
    message: String,
    node: Option<String>,
    cause: Option<String>,
    cause_id: Option<&'static str>,
    hints: Vec<String>,
    lines: Vec<String>,
    problems: Vec<Problem>,
}

impl Error {
    /// An error with its code and one lower-case line that says what failed.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            code,
            reason: None,
            message: message.into(),
            node: None,
            cause: None,
            cause_id: None,
            hints: Vec::new(),
            lines: Vec::new(),
            problems: Vec::new(),
        }))
    }

    /// Replaces the code.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.0.code = code;
        self
    }

    /// Adds what callers act on.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<Option<Reason>>) -> Self {
        self.0.reason = reason.into();
        self
    }

    /// Adds the cause, one line; the whole chain of a source error.
    #[must_use]
    pub fn with_cause(mut self, source: &dyn std::error::Error) -> Self {
        let mut text = source.to_string();
        let mut next = source.source();
        while let Some(error) = next {
            let part = error.to_string();
            if !text.contains(&part) {
                text = format!("{text}: {part}");
            }
            next = error.source();
        }
        self.0.cause = Some(text);
        self
    }

    /// Adds the cause as text.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Names the cause by the ID that `docs/reference/failed-create.md` has for it.
    #[must_use]
    pub fn of_cause(mut self, id: &'static str) -> Self {
        self.0.cause_id = Some(id);
        self
    }

    /// Names the node that it happened on.
    #[must_use]
    pub fn on_node(mut self, node: impl Into<String>) -> Self {
        self.0.node = Some(node.into());
        self
    }

    /// Adds what the reader can run or set next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Adds hints, such as those of another error.
    #[must_use]
    pub fn with_hints(mut self, hints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.hints.extend(hints.into_iter().map(Into::into));
        self
    }

    /// Adds the log lines that matter.
    #[must_use]
    pub fn with_lines(mut self, lines: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.lines.extend(lines.into_iter().map(Into::into));
        self
    }

    /// The same error without the hints that do not fit the command.
    #[must_use]
    pub fn without_hints(mut self, does_not_fit: impl Fn(&str) -> bool) -> Self {
        self.0.hints.retain(|hint| !does_not_fit(hint));
        self
    }

    /// Adds the list of problems of an invalid input.
    #[must_use]
    pub fn with_problems(mut self, problems: Vec<Problem>) -> Self {
        self.0.problems = problems;
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What callers act on, if there is something.
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason
    }

    /// What failed, one line.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The node it happened on.
    pub fn node(&self) -> Option<&str> {
        self.0.node.as_deref()
    }

    /// The cause in one line.
    pub fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// The ID of the cause, if it is a known one.
    pub fn cause_id(&self) -> Option<&'static str> {
        self.0.cause_id
    }

    /// What failed and why in one line, without the node.
    pub fn in_words(&self) -> String {
        match self.cause() {
            Some(cause) => format!("{}: {cause}", self.message()),
            None => self.message().to_owned(),
        }
    }

    /// What to do next.
    pub fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// Log lines that matter.
    pub fn lines(&self) -> &[String] {
        &self.0.lines
    }

    /// Problems of an invalid input.
    pub fn problems(&self) -> &[Problem] {
        &self.0.problems
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(node) = &self.0.node {
            write!(f, " on node `{node}`")?;
        }
        if let Some(cause) = &self.0.cause {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// The hint for a full disk of the engine.
pub const FREE_DISK: &str = "`docker system df` shows what uses space, `docker system prune` frees some";

/// The hint for a cache of coracle that cannot be used: full, read-only, or where programs cannot be run.
pub const OTHER_CACHE: &str = "set XDG_CACHE_HOME to a directory elsewhere; coracle keeps its cache there";

/// A count with its noun: `1 node`, `2 nodes`.
pub fn counted<N: Copy + fmt::Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    format!("{count} {noun}{}", if count == N::from(1) { "" } else { "s" })
}

/// The word that was probably meant by a text.
pub fn closest<'w>(text: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let lower = text.to_lowercase();
    words
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&lower, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= (word.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        assert_eq!([0, 1, 2].map(|count: u64| counted(count, "node")), ["0 nodes", "1 node", "2 nodes"]);
    }

    #[test]
    fn ids_are_unique() {
        let mut ids: Vec<_> = Code::ALL.iter().map(|code| code.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Code::ALL.len());
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        for code in Code::ALL {
            assert!([1, 2, 3, 4, 5, 130, 143].contains(&code.exit_code()), "{}", code.id());
        }
    }
}
