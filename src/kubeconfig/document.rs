//! The text of a kubeconfig file: what it contains, and the two changes that coracle makes.

use serde_json::{Value, json};

use super::Entry;
use super::changes::{Changes, LISTS};
use super::edit::{Failure, SKELETON, is_entry, items_of, remove_entries, root_of, set_current_context, set_entry};
use super::leading::leading_to;
use super::proof::{Own, prove};
use crate::error::Result as CrateResult;
use crate::yaml::outline::{Flaw, Node};

/// In which of [`LISTS`] there is an item `name`.
pub(super) fn lists_with(text: &str, name: &str) -> Result<[bool; 3], Flaw> {
    let (_, body) = split_mark(text);
    let mut found = [false; 3];
    if let Some(root) = root_of(body)? {
        for (found, list) in found.iter_mut().zip(LISTS) {
            *found = items_of(&root, list)?.iter().any(|item| is_entry(item, name));
        }
    }
    Ok(found)
}

/// A certificate or key as kubeconfigs have it.
pub(super) fn encoded(pem: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(pem)
}

/// The entry's items, in the order of [`LISTS`] and with kubectl's fields.
pub(super) fn items(entry: &Entry) -> [Value; 3] {
    let name = &entry.name;
    let [authority, certificate, key] =
        [&entry.ca_pem, &entry.client_cert_pem, &entry.client_key_pem].map(|pem| encoded(pem));
    [
        json!({ "name": name, "cluster": { "certificate-authority-data": authority, "server": entry.server } }),
        json!({ "name": name, "context": { "cluster": name, "user": name } }),
        json!({ "name": name, "user": { "client-certificate-data": certificate, "client-key-data": key } }),
    ]
}

/// A complete kubeconfig with only this entry.
pub(super) fn standalone(entry: &Entry) -> CrateResult<String> {
    let [cluster, context, user] = items(entry);
    crate::yaml::to_string(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "contexts": [context],
        "users": [user],
        "current-context": entry.name,
    }))
}

/// A kubeconfig with the cluster, the user and the current context of this entry, for a context in another file.
pub(super) fn beside(entry: &Entry) -> CrateResult<String> {
    let [cluster, _, user] = items(entry);
    crate::yaml::to_string(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "users": [user],
        "current-context": entry.name,
    }))
}

/// Returns `text` with the entry merged into it.
pub(super) fn merged(text: &str, entry: &Entry, changes: Changes) -> Result<String, Failure> {
    let (mark, body) = split_mark(text);
    let mut new = if body.trim().is_empty() { SKELETON.to_owned() } else { body.to_owned() };
    let keeps_context = has_own_context(&new, &entry.name)?;
    for ((list, item), wanted) in LISTS.into_iter().zip(items(entry)).zip(changes.lists) {
        // The user may have added a namespace to the context; it stays.
        if wanted && !(list == "contexts" && keeps_context) {
            new = set_entry(&new, list, &entry.name, &item)?;
        }
    }
    if changes.current {
        new = set_current_context(&new, &entry.name)?;
    }
    prove(body, &new, &Own { name: &entry.name, contexts: &[] }, changes)?;
    Ok(format!("{mark}{new}"))
}

/// Returns `text` without the entry and without other contexts that lead to its cluster, `None` if it has no part of
/// them.
pub(super) fn removed(text: &str, name: &str) -> Result<Option<String>, Failure> {
    let (mark, body) = split_mark(text);
    let contexts = leading_to(body, name)?;
    let is_gone = |context: &str| context == name || contexts.iter().any(|other| other == context);
    let current = current_context(body)?.is_some_and(|current| is_gone(&current));
    if !current && contexts.is_empty() && lists_with(body, name)? == [false; 3] {
        return Ok(None);
    }
    let mut new = body.to_owned();
    for list in LISTS {
        new = remove_entries(&new, list, name)?;
    }
    for context in &contexts {
        new = remove_entries(&new, "contexts", context)?;
    }
    if current {
        new = set_current_context(&new, "")?;
    }
    prove(body, &new, &Own { name, contexts: &contexts }, Changes::default())?;
    Ok(Some(format!("{mark}{new}")))
}

