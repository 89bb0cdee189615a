//! Names of images, understood as Docker and the kubelet understand them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Code, Error, Result};

/// The registry of a name that has none.
const DEFAULT_DOMAIN: &str = "docker.io";
/// The namespace of Docker Hub's own images.
const DEFAULT_NAMESPACE: &str = "library/";
/// The longest name (domain and path) that registries accept.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A complete image name: registry, path, and a tag or digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    version: Version,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Version {
    Tag(String),
    Digest(String),
}

impl Reference {
    /// The name as users type it: without Docker Hub's registry and namespace.
    pub fn familiar(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.to_string();
        }
        let path = match self.path.strip_prefix(DEFAULT_NAMESPACE) {
            Some(rest) if !rest.contains('/') => rest,
            _ => &self.path,
        };
        format!("{path}{}", self.version)
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The digest, if the image is named by one.
    pub fn digest(&self) -> Option<&str> {
        match &self.version {
            Version::Digest(digest) => Some(digest),
            Version::Tag(_) => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, ":{tag}"),
            Self::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// The full name, as the kubelet requests it: `docker.io/library/hello-world:latest`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.domain, self.path, self.version)
    }
}

impl FromStr for Reference {
    type Err = Error;

    /// Reads a name in any of the forms that `docker` accepts. A tag beside a digest is dropped, as the kubelet does.
    fn from_str(text: &str) -> Result<Self> {
        parse(text).map_err(|why| {
            Error::new(Code::UsageInvalid, format!("`{text}` is not an image name"))
                .because(why)
                .hint("write it as `NAME`, `NAME:TAG` or `REGISTRY/NAME:TAG`, such as `hello-world:latest`")
        })
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    // A colon before the last slash belongs to the registry's port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if is_hex(name, 64) {
        return Err("64 hexadecimal digits are an image ID".to_owned());
    }
    let (domain, path) = split_domain(name);
    check_domain(&domain)?;
    check_path(&path)?;
    if domain.len() + 1 + path.len() > MAX_NAME {
        return Err(format!("it has more than {MAX_NAME} characters"));
    }
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let version = match digest {
        Some(digest) => {
            check_digest(digest)?;
            Version::Digest(digest.to_owned())
        }
        None => Version::Tag(tag.unwrap_or("latest").to_owned()),
    };
    Ok(Reference { domain, path, version })
}

/// The registry and the path in it; the first part is a registry if it looks like a host.
fn split_domain(name: &str) -> (String, String) {
    let looks_like_host =
        |first: &str| first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase);
    let (domain, path) = match name.split_once('/') {
        Some((first, path)) if looks_like_host(first) => (first, path),
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain.to_owned(), format!("{DEFAULT_NAMESPACE}{path}"));
    }
    (domain.to_owned(), path.to_owned())
}

fn check_domain(domain: &str) -> Result<(), String> {
    let invalid = || format!("`{domain}` is not a registry");
    let (host, port) = match domain.rsplit_once(':') {
        // The colons of `[::1]` are inside the brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(invalid());
    }
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().map(drop).map_err(|_| invalid());
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if host.split('.').all(is_label) { Ok(()) } else { Err(invalid()) }
}

fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("it is empty".to_owned());
    }
    if path.chars().any(char::is_uppercase) {
        return Err("it must be lower case".to_owned());
    }
    match path.split('/').find(|part| !is_path_component(part)) {
        Some(part) => Err(format!("`{part}` is not allowed in it")),
        None => Ok(()),
    }
}

/// Lower-case words, joined by one dot, one or two underscores, or hyphens.
fn is_path_component(part: &str) -> bool {
    let is_word = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit();
    let joined = |between: &str| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-');
    part.starts_with(is_word) && part.ends_with(is_word) && part.split(is_word).all(joined)
}

fn check_tag(tag: &str) -> Result<(), String> {
    let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let valid = tag.starts_with(is_word)
        && tag.len() <= MAX_TAG
        && tag.chars().all(|char| is_word(char) || char == '.' || char == '-');
    if valid { Ok(()) } else { Err(format!("`{tag}` is not a tag")) }
}

fn check_digest(digest: &str) -> Result<(), String> {
    let valid = match digest.split_once(':') {
        Some(("sha256", hex)) => is_hex(hex, 64),
        Some(("sha512", hex)) => is_hex(hex, 128),
        _ => false,
    };
    if valid { Ok(()) } else { Err(format!("`{digest}` is not a digest")) }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && is_hex_digits(text)
}

fn is_hex_digits(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `text` can be (the beginning of) the image ID `id`; `id` has the form `sha256:…`.
pub fn is_id(text: &str, id: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    !hex.is_empty() && is_hex_digits(hex) && digits.starts_with(hex)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:8be990ef2aeb16dbcb9271ddfe2610fa6658d13f6dfb8bc72074cc1ca36966a7";

    #[test]
    fn names_are_completed_as_docker_does() {
        let long = format!("team/app:v1@{DIGEST}");
        let long_full = format!("docker.io/team/app@{DIGEST}");
        for (given, full) in [
            ("hello-world", "docker.io/library/hello-world:latest"),
            ("hello-world:v1", "docker.io/library/hello-world:v1"),
            ("team/app", "docker.io/team/app:latest"),
            ("docker.io/hello-world", "docker.io/library/hello-world:latest"),
            ("index.docker.io/library/a", "docker.io/library/a:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("localhost:5000/app:2", "localhost:5000/app:2"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("ghcr.io/a/b/c:x.Y-Z_1", "ghcr.io/a/b/c:x.Y-Z_1"),
            ("MyHost/app", "MyHost/app:latest"),
            ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest"),
            (&long, &long_full),
        ] {
            let reference: Reference = given.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{given}");
            assert_eq!(reference.familiar().parse::<Reference>().unwrap(), reference, "{given}");
        }
    }

    #[test]
    fn familiar_names_are_short() {
        for (given, familiar) in [
            ("docker.io/library/hello-world", "hello-world:latest"),
            ("team/app:1", "team/app:1"),
            ("docker.io/library/a/b", "library/a/b:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
        ] {
            assert_eq!(given.parse::<Reference>().unwrap().familiar(), familiar);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let id = "8be990ef2aeb16dbcb9271ddfe2610fa6658d13f6dfb8bc72074cc1ca36966a7";
        let long = "a".repeat(260);
        for text in [
            "",
            ":tag",
            "Hello",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:-x",
            "a..b",
            "a___b",
            "-a",
            "a@",
            "a@sha256:12",
            "a b",
            "http://a/b",
            "a:b:c",
            "localhost:x/a",
            "a@sha256:",
            id,
            &long,
            "é",
        ] {
            let error = text.parse::<Reference>().unwrap_err();
            assert_eq!(error.code(), Code::UsageInvalid, "{text}");
        }
    }

    #[test]
    fn ids_are_recognized_by_their_beginning() {
        let id = "sha256:8be990ef2aeb16dbcb9271ddfe2610fa6658d13f6dfb8bc72074cc1ca36966a7";
        assert!(is_id("8be9", id));
        assert!(is_id("sha256:8be990", id));
        assert!(!is_id("8bea", id));
        assert!(!is_id("hello", id));
        assert!(!is_id("", id));
    }

    proptest! {
        #[test]
        fn a_full_name_stays_as_it_is(text in "[a-zA-Z0-9./:@_-]{1,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                let full = reference.to_string();
                prop_assert_eq!(full.parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
