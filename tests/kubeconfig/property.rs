//! Random kubeconfigs, as kubectl reads them before and after.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use coracle::kubeconfig::{merge, remove, render};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::{entry, kubectl, location, view, wait, without};

/// Strings that YAML readers like to make something else of.
const NASTY: &[&str] = &[
    "yes",
    "No",
    "on",
    "OFF",
    "y",
    "n",
    "true",
    "~",
    "null",
    "Null",
    "",
    " ",
    "012",
    "0o17",
    "0x1F",
    "0b11",
    "1_000",
    "1e3",
    "+1",
    "-.inf",
    ".NaN",
    "1:30",
    "2001-01-01",
    "2001-12-14t21:59:43.10-05:00",
    "<<",
    "=",
    "-",
    "- a",
    "?",
    ": b",
    "a: b",
    "a #b",
    "#a",
    "&a",
    "*a",
    "!a",
    "!!str 1",
    "%a",
    "@a",
    "`a",
    "'",
    "\"",
    "\\",
    "[",
    "{a}",
    ",",
    "|",
    ">",
    "a\nb",
    "a\n\n  b\n",
    "\n",
    "\ttab",
    "a\tb",
    "trailing ",
    " leading",
    "é",
    "日本",
    "😀",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "\u{7f}",
    "---",
    "...",
    "--- a",
    "0",
    "1.",
    ".5",
    "coracle-dev",
    "coracle-dev2",
];

/// One of those, or random text.
fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![3 => proptest::sample::select(NASTY).prop_map(str::to_owned), 1 => "\\PC{0,12}", 1 => "[a-z0-9.:@/-]{1,20}"]
}

/// Any JSON value, which kubectl keeps as it is in an extension.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        nasty().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        Just(Value::Null)
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((nasty(), inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
        ]
    })
}

/// A kubeconfig with everything in it that kubectl allows.
fn config() -> impl Strategy<Value = Value> {
    let item = (nasty(), nasty(), anything());
    let present = any::<[bool; 6]>();
    (vec(item, 0..4), nasty(), anything(), present).prop_map(|(items, current, extension, present)| {
        let mut names = std::collections::BTreeSet::from(["coracle-dev".to_owned()]);
        let items: Vec<_> = items.into_iter().filter(|(name, ..)| names.insert(name.clone())).collect();
        let list = |body: &dyn Fn(&str, &Value) -> (&'static str, Value)| {
            let item = |(name, text, extension): &(String, String, Value)| {
                let (key, mut body) = body(text, extension);
                if !extension.is_null() {
                    body["extensions"] = json!([{ "name": text, "extension": extension }]);
                }
                json!({ "name": name, key: body })
            };
            Value::from(items.iter().map(item).collect::<Vec<_>>())
        };
        let user = |text: &str, _: &Value| {
            let variables = json!([{ "name": text, "value": text }]);
            let exec = json!({ "apiVersion": "client.authentication.k8s.io/v1", "command": "x", "args": [text], "env": variables });
            ("user", json!({ "token": text, "exec": exec, "auth-provider": { "name": text, "config": { text: text } } }))
        };
        let fields = [
            ("users", list(&user)),
            ("apiVersion", json!("v1")),
            ("contexts", list(&|text, _| ("context", json!({ "cluster": text, "user": text, "namespace": text })))),
            ("current-context", json!(current)),
            ("extensions", json!([{ "name": "x", "extension": extension }])),
            ("clusters", list(&|text, _| ("cluster", json!({ "server": text, "tls-server-name": text })))),
        ];
        let kept = fields.into_iter().zip(present).filter(|((key, _), present)| *present || *key == "extensions");
        Value::Object(kept.map(|((key, value), _)| (key.to_owned(), value)).collect())
    })
}

/// Writes a value in one of the ways people's kubeconfigs are written.
fn text(config: &Value, style: u8) -> String {
    // Bare words on purpose: kubectl reads these as booleans, numbers and dates, and must go on doing so.
    const BARE: &str = "x-bare: &bare\n  - yes\n  - 012\n  - 1_000\n  - 0o17\n  - 1e3\n  - 2001-01-01\n  - ~\n\
                        x-other: *bare # comment\n";
    let block = || coracle::yaml::to_string(config).unwrap();
    match style % 7 {
        0 => config.to_string(),
        1 => serde_json::to_string_pretty(config).unwrap(),
        2 => format!("# mine\n{}# end\n", block()),
        3 => format!("\u{feff}---\n{}", block()).replace('\n', "\r\n"),
        4 => format!("{}{BARE}", block()),
        5 => format!("{BARE}{}---\nusers: [{{name: coracle-dev}}]\n", block()),
        _ => serde_json::to_string_pretty(config).unwrap().replace("  ", "\t"),
    }
}

