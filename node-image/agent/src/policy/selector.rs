//! Label selectors.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// A label selector; one without requirements selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(from = "SelectorObject")]
pub(crate) struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
    /// An operator that this agent does not know: it must not select too much.
    Never,
}

/// `LabelSelector` as the API sends it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SelectorObject {
    match_labels: Labels,
    match_expressions: Vec<Expression>,
}

#[derive(Debug, Deserialize)]
struct Expression {
    key: String,
    operator: String,
    #[serde(default)]
    values: Vec<String>,
}

impl Selector {
    /// Whether an object with these labels is selected.
    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            // Also met by an object without the label.
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
            Self::Never => false,
        }
    }
}

impl From<SelectorObject> for Selector {
    fn from(object: SelectorObject) -> Self {
        let labels = object.match_labels.into_iter().map(|(key, value)| Requirement::In(key, vec![value]));
        let expressions = object.match_expressions.into_iter().map(|expression| {
            let Expression { key, operator, values } = expression;
            match operator.as_str() {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "Exists" => Requirement::Exists(key),
                "DoesNotExist" => Requirement::DoesNotExist(key),
                _ => Requirement::Never,
            }
        });
        Self(labels.chain(expressions).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let selector: Selector = serde_json::from_str(selector).unwrap();
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        selector.matches(&labels)
    }

    #[test]
    fn the_empty_selector_selects_everything() {
        assert!(selects("{}", &[]));
        assert!(selects("{}", &[("a", "b")]));
    }

    #[test]
    fn labels_and_expressions_must_all_hold() {
        let both = r#"{"matchLabels":{"a":"1"},"matchExpressions":[{"key":"b","operator":"In","values":["2","3"]}]}"#;
        assert!(selects(both, &[("a", "1"), ("b", "3"), ("c", "x")]));
        assert!(!selects(both, &[("a", "1"), ("b", "4")]));
        assert!(!selects(both, &[("b", "3")]));
    }

    #[test]
    fn each_operator_works_as_in_kubernetes() {
        let operator = |operator: &str, labels: &[(&str, &str)]| {
            let values = if operator.contains("xist") { "" } else { r#","values":["x","y"]"# };
            selects(&format!(r#"{{"matchExpressions":[{{"key":"k","operator":"{operator}"{values}}}]}}"#), labels)
        };
        for (name, with_x, with_z, without) in [
            ("In", true, false, false),
            ("NotIn", false, true, true),
            ("Exists", true, true, false),
            ("DoesNotExist", false, false, true),
            ("FromTheFuture", false, false, false),
        ] {
            assert_eq!(operator(name, &[("k", "x")]), with_x, "{name} with x");
            assert_eq!(operator(name, &[("k", "z")]), with_z, "{name} with z");
            assert_eq!(operator(name, &[]), without, "{name} without");
        }
    }
}
