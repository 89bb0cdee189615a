//! What YAML offers beside plain mappings, and files with nothing in them.

use serde_json::json;

use super::Role;
use super::tests::{body, file, problems};

#[test]
fn a_file_with_nothing_in_it_is_an_error_with_what_to_write() {
    for text in ["", "\n", "# only a comment\n", "---\n", "null\n", "\u{feff}", "---\n---\n"] {
        let error = file(text).unwrap_err();
        assert_eq!(error.problems()[0].place, "c.yaml:1:1", "{text:?}");
        assert!(error.problems()[0].message.contains("`apiVersion: coracle.dev/v1alpha1`"), "{error:?}");
    }
}

#[test]
fn merge_keys_count_everywhere_and_their_mistakes_once() {
    let text = "kubelet: {<<: {maxPods: 50}}\nnodes:\n- &c {role: control-plane, labels: &l {a: b}}\n\
                - {<<: *c, role: worker, labels: {c: d, <<: *l}}\napiServer: {<<: {v: 5}}\n";
    let cluster = body(text).unwrap();
    assert_eq!(cluster.kubelet, json!({"maxPods": 50}));
    assert_eq!(cluster.nodes[1].role, Role::Worker);
    assert_eq!(cluster.nodes[1].labels.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "c"]);
    assert!(cluster.to_text().unwrap().contains("v: "));
    let text = "nodes:\n- &c {role: control-plane, colour: red}\n- {<<: *c, role: worker}\n- *c\n";
    let found = problems(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("c.yaml:4:28 unknown field `colour`"), "{found:#?}");
}

#[test]
fn what_kubectl_would_read_as_another_number_is_refused() {
    for (text, place, part) in [
        ("networking: {apiServerPort: 0400}", "c.yaml:3:29", "kubectl reads `0400` as 256"),
        ("kubelet: {x: -08}", "c.yaml:3:14", "kubectl reads `-08` as -8"),
        (
            "nodes: [{role: control-plane, labels: {a: 1_000}}]",
            "c.yaml:3:43",
            "kubectl reads an unquoted `1_000` as the number 1000",
        ),
        ("nodes: [{role: control-plane, labels: {a: 0b11}}]", "c.yaml:3:43", "as the number 3"),
    ] {
        let found = problems(text);
        assert!(found[0].starts_with(place) && found[0].contains(part), "{found:#?}");
    }
    body("nodes: [{role: control-plane, labels: {a: '1_000', b: \"0400\"}}]\nkubelet: {x: 0, y: 0.5, z: -0}\n")
        .unwrap();
}
