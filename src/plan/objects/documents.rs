//! The objects of a manifest. Pure.

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Code, Error, Result};

/// The documents of a YAML stream; errors call the stream `what`.
pub fn documents(text: &str, what: &str) -> Result<Vec<Value>> {
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(document)
            .map_err(|source| Error::new(Code::StepFailed, format!("cannot understand {what}")).with_cause(&source))?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}
