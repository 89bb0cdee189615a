//! The certificates of the registries' CAs, read from this host.

use std::collections::BTreeMap;

use crate::config::ClusterConfig;
use crate::error::{Code, Error, Result};

/// Reads the CA of each registry that has one, by the registry's host.
pub(crate) fn authorities(cluster: &ClusterConfig) -> Result<BTreeMap<String, String>> {
    let files = cluster.registries.iter().filter_map(|registry| Some((&registry.host, registry.ca_file.as_ref()?)));
    files.map(|(host, file)| Ok((host.clone(), certificates(host, file)?))).collect()
}

fn certificates(host: &str, file: &str) -> Result<String> {
    let what = || format!("cannot use `{file}` as the CA of registry `{host}`");
    let text =
        std::fs::read_to_string(file).map_err(|source| Error::new(Code::ConfigInvalid, what()).with_cause(&source))?;
    if text.contains("PRIVATE KEY") {
        return Err(Error::new(Code::ConfigInvalid, what())
            .because("it contains a private key, which does not belong in a node")
            .hint("use a file that contains only the certificate"));
    }
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Error::new(Code::ConfigInvalid, what())
            .because("it contains no PEM certificate")
            .hint(format!("convert it from DER: `openssl x509 -inform der -in {file} -out ca.crt`")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_ca_is_reported_before_anything_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.crt");
        let path = file.display().to_string();
        let cause = || certificates("a.example", &path).unwrap_err().cause().unwrap_or_default().to_owned();
        assert_eq!(certificates("a.example", &path).unwrap_err().code(), Code::ConfigInvalid);
        assert!(cause().contains("No such file"));
        std::fs::write(&file, "der").unwrap();
        assert!(cause().contains("no PEM"));
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n").unwrap();
        assert!(cause().contains("private key"));
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n").unwrap();
        assert!(certificates("a.example", &path).is_ok());
    }
}
