//! What the registries of a configuration need from this host: the certificates of their CAs.

use std::collections::BTreeMap;

use crate::config::Cluster;
use crate::error::{Code, Error, Result};

/// Reads the CA of each registry that has one, by the registry's host.
pub(crate) fn authorities(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let files = cluster.registries.iter().filter_map(|registry| Some((&registry.host, registry.ca_file.as_ref()?)));
    files.map(|(host, file)| Ok((host.clone(), certificates(host, file)?))).collect()
}

fn certificates(host: &str, file: &str) -> Result<String> {
    let what = || format!("cannot use `{file}` as the CA of registry `{host}`");
    let text = std::fs::read_to_string(file).map_err(|source| Error::new(Code::FileFailed, what()).cause(&source))?;
    if text.contains("PRIVATE KEY") {
        return Err(Error::new(Code::FileFailed, what())
            .because("there is a private key in it, which does not belong into a node")
            .hint("give a file with the certificate only"));
    }
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Error::new(Code::FileFailed, what())
            .because("there is no PEM certificate in it")
            .hint(format!("from DER: `openssl x509 -inform der -in {file} -out ca.crt`")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_ca_is_found_before_anything_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        let path = file.display().to_string();
        let cause = || certificates("a.example", &path).unwrap_err().cause_text().unwrap_or_default().to_owned();
        assert!(cause().contains("No such file"));
        std::fs::write(&file, "der").unwrap();
        assert!(cause().contains("no PEM"));
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n").unwrap();
        assert!(cause().contains("private key"));
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n").unwrap();
        assert!(certificates("a.example", &path).is_ok());
    }
}
