//! The examples in `configs/` and in `docs/reference/configuration.md` load as they are.

use std::fs;
use std::path::Path;

use coracle::config::{Cluster, Overrides, load, warnings};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(text: &str, name: &str) -> Cluster {
    let overrides = Overrides { base_directory: Some(root().join("configs")), ..Overrides::default() };
    load(text, name, &overrides).unwrap_or_else(|error| panic!("{name}: {error}: {:#?}", error.problem_list()))
}

#[test]
fn every_example_file_loads_without_a_warning() {
    let mut files: Vec<_> = fs::read_dir(root().join("configs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let cluster = read(&text, &name);
        assert_eq!(warnings(&cluster), Vec::<String>::new(), "{name}");
        assert!(text.starts_with("# "), "{name} begins with what it is for");
    }
}

#[test]
fn every_example_of_the_documentation_loads() {
    let page = fs::read_to_string(root().join("docs/reference/configuration.md")).unwrap();
    let examples: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 6, "{}", examples.len());
    for (index, example) in examples.iter().enumerate() {
        let head = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n";
        let text = if example.contains("apiVersion: coracle.dev") {
            (*example).to_owned()
        } else {
            format!("{head}{example}")
        };
        read(&text, &format!("example {}", index + 1));
    }
}
