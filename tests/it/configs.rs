//! The examples in `configs/` and in the page about the configuration file load as they are.

use coracle::config::{ClusterConfig, Overrides, load, warnings};

use crate::sources::{files, page, read, root};

fn cluster(text: &str, name: &str) -> ClusterConfig {
    let overrides = Overrides { base_directory: Some(root().join("configs")), ..Overrides::default() };
    load(text, name, &overrides).unwrap_or_else(|error| panic!("{name}: {error}: {:#?}", error.problems()))
}

#[test]
fn every_example_file_loads_without_a_warning() {
    let examples: Vec<String> =
        files("configs", ".yaml").into_iter().filter(|path| path.matches('/').count() == 1).collect();
    assert!(examples.len() >= 10, "{examples:?}");
    for path in examples {
        let text = read(&path);
        let cluster = cluster(&text, path.trim_start_matches("configs/"));
        assert_eq!(warnings(&cluster), Vec::<String>::new(), "{path}");
        assert!(text.starts_with("# "), "{path} begins with what it is for");
        let schema = "# yaml-language-server: $schema=cluster.schema.json";
        assert_eq!(text.lines().nth(1), Some(schema), "{path}: editors find the schema by the second line");
    }
}

#[test]
fn every_example_of_the_configuration_page_loads() {
    let page = read(&page("configuration.md"));
    let examples: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 6, "{}", examples.len());
    for (index, example) in examples.iter().enumerate() {
        let head = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n";
        let text = if example.contains("apiVersion: coracle.dev") {
            (*example).to_owned()
        } else {
            format!("{head}{example}")
        };
        cluster(&text, &format!("example {}", index + 1));
    }
}
