//! Cluster names.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The longest node name, `NAME-control-plane99`, must fit in a host name of 63 characters.
const MAX_LENGTH: usize = 44;

/// A name that is a valid part of container, host and context names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name of a cluster that is not given one.
    pub const DEFAULT: &str = "coracle";

    /// The name that kind gives to a cluster that is not given one.
    pub fn of_kind() -> Self {
        Self("kind".to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kubeconfig context, cluster and user name.
    pub fn context(&self) -> String {
        format!("coracle-{}", self.0)
    }

    /// The same as kind has it, for a cluster that its users' tools take for one of kind.
    pub fn kind_context(&self) -> String {
        format!("kind-{}", self.0)
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClusterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if text.is_empty() {
            return Err("the name is empty".to_owned());
        }
        let mut wrong = Vec::new();
        if text.chars().count() > MAX_LENGTH {
            wrong.push(format!("is longer than {MAX_LENGTH} characters"));
        }
        let mut bad: Vec<String> = Vec::new();
        for c in text.chars().filter(|c| !is_allowed(*c)).map(|c| format!("`{c}`")) {
            if !bad.contains(&c) {
                bad.push(c);
            }
        }
        if !bad.is_empty() {
            wrong.push(format!("contains {}", bad.join(", ")));
        }
        if !is_edge(text.chars().next()) || !is_edge(text.chars().last()) {
            wrong.push("does not begin and end with a lower-case letter or a digit".to_owned());
        }
        if wrong.is_empty() {
            return Ok(Self(text.to_owned()));
        }
        let instead = if bad.is_empty() { "" } else { "; use lower-case letters, digits, `-` and `.`" };
        Err(format!("`{text}` {}{instead}", wrong.join(", and ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_containers_and_hosts_accept_are_accepted() {
        for name in ["a", "dev", "t-1", "my.cluster", "0x"] {
            assert_eq!(name.parse::<ClusterName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn other_names_are_refused_with_the_reason() {
        let refused = |name: &str| name.parse::<ClusterName>().unwrap_err();
        assert!(refused("").contains("empty"));
        assert!(refused("Dev").contains("`D`"));
        assert!(refused("a_b").contains("`_`"));
        assert!(refused("-a").contains("begin and end"));
        assert!(refused("a.").contains("begin and end"));
        let all = refused(&format!("A_{}B", "a".repeat(45)));
        assert!(["44", "`A`, `_`, `B`", "begin and end"].iter().all(|part| all.contains(part)), "{all}");
        assert!(refused(&"a".repeat(45)).contains("44"));
    }
}
