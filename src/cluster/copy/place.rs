//! What the words of `cp` mean, and where a copy ends up. Pure.

/// One of the two ends of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An archive on standard input or output.
    Stream,
    /// A path of this host.
    Here(String),
    /// A path of a container.
    In { container: String, path: String },
}

impl Place {
    /// `-`, `PATH` or `NODE:PATH`; a path with a colon is a path of this host if it begins with `/` or `.`.
    pub fn read(text: &str) -> Self {
        match text.split_once(':') {
            _ if text == "-" => Self::Stream,
            Some((container, path))
                if !container.is_empty() && !text.starts_with(['/', '.']) && !container.contains('/') =>
            {
                // As if the working directory of a node were `/`.
                Self::In { container: container.to_owned(), path: joined("", path) }
            }
            _ => Self::Here(text.to_owned()),
        }
    }
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
}

/// Where the copy of something goes: what it is, its name, and whether only what is in it is meant; the path that was named, and
/// what exists there.
pub(super) fn destination(
    (kind, name, is_content): (Kind, &str, bool),
    to: &str,
    existing: Option<Kind>,
) -> Result<String, String> {
    match (existing, kind) {
        (Some(Kind::Directory), Kind::Directory) if is_content => Ok(to.to_owned()),
        (Some(Kind::Directory), _) => Ok(joined(to, name)),
        (Some(Kind::File), Kind::Directory) => Err("it is a file, but the source is a directory".to_owned()),
        (Some(Kind::File), Kind::File) if to.ends_with('/') => Err("it is a file, not a directory".to_owned()),
        (None, Kind::File) if to.ends_with('/') => Err("there is no such directory".to_owned()),
        _ => Ok(to.to_owned()),
    }
}

/// A path in a directory.
pub(super) fn joined(directory: &str, name: &str) -> String {
    format!("{}/{}", directory.trim_end_matches('/'), name.trim_start_matches('/'))
}

/// The path without what means nothing at its end.
pub(super) fn plain(path: &str) -> String {
    let mut path = path;
    while path.len() > 1 {
        match path.strip_suffix('/').or_else(|| path.strip_suffix("/.")) {
            Some(shorter) => path = shorter,
            None => break,
        }
    }
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

/// The directory of an absolute path, and its name there; `/` has no name.
pub(super) fn parts(path: &str) -> (String, String) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((directory, name)) => (directory.to_owned(), name.to_owned()),
        None => (".".to_owned(), path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_a_node_or_this_host() {
        let inside = |container: &str, path: &str| Place::In { container: container.to_owned(), path: path.to_owned() };
        assert_eq!(Place::read("dev-worker:/etc/hosts"), inside("dev-worker", "/etc/hosts"));
        assert_eq!(Place::read("dev-worker:etc"), inside("dev-worker", "/etc"));
        assert_eq!(Place::read("dev-worker:"), inside("dev-worker", "/"));
        assert_eq!(Place::read("-"), Place::Stream);
        for here in ["file", "./a:b", "/a:b", "x/a:b", ":x"] {
            assert_eq!(Place::read(here), Place::Here(here.to_owned()));
        }
    }

    #[test]
    fn a_copy_goes_into_a_directory_or_gets_its_name() {
        use Kind::{Directory, File};
        let to = |what, to, existing| destination(what, to, existing);
        assert_eq!(to((File, "a", false), "/x", Some(Directory)).unwrap(), "/x/a");
        assert_eq!(to((Directory, "a", false), "/x/", Some(Directory)).unwrap(), "/x/a");
        assert_eq!(to((Directory, "a", true), "/x", Some(Directory)).unwrap(), "/x");
        assert_eq!(to((File, "a", false), "/x/b", None).unwrap(), "/x/b");
        assert_eq!(to((Directory, "a", false), "/x/b", None).unwrap(), "/x/b");
        assert_eq!(to((File, "a", false), "/x/b", Some(File)).unwrap(), "/x/b");
        assert!(to((File, "a", false), "/x/b/", None).is_err());
        assert!(to((Directory, "a", false), "/x/b", Some(File)).is_err());
        assert!(to((File, "a", false), "/x/b/", Some(File)).is_err());
    }

    #[test]
    fn a_path_has_a_directory_and_a_name() {
        assert_eq!(["/etc/", "/etc/.", "/", "/.", "", "a/b/"].map(plain), ["/etc", "/etc", "/", "/", "/", "a/b"]);
        let parts = |path: &str| parts(path);
        assert_eq!(parts("/etc/hosts"), ("/etc".to_owned(), "hosts".to_owned()));
        assert_eq!(parts("/etc"), ("/".to_owned(), "etc".to_owned()));
        assert_eq!(parts("/"), ("/".to_owned(), String::new()));
    }
}
