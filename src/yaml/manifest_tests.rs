use serde_json::json;

use super::*;

fn values(text: &str) -> Vec<(usize, Result<Value, String>)> {
    read(text).into_iter().map(|document| (document.number, document.value)).collect()
}

fn only(text: &str) -> Value {
    values(text).remove(0).1.unwrap()
}

#[test]
fn scalars_are_what_kubectl_makes_of_them() {
    let text = "a: 0400\nb: yes\nc: 1_000\ny: 08\nn: .5\n1: -0400\n0x10: 0o17\nd: 123456789012345678901234567890\n\
                e: 1.0\nf: 1e3\ng: 2001-01-01\nh: 190:20\ni: !!binary aGVsbG8=\nj: 'yes'\nk: 1e400\n1e6: !!int '5'\n";
    let expected = json!({
        "a": 256, "b": true, "c": 1000, "true": 8, "false": 0.5, "1": -256, "16": 15, "d": 1.234_567_890_123_456_8e29,
        "e": 1, "f": 1000, "g": "2001-01-01", "h": "190:20", "i": "hello", "j": "yes", "k": "1e400", "1e+06": 5,
    });
    assert_eq!(only(text), expected);
}

#[test]
fn documents_are_split_as_kubectl_splits_them() {
    let text = "# head\n---\na: 1\n--- # next\r\n---\n\u{feff}b: |\n  x\r\n---\n# end\n---";
    assert_eq!(values(text), [(1, Ok(json!({"a": 1}))), (3, Ok(json!({"b": "x\n"})))]);
    assert_eq!(values("{\"a\": 1.0}\n{\"b\": \"\\ud83d\\ude00\"}").len(), 2);
    for nothing in ["", "\n", "---\n", "# x\n---\n# y", "null", "\u{feff}"] {
        assert_eq!(values(nothing), [], "{nothing:?}");
    }
}

#[test]
fn what_kubectl_drops_or_refuses_is_refused() {
    for (text, at, message) in [
        ("a: 1\n--- {b: 2}\nc: 3\n", 5, "`---` must stand alone"),
        ("a: 1\n---\n? [x]\n: 1\n", 11, "a key must be"),
        ("a: 1\n---\na: .inf\n", 12, "JSON does not have"),
        ("a: 1\n---\n<<: 5\n", 13, "a merge key"),
        ("a: 1\n---\na: &x [*x]\n", 16, "inside its own anchor"),
        ("a: 1\n---\na: [1\nb: 2\n", 16, "not YAML"),
    ] {
        let documents = read(text);
        assert_eq!(documents.len(), 2, "{documents:?}");
        assert_eq!(documents[1].at, at, "{text:?} {documents:?}");
        assert!(documents[1].value.as_ref().unwrap_err().contains(message), "{documents:?}");
    }
}

#[test]
fn what_follows_an_end_mark_is_refused_because_kubectl_drops_it() {
    for text in ["a: 1\n...\nb: 2\n", "a: 1\n...\n%YAML 1.1\n"] {
        assert!(values(text)[0].1.is_err(), "{text:?}");
    }
    assert_eq!(values("a: 1\n...\n# end\n"), [(1, Ok(json!({"a": 1})))]);
}

#[test]
fn a_mistake_in_one_document_does_not_hide_those_behind_it() {
    let found = values("a: [\n---\nb: 1\n---\nc: }\n");
    assert!(found[0].1.is_err() && found[1].1.is_ok() && found[2].1.is_err(), "{found:?}");
}

#[test]
fn merge_keys_override_what_stands_before_them() {
    let text = "base: &b {x1: 1, x2: 1}\none: {<<: *b, x1: 2}\ntwo: {x1: 2, <<: *b}\nall: {<<: [*b, {x1: 3, x3: 3}]}\n";
    let value = only(text);
    assert_eq!(value["one"], json!({"x1": 2, "x2": 1}));
    assert_eq!(value["two"], json!({"x1": 1, "x2": 1}));
    assert_eq!(value["all"], json!({"x1": 1, "x2": 1, "x3": 3}));
}

#[test]
fn aliases_that_would_explode_are_refused() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e]\n";
    assert!(values(bomb)[0].1.as_ref().unwrap_err().contains("too many values"));
}

#[test]
fn values_have_places() {
    let text = "a: 1\n---\nspec:\n  list:\n  - {b/c: 5}\n  empty:\n";
    let at = |pointer: &str, key: bool| &text[place(text, 2, pointer, key)..][..3];
    assert_eq!(at("/spec/list/0/b~1c", false), "5}\n");
    assert_eq!(at("/spec/list/0/b~1c", true), "b/c");
    assert_eq!(at("/spec/empty", false), "emp");
    assert_eq!(at("/spec/none/0", false), "lis");
    assert_eq!(at("", false), "spe");
}

#[test]
fn keys_that_are_set_twice_are_noted() {
    let text = "\u{feff}a: 1\nb: {c: 1, 'c': 2}\n---\ny: 1\ntrue: 2\n<<: {y: 3}\n";
    let repeated: Vec<_> = read(text).into_iter().flat_map(|document| document.repeated).collect();
    assert_eq!(
        repeated,
        [(text.find("'c'").unwrap(), "c".to_owned()), (text.find("true").unwrap(), "true".to_owned())]
    );
}

#[test]
fn escapes_stand_for_what_kubectl_makes_of_them() {
    let found = read("a: \"x\\N\\_\\L\\P\\x85y\"\n").remove(0).value.unwrap();
    assert_eq!(found["a"], "x\u{85}\u{a0}\u{2028}\u{2029}\u{85}y");
}