/// The current context that the text sets.
fn current_context(body: &str) -> Result<Option<String>, Flaw> {
    Ok(root_of(body)?.and_then(|root| root.get("current-context").and_then(Node::text).map(str::to_owned)))
}

/// Whether there is exactly one context `name`, and it is for the cluster and the user of that name.
fn has_own_context(body: &str, name: &str) -> Result<bool, Flaw> {
    let Some(root) = root_of(body)? else { return Ok(false) };
    let mut contexts = items_of(&root, "contexts")?.iter().filter(|item| is_entry(item, name));
    let refers =
        |item: &Node, key| item.get("context").and_then(|context| context.get(key)).and_then(Node::text) == Some(name);
    Ok(match (contexts.next(), contexts.next()) {
        (Some(item), None) => refers(item, "cluster") && refers(item, "user"),
        _ => false,
    })
}

/// Splits off the byte order mark, which is not part of the YAML.
pub(super) fn split_mark(text: &str) -> (&str, &str) {
    match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Changes = Changes { lists: [true; 3], current: true };

    fn entry() -> Entry {
        Entry {
            name: "coracle-dev".to_owned(),
            server: "https://127.0.0.1:6443".to_owned(),
            ca_pem: "CA".to_owned(),
            client_cert_pem: "CERT".to_owned(),
            client_key_pem: "KEY".to_owned(),
        }
    }

    fn merge(text: &str) -> String {
        merged(text, &entry(), ALL).unwrap_or_else(|failure| panic!("{failure:?} in {text:?}"))
    }

    fn remove(text: &str) -> Option<String> {
        removed(text, "coracle-dev").unwrap_or_else(|failure| panic!("{failure:?} in {text:?}"))
    }

    const CLUSTER: &str =
        "- name: coracle-dev\n  cluster:\n    certificate-authority-data: Q0E=\n    server: https://127.0.0.1:6443\n";
    const CONTEXT: &str = "- name: coracle-dev\n  context:\n    cluster: coracle-dev\n    user: coracle-dev\n";
    const USER: &str =
        "- name: coracle-dev\n  user:\n    client-certificate-data: Q0VSVA==\n    client-key-data: S0VZ\n";

    #[test]
    fn an_empty_file_becomes_a_kubeconfig() {
        let new = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n{CLUSTER}contexts:\n{CONTEXT}users:\n{USER}current-context: coracle-dev\n"
        );
        assert_eq!(merge(""), new);
        assert_eq!(merge("\n"), new);
        assert_eq!(merge("# mine\n"), format!("# mine\n{new}"));
        assert_eq!(merge("\u{feff}---"), format!("\u{feff}---\n{new}"));
        let left = "apiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: []\ncurrent-context: \"\"\n";
        assert_eq!(remove(&new).unwrap(), left);
        assert_eq!(remove(left), None);
        assert_eq!(merge(left), new);
    }

    #[test]
    fn every_other_byte_stays() {
        let text = "# top\nusers:   # u\n- name: a  # x\n  user: {token: yes}\n\n# c\ncontexts: null  # none\n\
                    current-context:   'a' # mine\nclusters:\n    - name: \"a\"\n      cluster:\n# odd\n# end\n";
        let indented: String = CLUSTER.lines().flat_map(|line| ["    ", line, "\n"]).collect();
        let expected = format!(
            "# top\nusers:   # u\n- name: a  # x\n  user: {{token: yes}}\n{USER}\n# c\ncontexts:   # none\n{CONTEXT}\
             current-context:   coracle-dev # mine\nclusters:\n    - name: \"a\"\n      cluster:\n{indented}# odd\n# end\n"
        );
        assert_eq!(merge(text), expected);
        let left = text.replace("null  # none\n", "  # none\n  []\n").replace("'a' # mine", "\"\" # mine");
        assert_eq!(remove(&expected).unwrap(), left);
    }

    #[test]
    fn an_existing_entry_is_replaced_in_its_place() {
        let text = "clusters:\n- cluster: {server: old}\n  name: coracle-dev\n- name: z\n- name: coracle-dev\n";
        let new = merge(text);
        assert!(new.starts_with(&format!("clusters:\n- name: z\n{CLUSTER}contexts:\n")), "{new}");
        let text = "clusters:\n- cluster: {server: old}\n  name: coracle-dev # c\n- name: z\n";
        assert!(merge(text).starts_with(&format!("clusters:\n{CLUSTER}- name: z\n")));
        assert_eq!(merge(&merge(text)), merge(text));
    }

    #[test]
    fn a_namespace_of_the_context_stays() {
        let text = "contexts:\n- context:\n    cluster: coracle-dev\n    namespace: mine\n    user: coracle-dev\n  name: coracle-dev\n";
        assert!(merge(text).contains("namespace: mine"));
    }

    #[test]
    fn json_stays_json() {
        let text = "{\n\t\"clusters\": [\n\t\t{\"name\": \"a\"}\n\t],\n\t\"users\": null, \"current-context\":\"a\"\n}";
        let new = merge(text);
        let value: Value = serde_json::from_str(&new).unwrap();
        assert_eq!(value["clusters"].as_array().unwrap().len(), 2);
        assert_eq!(value["users"][0]["name"], "coracle-dev");
        assert_eq!(value["current-context"], "coracle-dev");
        let left: Value = serde_json::from_str(&remove(&new).unwrap()).unwrap();
        assert_eq!(left["clusters"], json!([{ "name": "a" }]));
        assert_eq!(left["contexts"], json!([]));
        assert_eq!(serde_json::from_str::<Value>(&merge("{}")).unwrap()["users"][0]["name"], "coracle-dev");
    }

    #[test]
    fn flow_lists_lose_only_our_item() {
        for (before, after) in [
            ("[{name: coracle-dev}, {name: a}]", "[{name: a}]"),
            ("[{name: a}, {name: coracle-dev}]", "[{name: a}]"),
            ("[{name: a}, {name: coracle-dev}, {name: b},]", "[{name: a}, {name: b},]"),
            ("[ {name: coracle-dev} ]", "[  ]"),
        ] {
            assert_eq!(remove(&format!("users: {before}\n")).unwrap(), format!("users: {after}\n"));
        }
    }

    #[test]
    fn line_ends_documents_and_missing_line_ends_are_respected() {
        let new = merge("\u{feff}users:\r\n- name: a\r\n---\r\nusers:\r\n- name: coracle-dev\r\n");
        assert!(new.starts_with("\u{feff}users:\r\n- name: a\r\n- name: coracle-dev\r\n"));
        assert!(new.ends_with("current-context: coracle-dev\r\n---\r\nusers:\r\n- name: coracle-dev\r\n"));
        assert_eq!(new.matches('\n').count(), new.matches("\r\n").count());
        assert_eq!(
            merge("users:\n- name: a"),
            format!("users:\n- name: a\n{USER}clusters:\n{CLUSTER}contexts:\n{CONTEXT}current-context: coracle-dev\n")
        );
        assert_eq!(remove("users: [{name: coracle-dev}]\n---\nx: [\n").unwrap(), "users: []\n---\nx: [\n");
    }

    #[test]
    fn what_cannot_be_changed_safely_is_refused() {
        for text in [
            "[]",
            "text",
            "users: text\n",
            "users: {a: b}\n",
            "x: &x {users: []}\n<<: *x\n",
            "x: &x [{name: a}]\nusers: *x\n",
            "users: &u []\nx: *u\n",
            "current-context: [a]\n",
            "a: \"\n",
            "---\n---\na: b\n",
            "\tusers: []\n",
        ] {
            assert!(merged(text, &entry(), ALL).is_err(), "{text:?}");
        }
        let shared = "users:\n- name: coracle-dev\n  user: &u {token: t}\n- name: a\n  user: *u\n";
        assert!(removed(shared, "coracle-dev").is_err());
    }

    #[test]
    fn anchors_merge_keys_and_repeated_keys_of_others_stay() {
        let text =
            "users:\n- name: old\nx: &x {token: a}\nusers:\n- &first\n  name: a\n  user:\n    <<: *x\n- *first\n";
        let new = merge(text);
        assert!(new.contains(&format!("- *first\n{USER}")), "{new}");
        assert_eq!(remove(&new).unwrap().lines().take(9).collect::<Vec<_>>(), text.lines().collect::<Vec<_>>());
    }

    #[test]
    fn only_a_current_context_of_ours_is_unset() {
        assert_eq!(remove("current-context: coracle-dev\n").unwrap(), "current-context: \"\"\n");
        assert_eq!(
            remove("current-context: |-\n  coracle-dev\nusers: []\n").unwrap(),
            "current-context: \"\"\nusers: []\n"
        );
        assert_eq!(remove("current-context: coracle-dev2\n"), None);
    }

    #[test]
    fn every_context_that_leads_to_the_cluster_goes() {
        let text = "contexts:\n- name: renamed\n  context: {cluster: coracle-dev, user: coracle-dev}\n\
                    - name: mine\n  context: {cluster: mine, user: coracle-dev}\n\
                    - {name: jane, context: {cluster: coracle-dev, user: jane}}\n\
                    - {name: twice, context: {cluster: coracle-dev, user: jane}}\n\
                    - {name: twice, context: {cluster: mine, user: jane}}\ncurrent-context: jane\n";
        let left = "contexts:\n- name: mine\n  context: {cluster: mine, user: coracle-dev}\n\
                    - {name: twice, context: {cluster: coracle-dev, user: jane}}\n\
                    - {name: twice, context: {cluster: mine, user: jane}}\ncurrent-context: \"\"\n";
        assert_eq!(remove(text).unwrap(), left);
        assert_eq!(remove(left), None);
        assert_eq!(remove("contexts: [{name: a, context: {cluster: coracle-dev2}}]\ncurrent-context: a\n"), None);
    }

    #[test]
    fn without_set_current_the_current_context_stays() {
        let changes = Changes { lists: [true; 3], current: false };
        let new = merged("current-context: a\n", &entry(), changes).ok().unwrap();
        assert!(new.starts_with("current-context: a\nclusters:\n"));
        assert!(!merged("", &entry(), changes).ok().unwrap().contains("current-context"));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

        /// Whatever is in a file, an edit is refused or keeps everything else, and never panics.
        #[test]
        fn no_text_makes_an_edit_panic(
            pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..14),
            noise in "\\PC{0,3}",
            at in proptest::prelude::any::<proptest::sample::Index>(),
        ) {
            let mut pieces = pieces;
            pieces.insert(at.index(pieces.len() + 1), &noise);
            let text = pieces.concat();
            if let Ok(new) = merged(&text, &entry(), ALL) {
                let left = removed(&new, "coracle-dev").expect("what was merged can be removed");
                proptest::prop_assert!(left.is_some());
            }
            let _ = removed(&text, "coracle-dev");
        }
    }

    const PIECES: &[&str] = &[
        "users:",
        "clusters:",
        "contexts:",
        "current-context:",
        "\n",
        "\n",
        "\n- ",
        "\n- name: a",
        "\n- name: coracle-dev",
        "\n  - ",
        " null",
        " []",
        " [",
        "]",
        " {",
        "}",
        ",",
        " {name: coracle-dev}",
        " {name: a}",
        " # c",
        "\r\n",
        "\t",
        " &x",
        " *x",
        " !!str",
        " |",
        " |+",
        " >-",
        "\n  b",
        "\n\n",
        "\n---\n",
        "\n...\n",
        "? ",
        ": ",
        "'",
        "\"",
        "é",
        "\u{2028}",
        "\u{85}",
        "\u{feff}",
        "<<: ",
        "name: ",
        "coracle-dev",
        "\"users\":",
        "apiVersion: v1\n",
        "\rusers: []\r",
        "%YAML 1.1\n",
    ];
}
