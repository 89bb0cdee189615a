//! The same YAML, as coracle reads a manifest and as kubectl does.

use std::fs;

use coracle::yaml::manifest;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError};
use serde_json::Value;

use super::kubectl;

const HEAD: &str = "apiVersion: example.org/v1\nkind: Test\nmetadata: {name: a}\n";

/// The objects that kubectl reads, or its error.
fn kubectl_reads(text: &str) -> Result<Vec<Value>, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("manifest.yaml");
    fs::write(&file, text).unwrap();
    let path = file.display().to_string();
    // An empty patch changes nothing, and `--local` asks no server.
    let output = kubectl(
        &directory.path().join("no-kubeconfig"),
        &["patch", "--local", "--type=merge", "-p", "{}", "-o", "json", "-f", &path],
    );
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let stream = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
    Ok(stream.collect::<Result<_, _>>().unwrap())
}

/// The objects that coracle reads, or its first error.
fn coracle_reads(text: &str) -> Result<Vec<Value>, String> {
    manifest::read(text).into_iter().map(|document| document.value).collect()
}

/// Whether both mean the same to the API server: the two programs write large floats differently.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_i64() && b.is_i64() => a == b,
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

/// Whether a document may set a key twice, and whether it may do so in two spellings, such as `1` and `'1'`.
fn twice(text: &str) -> (bool, bool) {
    let mut found = (false, false);
    for document in text.split("---") {
        let mut seen = std::collections::BTreeMap::new();
        for line in document.lines() {
            let Some((key, _)) = line.strip_prefix("  ").and_then(|line| line.split_once(':')) else { continue };
            if let Some(before) = seen.insert(key.trim_matches(['\'', '"', '?', ' ']), key) {
                found = (true, found.1 || before != key);
            }
        }
    }
    found
}

/// Why the two do not agree on this text, if they do not.
fn difference(text: &str) -> Option<String> {
    match (kubectl_reads(text), coracle_reads(text)) {
        // Which of two keys that become one wins is chance in kubectl.
        (Ok(_), Ok(_)) if twice(text).1 => None,
        (Ok(theirs), Ok(ours)) => {
            let equal = theirs.len() == ours.len() && theirs.iter().zip(&ours).all(|(a, b)| same(a, b));
            (!equal).then(|| format!("kubectl reads {theirs:?}, coracle {ours:?}, of\n{text:?}"))
        }
        (Err(_), Err(_)) => None,
        // kubectl drops what follows an end mark or a directive without a word.
        (Ok(_), Err(_)) if text.lines().any(|line| line.starts_with("...") || line.starts_with('%')) => None,
        // kubectl does not look at a value that a later one of its key replaces.
        (Ok(_), Err(_)) if twice(text).0 => None,
        (Ok(theirs), Err(ours)) => {
            Some(format!("coracle refuses ({ours}) what kubectl reads as {theirs:?}:\n{text:?}"))
        }
        (Err(theirs), Ok(ours)) => {
            Some(format!("kubectl refuses ({theirs}) what coracle reads as {ours:?}:\n{text:?}"))
        }
    }
}

const SCALARS: &[&str] = &[
    "0400",
    "-0400",
    "+0400",
    "00",
    "0",
    "-0",
    "08",
    "-08",
    "0_7",
    "1_000",
    "_1",
    "1_",
    "1__0",
    "0x1F",
    "0X1f",
    "-0x1f",
    "0x",
    "0x_1",
    "0o17",
    "0O17",
    "0o8",
    "-0o17",
    "0b11",
    "-0b11",
    "0b2",
    "0b",
    "0b-1",
    "0b+1",
    "-0b-1",
    "+0b1",
    "0x-1",
    "1e3",
    "1E+3",
    "1e400",
    "-1e400",
    ".5",
    "-.5",
    "+.5",
    "5.",
    ".",
    "..5",
    "1.5",
    "1.0",
    "-1.50",
    "1e",
    "e1",
    "1e-7",
    "1e21",
    "123456789.5",
    "0.00001",
    "1_0.5",
    "0x1p4",
    ".5e3",
    ".e3",
    ".5e999",
    "5_.5",
    "1.5_0",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
    "-123456789012345678901234567890",
    "+18446744073709551615",
    "y",
    "Y",
    "yes",
    "Yes",
    "YES",
    "yEs",
    "n",
    "N",
    "no",
    "No",
    "NO",
    "on",
    "On",
    "ON",
    "off",
    "Off",
    "OFF",
    "true",
    "True",
    "TRUE",
    "tRUE",
    "false",
    "False",
    "FALSE",
    "~",
    "null",
    "Null",
    "NULL",
    "nULL",
    "nil",
    "none",
    "",
    ".inf",
    ".Inf",
    "+.inf",
    "-.INF",
    ".nan",
    ".NaN",
    "-.nan",
    "inf",
    "NaN",
    "+inf",
    "-nan",
    "+Infinity",
    "infinity",
    "2001-01-01",
    "2001-1-1",
    "2001-12-14t21:59:43.10-05:00",
    "2001-12-14 21:59:43",
    "190:20",
    "190:20:30.15",
    "1:30",
    "=",
    "<<",
    "-",
    "+",
    "+-5",
    "--1",
    "1-1",
    "1,000",
    "10.0.0.1",
    "1.2.3",
    "v1.0",
    "100m",
    "5Gi",
    "text",
    "two words",
    "a#b",
    "ä",
    "😀",
    "٣",
    "a\u{a0}b",
    "\u{85}",
];
const TAGS: &[&str] = &["!!str", "!!int", "!!float", "!!bool", "!!null", "!!binary", "!!timestamp", "!own", "!"];

