use std::collections::BTreeMap;

use super::*;
use crate::plan::files::File;

fn pki() -> Pki {
    Pki::generate(OffsetDateTime::UNIX_EPOCH).unwrap()
}

/// What a control plane has on its disk.
fn disk(pki: &Pki) -> BTreeMap<String, String> {
    let mut files = FileTree::default();
    pki.write(&mut files);
    let content = |file: &File| match file {
        File::Text { content, .. } | File::Certificate { content, .. } | File::Secret { content, .. } => {
            content.clone()
        }
        File::Link { .. } => panic!("a link"),
    };
    files.iter().map(|(path, file)| (path.to_owned(), content(file))).collect()
}

fn read_back(disk: &BTreeMap<String, String>) -> Result<Pki> {
    Pki::from_files(&|path| disk.get(path).cloned(), OffsetDateTime::UNIX_EPOCH + Duration::days(30))
}

fn content(pair: &Pair) -> Vec<u8> {
    certificate_content(&pair.certificate).unwrap()
}

/// The identifier of the issuer's key in a certificate (`authorityKeyIdentifier`, RFC 5280 4.2.1.1).
fn authority_key_identifier(certificate: &[u8]) -> &[u8] {
    let start = [0x06, 0x03, 0x55, 0x1d, 0x23, 0x04, 0x18, 0x30, 0x16, 0x80, 0x14];
    let found = certificate.windows(start.len()).position(|window| window == start).unwrap() + start.len();
    &certificate[found..found + 20]
}

/// The key identifier of an authority's own certificate (`subjectKeyIdentifier`).
fn key_identifier(certificate: &[u8]) -> &[u8] {
    let start = [0x06, 0x03, 0x55, 0x1d, 0x0e, 0x04, 0x16, 0x04, 0x14];
    let found = certificate.windows(start.len()).position(|window| window == start).unwrap() + start.len();
    &certificate[found..found + 20]
}

#[test]
fn authorities_that_were_read_back_issue_certificates_of_the_same_authorities() {
    let first = pki();
    let second = read_back(&disk(&first)).unwrap();
    let authority = |pki: &Pki| [&pki.kubernetes, &pki.etcd, &pki.front_proxy].map(|authority| authority.pair.clone());
    for (first, second) in authority(&first).into_iter().zip(authority(&second)) {
        assert_eq!((first.certificate, first.key, first.subject), (second.certificate, second.key, second.subject));
    }
    assert_eq!(first.service_account_key, second.service_account_key);
    assert_eq!(first.service_account_public, second.service_account_public);
    for (old, new) in [(&first.etcd, &second.etcd), (&first.kubernetes, &second.kubernetes)] {
        let names = ["dev-worker"];
        let before = first.issue(old, "worker", None, Usage::Server, &names, &[]).unwrap();
        let issued = second.issue(new, "worker", None, Usage::Server, &names, &[]).unwrap();
        let of_authority = content(&old.pair);
        assert_eq!(authority_key_identifier(&content(&issued)), key_identifier(&of_authority));
        assert_eq!(before.origin, issued.origin);
        assert!(has(&content(&issued), old.pair.subject.trim_start_matches("CN=").as_bytes()));
    }
    assert_ne!(key_identifier(&content(&first.etcd.pair)), key_identifier(&content(&first.kubernetes.pair)));
}

#[test]
fn what_is_written_again_is_the_same() {
    let first = disk(&pki());
    assert_eq!(disk(&read_back(&first).unwrap()), first);
}

#[test]
fn a_missing_file_is_named() {
    let complete = disk(&pki());
    assert_eq!(complete.len(), 8);
    for path in complete.keys() {
        let mut disk = complete.clone();
        disk.remove(path);
        let error = read_back(&disk).err().unwrap();
        assert_eq!(error.message(), format!("cannot use the control plane's `{path}`"));
        assert_eq!(error.cause(), Some("it does not exist"));
    }
}

#[test]
fn a_broken_file_is_named_and_not_quoted() {
    let complete = disk(&pki());
    for path in complete.keys() {
        for broken in ["", "hunter2", "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"] {
            let mut disk = complete.clone();
            disk.insert(path.clone(), broken.to_owned());
            let error = read_back(&disk).err().unwrap();
            assert_eq!(error.message(), format!("cannot use the control plane's `{path}`"));
            assert!(!error.cause().unwrap().contains("hunter2"), "{error:?}");
        }
    }
}

#[test]
fn files_that_do_not_belong_together_are_no_authority() {
    let (mut mixed, other) = (disk(&pki()), disk(&pki()));
    let path = "/etc/kubernetes/pki/ca.crt";
    mixed.insert(path.to_owned(), other[path].clone());
    let error = read_back(&mixed).err().unwrap();
    assert_eq!(error.cause(), Some("it does not belong to the key in `/etc/kubernetes/pki/ca.key`"));
    let mut swapped = other.clone();
    for ending in ["crt", "key"] {
        let etcd = other[&format!("/etc/kubernetes/pki/etcd/ca.{ending}")].clone();
        swapped.insert(format!("/etc/kubernetes/pki/ca.{ending}"), etcd);
    }
    assert_eq!(read_back(&swapped).err().unwrap().cause(), Some("it is not the certificate of `kubernetes`"));
}

#[test]
fn an_origin_knows_what_a_certificate_is_for() {
    let pki = pki();
    let issue = |name: &str, usage| pki.issue(&pki.kubernetes, "api", None, usage, &[name], &[]).unwrap().origin;
    assert_eq!(issue("a", Usage::Server), issue("a", Usage::Server));
    assert_ne!(issue("a", Usage::Server), issue("b", Usage::Server));
    assert_ne!(issue("a", Usage::Server), issue("a", Usage::Client));
}