#[test]
fn kubectl_reads_everybody_elses_entries_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    let (start, understood) = (Instant::now(), AtomicUsize::new(0));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..ProptestConfig::default()
    });
    let property = |(config, style): (Value, u8)| {
        let text = text(&config, style);
        fs::write(&file, &text).unwrap();
        // Time runs out on a loaded machine; fifty are the least.
        if understood.load(Relaxed) >= 50 && start.elapsed() > Duration::from_secs(50) {
            return Ok(());
        }
        let Some(before) = view(&file) else { return Ok(()) };
        understood.fetch_add(1, Relaxed);
        let fail = |what: String| {
            TestCaseError::fail(format!("{what} in\n{text}\nwhich became\n{}", fs::read_to_string(&file).unwrap()))
        };
        let merged = wait(merge(&location(&file), &entry("coracle-dev"), true));
        merged.map_err(|error| fail(format!("{error} {:?}", error.problems())))?;
        let after = view(&file).ok_or_else(|| fail("unreadable after merge".to_owned()))?;
        let (mut others, ours) = without(after.clone(), "coracle-dev");
        prop_assert_eq!(ours, 3, "{}", text);
        prop_assert_eq!(&others["current-context"], "coracle-dev");
        others["current-context"] = before["current-context"].clone();
        prop_assert_eq!(&others, &without(before.clone(), "coracle-dev").0, "{}", text);
        prop_assert!(wait(remove(&location(&file), "coracle-dev")).map_err(|error| fail(error.to_string()))?);
        let mut left = view(&file).ok_or_else(|| fail("unreadable after remove".to_owned()))?;
        prop_assert_eq!(&left["current-context"], "");
        left["current-context"] = before["current-context"].clone();
        prop_assert_eq!(&left, &without_ways(before, "coracle-dev"), "{}", text);
        prop_assert!(!wait(remove(&location(&file), "coracle-dev")).unwrap());
        Ok(())
    };
    runner.run(&(config(), any::<u8>()), property).unwrap_or_else(|error| panic!("{error}"));
    let understood = understood.load(Relaxed);
    assert!(understood >= 50, "kubectl understood only {understood} of the texts");
}

/// The configuration without the contexts that lead to this cluster: they go with it, whoever made them.
fn without_ways(mut config: Value, cluster: &str) -> Value {
    if let Some(contexts) = config["contexts"].as_array_mut() {
        contexts.retain(|context| context["context"]["cluster"] != cluster);
        if contexts.is_empty() {
            config["contexts"] = Value::Null;
        }
    }
    config
}

#[test]
fn kubectl_reads_written_yaml_back_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    // Many values in one file: one kubectl call per case is what takes the time.
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 25,
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..ProptestConfig::default()
    });
    let values = vec((nasty(), anything()), 40);
    runner
        .run(&values, |pairs| {
            // kubectl drops an extension that is null.
            let extension = Value::Array(pairs.into_iter().map(|(key, value)| json!({ key: value })).collect());
            let config = json!({ "extensions": [{ "name": "x", "extension": extension }] });
            fs::write(&file, coracle::yaml::to_string(&config).unwrap()).unwrap();
            let output = kubectl(&file, &["config", "view", "--raw", "-o", "json"]);
            prop_assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let read: Value = serde_json::from_slice(&output.stdout).unwrap();
            prop_assert_eq!(&read["extensions"][0]["extension"], &extension);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", fs::read_to_string(&file).unwrap()));
}

#[test]
fn kubectl_reads_the_standalone_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    fs::write(&file, render(&entry("coracle-dev")).unwrap()).unwrap();
    let config = view(&file).unwrap();
    assert_eq!(config["current-context"], "coracle-dev");
    assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:6443");
    assert_eq!(config["users"][0]["user"]["client-key-data"], "S0VZ");
}