/// Every way to write this scalar that is worth a look.
fn spellings(text: &str) -> Vec<String> {
    let mut all = vec![text.to_owned(), format!("'{text}'"), format!("\"{text}\"")];
    all.extend(TAGS.iter().flat_map(|tag| [format!("{tag} {text}"), format!("{tag} '{text}'")]));
    all
}

/// Finds up to 20 documents on which the two do not agree, with few calls of kubectl.
fn differences(texts: &[String], found: &mut Vec<String>) {
    let Some(difference) = difference(&texts.join("---\n")).filter(|_| found.len() < 20) else { return };
    if texts.len() == 1 {
        return found.push(difference);
    }
    let (first, second) = texts.split_at(texts.len() / 2);
    differences(first, found);
    differences(second, found);
}

/// Compares documents that hold one scalar each, with few calls of kubectl: those that coracle reads all at once, and
/// those that it refuses one by one.
fn compare(scalars: &[String], most_refused: usize) {
    let as_value = |scalar: &str| format!("{HEAD}spec:\n  value: {scalar}\n");
    let as_key = |scalar: &str| format!("{HEAD}spec:\n  ? {scalar}\n  : value\n");
    let texts = scalars.iter().flat_map(|scalar| [as_value(scalar), as_key(scalar)]);
    let (good, bad): (Vec<String>, Vec<String>) = texts.partition(|text| coracle_reads(text).is_ok());
    assert!(good.len() > scalars.len() / 2, "{} of {} are too few", good.len(), scalars.len());
    let mut found = Vec::new();
    for part in good.chunks(500) {
        differences(part, &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
    let every = (bad.len() / most_refused).max(1);
    let found: Vec<_> = bad.iter().step_by(every).filter_map(|text| difference(text)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn scalars_of_every_spelling_are_what_kubectl_makes_of_them() {
    let scalars: Vec<String> = SCALARS.iter().flat_map(|text| spellings(text)).collect();
    let all = std::env::var_os("CORACLE_TEST_ALL").is_some();
    compare(&scalars, if all { usize::MAX } else { 40 });
}

/// Lines of a document; `@` is the indentation of a value of `spec`.
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["a", "b", "y", "1", "0x10", "'1'", "\"c\"", "1.5", "null", "? x\n  "]);
    let scalar = prop_oneof![
        prop::sample::select(SCALARS).prop_map(str::to_owned),
        "[-+.0-9eExobB_aTyYnNfF]{1,7}",
        prop::sample::select(vec![
            "&one {p: 1, q: 0400, yes: 2}",
            "&two {q: 3, <<: {r: off}}",
            "{<<: *one, q: 2}",
            "{q: 2, <<: *one}",
            "{<<: [*two, *one]}",
            "{<<: *one, <<: *two}",
            "{'<<': *one}",
            "{<<: 5}",
            "{!!merge x: 5}",
            "*one",
            "*two",
            "&x [1, *one]",
            "&x [*x]",
            "[a, 'b', \"c\\x41\\u00e9\", 1_0, {d: e}, [f]]",
            "{a: 1, a: 2}",
            "|\n    text\n      more\n\n",
            "|+\n    text\n\n\n",
            ">-\n    folded\n    text\n",
            "|2\n     deep\n",
            "'it''s\n    two lines'",
            "\"two\\\n    lines\"",
            "plain\n    over two # lines",
            "\n  - x\n  - y: 1\n    z: 08",
            "\n  -\n  - ~",
            "# nothing",
            "{\"json\": true, \"n\": 1.0}",
        ])
        .prop_map(str::to_owned),
    ];
    prop_oneof![
        8 => (key, scalar).prop_map(|(key, value)| format!("  {key}: {value}")),
        1 => prop::sample::select(vec!["# comment", "", "   ", "  # ---", "  --- : x"]).prop_map(str::to_owned),
    ]
}

fn separator() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        8 => Just("---"),
        4 => prop::sample::select(vec!["--- # next", "---   ", "---\t", "---\n---", "---\n# only a comment\n---", "...\n---", "--- |"]),
        1 => prop::sample::select(vec!["--- x", "----", "---x", "...", "%YAML 1.1\n---"]),
    ]
}

/// A whole file: its text, its byte order mark and its line ends.
fn file() -> impl Strategy<Value = String> {
    let document = vec(line(), 0..5).prop_map(|lines| format!("{HEAD}spec:\n{}\n", lines.join("\n")));
    let parts = vec((document, separator()), 1..4);
    (parts, any::<bool>(), any::<bool>(), any::<bool>(), prop::option::of(separator())).prop_map(
        |(parts, mark, windows, ended, first)| {
            let mut text = first.map(|first| format!("{first}\n")).unwrap_or_default();
            let count = parts.len();
            for (index, (document, separator)) in parts.into_iter().enumerate() {
                text.push_str(&document);
                if index + 1 < count {
                    text.push_str(separator);
                    text.push('\n');
                }
            }
            if !ended {
                text.truncate(text.trim_end_matches('\n').len());
            }
            let text = if windows { text.replace('\n', "\r\n") } else { text };
            if mark { format!("\u{feff}{text}") } else { text }
        },
    )
}

/// The same files in every run, so that a difference is found by whoever makes it; others with `CORACLE_TEST_ALL`.
fn seed() -> RngSeed {
    if std::env::var_os("CORACLE_TEST_ALL").is_some() { RngSeed::Random } else { RngSeed::Fixed(11) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, rng_seed: seed(), ..ProptestConfig::default() })]

    #[test]
    fn files_are_what_kubectl_makes_of_them(text in file()) {
        if let Some(difference) = difference(&text) {
            return Err(TestCaseError::fail(difference));
        }
    }
}
