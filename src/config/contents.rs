//! What a cluster contains from the start: persistent volumes, images, add-ons and manifests.

use std::path::Path;

use super::reader::{Fields, Reader};
use super::value::quoted;
use super::{ClusterConfig, nodes, syntax};
use crate::error::closest;

pub(super) fn read(reader: &mut Reader<'_>, fields: &Fields<'_>, base: &Path, cluster: &mut ClusterConfig) {
    let path = |text: &str| nodes::host_path(text, base);
    cluster.persist = fields.get("persist").and_then(|value| reader.parsed(value, path));
    for (name, list, parse) in [
        ("images", &mut cluster.images, &syntax::image as &dyn Fn(&str) -> Result<String, String>),
        ("addons", &mut cluster.addons, &addon),
        ("manifests", &mut cluster.manifests, &path),
    ] {
        let Some(field) = fields.get(name) else { continue };
        for item in reader.items(field).unwrap_or_default() {
            let Some(value) = reader.parsed(&item, parse) else { continue };
            if list.contains(&value) {
                reader.problem(item.node.mark, format!("{} is already listed", quoted(&value)));
            }
            list.push(value);
        }
    }
}

/// Adds what the command line asks for.
pub(super) fn add(reader: &mut Reader<'_>, cluster: &mut ClusterConfig, images: &[String], manifests: &[String]) {
    for text in images {
        match syntax::image(text) {
            Ok(image) if cluster.images.contains(&image) => {}
            Ok(image) => cluster.images.push(image),
            Err(message) => reader.flag_problem("--load", message),
        }
    }
    for path in manifests {
        if !cluster.manifests.contains(path) {
            cluster.manifests.push(path.clone());
        }
    }
}

/// The name of an add-on that exists.
fn addon(text: &str) -> Result<String, String> {
    let names = crate::catalog::names();
    if names.contains(&text) {
        return Ok(text.to_owned());
    }
    let suggestion = match closest(text, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the add-ons are {}", names.join(", ")),
    };
    Err(format!("the add-on {} does not exist; {suggestion}", quoted(text)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::config::{Durability, Overrides, load};

    fn body(text: &str) -> crate::error::Result<crate::config::ClusterConfig> {
        let base_directory = Some(PathBuf::from("/home/me/project"));
        let text = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n{text}");
        load(&text, "c.yaml", &Overrides { base_directory, ..Overrides::default() })
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let text = "persist: ./data\nimages: [app:1]\naddons: [ingress]\nmanifests: [app.yaml, /etc/more]\n";
        let cluster = body(text).unwrap();
        assert_eq!(cluster.persist.as_deref(), Some("/home/me/project/data"));
        assert_eq!(cluster.images, ["app:1"]);
        assert_eq!(cluster.addons, ["ingress"]);
        assert_eq!(cluster.manifests, ["/home/me/project/app.yaml", "/etc/more"]);
        let again = load(&cluster.to_text().unwrap(), "again.yaml", &Overrides::default()).unwrap();
        assert_eq!(again, cluster);
    }

    #[test]
    fn the_command_line_adds_to_the_file() {
        let text = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nimages: [app:1]\nmanifests: [/app.yaml]\n";
        let overrides = Overrides {
            images: ["app:1", "more:2"].map(str::to_owned).to_vec(),
            manifests: ["/app.yaml", "/more.yaml"].map(str::to_owned).to_vec(),
            usual_durability: Some(Durability::Ephemeral),
            ..Overrides::default()
        };
        let cluster = load(text, "c.yaml", &overrides).unwrap();
        assert_eq!(cluster.images, ["app:1", "more:2"]);
        assert_eq!(cluster.manifests, ["/app.yaml", "/more.yaml"]);
        assert_eq!(cluster.durability, Durability::Ephemeral);
        let said = load(&format!("{text}durability: safe\n"), "c.yaml", &overrides).unwrap();
        assert_eq!(said.durability, Durability::Safe);
        let wrong = Overrides { images: vec!["A B".to_owned()], ..Overrides::default() };
        assert_eq!(load(text, "c.yaml", &wrong).unwrap_err().problems()[0].place, "--load");
    }

    #[test]
    fn every_mistake_is_reported_at_its_place() {
        let text = "addons:\n- metrics-servr\n- ingress\n- ingress\nimages: [7]\nmanifests: ['']\npersist: ~/data\n";
        let error = body(text).unwrap_err();
        let lines: Vec<_> =
            error.problems().iter().map(|problem| format!("{} {}", problem.place, problem.message)).collect();
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert_eq!(lines[0], "c.yaml:4:3 the add-on `metrics-servr` does not exist; did you mean `metrics-server`?");
        assert_eq!(lines[1], "c.yaml:6:3 `ingress` is already listed");
        assert!(lines[2].starts_with("c.yaml:7:10 ") && lines[2].contains("string"), "{lines:#?}");
    }

    #[test]
    fn an_add_on_that_does_not_exist_gets_the_list() {
        let error = body("addons: [dashboard]").unwrap_err();
        assert!(error.problems()[0].message.contains("metrics-server"), "{error:?}");
    }
}
