//! Flags of the control plane's components.

use std::collections::BTreeMap;

use serde::Serialize;

/// Flags of a component, name (without dashes) to value.
pub type Flags = BTreeMap<String, FlagValue>;

/// What a flag is set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum FlagValue {
    /// One value.
    One(String),
    /// A list: whether the flag is repeated or its values are joined with commas depends on the flag.
    List(Vec<String>),
}

impl FlagValue {
    /// All values, in order.
    pub fn values(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::List(values) => values,
        }
    }

    /// The files, and whatever else has a comma before or behind it, that the values name.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.values().iter().flat_map(|value| value.split(','))
    }

    /// What is behind `--flag=`, once or more often.
    pub fn arguments(&self, repeated: bool) -> Vec<String> {
        match self {
            Self::List(values) if repeated && !values.is_empty() => values.clone(),
            _ => vec![self.values().join(",")],
        }
    }
}

impl From<String> for FlagValue {
    fn from(value: String) -> Self {
        Self::One(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_repeated_or_joined() {
        let list = FlagValue::List(vec!["a".to_owned(), "b,c".to_owned()]);
        assert_eq!(list.arguments(true), ["a", "b,c"]);
        assert_eq!(list.arguments(false), ["a,b,c"]);
        for repeated in [true, false] {
            assert_eq!(FlagValue::One("a,b".to_owned()).arguments(repeated), ["a,b"]);
            // A flag without a value empties what is set by default; without the flag, the default would stay.
            assert_eq!(FlagValue::List(Vec::new()).arguments(repeated), [""]);
        }
    }
}
