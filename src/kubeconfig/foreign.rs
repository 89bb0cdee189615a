//! Entries that have the name of a cluster of coracle and are someone else's: a name is no proof.

use std::path::{Path, PathBuf};

use super::document::split_mark;
use super::edit::{is_entry, items_of, root_of};
use super::entries::certificate;
use super::{Location, file};
use crate::error::{Code, Error};
use crate::yaml::outline::{Flaw, Node};

/// What a cluster and a user of coracle's never have: it writes certificates and keys into the file.
const OF_OTHERS: [(&str, &str, &[&str]); 2] = [
    ("clusters", "cluster", &["certificate-authority", "insecure-skip-tls-verify"]),
    (
        "users",
        "user",
        &["auth-provider", "client-certificate", "client-key", "exec", "password", "token", "tokenFile", "username"],
    ),
];
/// The user in the certificate of an administrator.
const ADMINISTRATOR: &[u8] = b"kubernetes-admin";

/// An entry that coracle did not make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The file that has it.
    pub file: PathBuf,
    /// How that shows, such as "its user has a `token`".
    pub sign: String,
}

/// The entry `name` that coracle did not make, in the first file that has one; files that cannot be understood have none.
pub fn foreign(location: &Location, name: &str) -> Option<Foreign> {
    location.files().iter().find_map(|path| {
        let text = file::read(path).ok().flatten()?;
        let sign = sign(&text, name).ok().flatten()?;
        Some(Foreign { file: path.clone(), sign })
    })
}

/// The error for a file whose entry `name` would be overwritten.
pub(super) fn refused(path: &Path, name: &str, sign: &str) -> Error {
    let message = format!("the kubeconfig `{}` has an entry `{name}` that coracle did not make", path.display());
    Error::new(Code::KubeconfigInvalid, message).because(sign).hint(
        "rename its cluster, user and context there, choose another name with `--name`, or use another file with \
         `--kubeconfig FILE`; nothing was changed",
    )
}

/// How it shows that the entry `name` is not of coracle; `None` if there is none, or it may be.
pub(super) fn sign(text: &str, name: &str) -> Result<Option<String>, Flaw> {
    if !text.contains(name) {
        return Ok(None);
    }
    let Some(root) = root_of(split_mark(text).1)? else { return Ok(None) };
    for (list, part, keys) in OF_OTHERS {
        let Some(own) = items_of(&root, list)?.iter().find(|item| is_entry(item, name)).and_then(|item| item.get(part))
        else {
            continue;
        };
        if let Some(key) = keys.iter().find(|key| own.get(key).is_some()) {
            return Ok(Some(format!("its {part} has `{key}`")));
        }
        if part == "user" && is_of_another_user(own) {
            return Ok(Some("the certificate of its user is not that of an administrator of coracle".to_owned()));
        }
    }
    Ok(None)
}

/// Whether the user has a certificate, and not an administrator's.
fn is_of_another_user(user: &Node) -> bool {
    let own = user.get("client-certificate-data").and_then(Node::text).and_then(certificate);
    own.is_some_and(|own| !own.windows(ADMINISTRATOR.len()).any(|part| part == ADMINISTRATOR))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn what_coracle_never_writes_is_someone_elses() {
        let text = |cluster: &str, user: &str| {
            format!(
                "clusters:\n- {{name: coracle-a, cluster: {{server: x{cluster}}}}}\nusers:\n- {{name: coracle-a, user: {{{user}}}}}\n"
            )
        };
        let found = |cluster: &str, user: &str| sign(&text(cluster, user), "coracle-a").unwrap();
        assert_eq!(found("", "token: t").as_deref(), Some("its user has `token`"));
        assert_eq!(
            found(", insecure-skip-tls-verify: true", "client-key-data: k").as_deref(),
            Some("its cluster has `insecure-skip-tls-verify`")
        );
        assert_eq!(found(", tls-server-name: n", "client-certificate-data: bm9uZQ==, client-key-data: k"), None);
        assert_eq!(sign(&text("", "token: t"), "coracle-b").unwrap(), None);
        let certificate = |name: &str| {
            let mut parameters = rcgen::CertificateParams::default();
            parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
            let pem = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
            format!("client-certificate-data: {}", STANDARD.encode(pem))
        };
        assert_eq!(found("", &certificate("kubernetes-admin")), None);
        assert!(found("", &certificate("jane")).unwrap().contains("not that of an administrator"));
    }
}
