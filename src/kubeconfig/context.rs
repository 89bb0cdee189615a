//! What a context says.

use serde_json::Value;

use super::{Location, file};

/// The name space of a context, if it says one; the first file that has the context counts, as for kubectl.
pub fn namespace(location: &Location, context: &str) -> Option<String> {
    let texts =
        location.files().iter().filter(|path| !file::is_stream(path)).filter_map(|path| file::read(path).ok()?);
    let found = texts.filter_map(|text| {
        // A file that cannot be understood is kubectl's to complain about.
        let config: Value = serde_yaml::from_str(&text).ok()?;
        config["contexts"].as_array()?.iter().find(|one| one["name"] == context).cloned()
    });
    let context = found.into_iter().next()?;
    context["context"]["namespace"].as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_with_the_context_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let context =
            |name: &str, namespace: &str| format!("contexts: [{{name: {name}, context: {{cluster: a{namespace}}}}}]\n");
        let files = [
            write("broken", "a: [b"),
            write("one", &context("one", ", namespace: first")),
            write("two", &(context("two", ""))),
            write("again", &context("one", ", namespace: second")),
        ];
        let list = std::env::join_paths(&files).unwrap();
        let location = Location::new(None, Some(&list), None).unwrap();
        assert_eq!(namespace(&location, "one").as_deref(), Some("first"));
        assert_eq!(namespace(&location, "two"), None);
        assert_eq!(namespace(&location, "three"), None);
    }
}
