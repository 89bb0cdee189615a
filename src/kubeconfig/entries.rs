//! The entries of clusters that kubeconfigs have, as far as they can be read.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::{Date, Month, OffsetDateTime};

use super::document::{encoded, split_mark};
use super::edit::{is_entry, items_of, root_of};
use super::{Location, file};
use crate::yaml::outline::{Flaw, Node};

/// The bits of a mode by which others may read.
const OTHERS: u32 = 0o004;

/// The entry of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The file that has it.
    pub file: PathBuf,
    /// The name of the cluster there.
    pub name: String,
    /// The API server's URL.
    pub server: String,
    authority: Option<String>,
    certificate: Option<String>,
}

impl Known {
    /// Whether its certificate authority is this one (PEM); one that it does not have itself may be.
    pub fn may_trust(&self, authority: &str) -> bool {
        self.authority.as_ref().is_none_or(|own| *own == encoded(authority))
    }

    /// When the certificate of its user ends, if it has one that can be read.
    pub fn ends(&self) -> Option<OffsetDateTime> {
        not_after(&certificate(self.certificate.as_ref()?)?)
    }
}

/// When a certificate (PEM) ends; `None` if it is something else.
pub fn valid_until(pem: &str) -> Option<OffsetDateTime> {
    not_after(&decoded(pem)?)
}

/// The certificate (DER) in `client-certificate-data`, which is PEM in base64; `None` if it is something else.
pub(super) fn certificate(data: &str) -> Option<Vec<u8>> {
    decoded(&String::from_utf8(STANDARD.decode(data).ok()?).ok()?)
}

fn decoded(pem: &str) -> Option<Vec<u8>> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    pem.contains("-----BEGIN CERTIFICATE-----").then(|| STANDARD.decode(body).ok())?
}

/// The entries of clusters whose names begin with `prefix`; files that cannot be understood have none.
pub fn known(location: &Location, prefix: &str) -> Vec<Known> {
    let mut all = Vec::new();
    for path in location.files() {
        let Some(text) = file::read(path).ok().flatten() else { continue };
        let found = entries(split_mark(&text).1, prefix).unwrap_or_default();
        all.extend(found.into_iter().map(|known| Known { file: path.clone(), ..known }));
    }
    all
}

/// The files with keys or tokens that every user of this host can read.
pub fn open(location: &Location) -> Vec<PathBuf> {
    let is_open = |path: &&PathBuf| {
        let mode = std::fs::metadata(path).map(|found| found.mode()).unwrap_or_default();
        let text = || file::read(path).ok().flatten().unwrap_or_default();
        mode & OTHERS != 0 && ["client-key-data:", "token:", "password:"].iter().any(|secret| text().contains(secret))
    };
    location.files().iter().filter(is_open).cloned().collect()
}

fn entries(body: &str, prefix: &str) -> Result<Vec<Known>, Flaw> {
    let Some(root) = root_of(body)? else { return Ok(Vec::new()) };
    let users = items_of(&root, "users")?;
    let text = |item: &Node, part: &str, key: &str| {
        item.get(part).and_then(|part| part.get(key)).and_then(Node::text).map(str::to_owned)
    };
    let known = |item: &Node| {
        let name = item.get("name").and_then(Node::text).filter(|name| name.starts_with(prefix))?.to_owned();
        let user = users.iter().find(|user| is_entry(user, &name));
        Some(Known {
            file: PathBuf::new(),
            server: text(item, "cluster", "server").unwrap_or_default(),
            authority: text(item, "cluster", "certificate-authority-data"),
            certificate: user.and_then(|user| text(user, "user", "client-certificate-data")),
            name,
        })
    };
    Ok(items_of(&root, "clusters")?.iter().filter_map(known).collect())
}

/// The end of a certificate's validity. Its two moments are the only ones of a certificate that follow each other.
fn not_after(certificate: &[u8]) -> Option<OffsetDateTime> {
    (0..certificate.len()).find_map(|at| {
        let (_, rest) = moment(certificate.get(at..)?)?;
        moment(rest).map(|(end, _)| end)
    })
}

/// The moment that bytes begin with in DER, and the rest.
fn moment(bytes: &[u8]) -> Option<(OffsetDateTime, &[u8])> {
    let length = match (bytes.first()?, bytes.get(1)?) {
        (0x17, 13) => 13,
        (0x18, 15) => 15,
        _ => return None,
    };
    let digits = std::str::from_utf8(bytes.get(2..2 + length)?).ok()?.strip_suffix('Z')?;
    let (year, rest) = digits.split_at_checked(length - 11)?;
    let year: i32 = year.parse().ok()?;
    let year = if length == 15 { year } else { year + if year < 50 { 2000 } else { 1900 } };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(part(0)?).ok()?, part(2)?).ok()?;
    let time = date.with_hms(part(4)?, part(6)?, part(8)?).ok()?;
    Some((time.assume_utc(), bytes.get(2 + length..)?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::kubeconfig::{Entry, render};

    fn certificate(year: i32) -> String {
        let mut parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 3, 4);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn an_entry_tells_its_server_its_authority_and_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        for year in [2031, 2061] {
            let entry = Entry {
                name: "coracle-dev".to_owned(),
                server: "https://127.0.0.1:1".to_owned(),
                ca_pem: "authority".to_owned(),
                client_cert_pem: certificate(year),
                client_key_pem: "key".to_owned(),
            };
            std::fs::write(&file, render(&entry).unwrap()).unwrap();
            let location = Location::new(Some(&file), None, None).unwrap();
            let all = known(&location, "coracle-");
            assert_eq!(all.len(), 1);
            assert_eq!((all[0].name.as_str(), all[0].server.as_str()), ("coracle-dev", "https://127.0.0.1:1"));
            assert!(all[0].may_trust("authority") && !all[0].may_trust("another"));
            assert_eq!(all[0].ends(), Some(rcgen::date_time_ymd(year, 3, 4)));
            assert!(known(&location, "kind-").is_empty());
        }
        std::fs::write(&file, "clusters: {").unwrap();
        assert!(known(&Location::new(Some(&file), None, None).unwrap(), "").is_empty());
    }

    #[test]
    fn only_keys_that_every_user_can_read_are_open() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        let location = Location::new(Some(&file), None, None).unwrap();
        let is_open = |mode, text: &str| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            !open(&location).is_empty()
        };
        assert!(!is_open(0o640, "users: [{user: {token: a}}]"));
        assert!(is_open(0o644, "users: [{user: {token: a}}]"));
        assert!(!is_open(0o644, "users: []"));
    }
}
