//! The certificates and keys of a cluster: ECDSA P-256, valid for ten years, backdated by an hour for clocks that differ.

use std::net::IpAddr;

use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

use crate::error::{Code, Error, Result};
use crate::plan::files::FileTree;

/// The directory of a node with certificates and keys.
pub const DIRECTORY: &str = "/etc/kubernetes/pki";

/// The authorities' names and files, without the endings: Kubernetes, etcd, front proxy.
const AUTHORITIES: [(&str, &str); 3] =
    [("kubernetes", "ca"), ("etcd-ca", "etcd/ca"), ("front-proxy-ca", "front-proxy-ca")];
const SERVICE_ACCOUNT_KEY: &str = "/etc/kubernetes/pki/sa.key";
const SERVICE_ACCOUNT_PUBLIC: &str = "/etc/kubernetes/pki/sa.pub";
/// How long certificates are valid.
const LIFETIME: Duration = Duration::days(3650);
/// How long before their creation certificates become valid.
const BACKDATED: Duration = Duration::hours(1);

/// A certificate and its key, as PEM, with a description for people.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Certificate.
    pub certificate: String,
    /// PKCS#8 key.
    pub key: String,
    /// Subject, such as `CN=kube-apiserver`.
    pub subject: String,
    /// What it was issued from, apart from its own key and the time; two pairs of the same origin can replace each other.
    pub origin: String,
}

impl Pair {
    /// Adds the files `PATH.crt` and `PATH.key`.
    pub fn write(&self, files: &mut FileTree, path: &str) {
        files.certificate(format!("{path}.crt"), &self.certificate, &self.subject, &self.origin);
        files.secret(format!("{path}.key"), &self.key, format!("key of {}", self.subject), &self.origin);
    }
}

/// A certificate authority.
pub struct Authority {
    /// Its certificate and key.
    pub pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

/// The authorities and the service account key of a cluster.
pub struct Pki {
    /// Signs the certificates of Kubernetes.
    pub kubernetes: Authority,
    /// Signs etcd's certificates.
    pub etcd: Authority,
    /// Signs the aggregation layer's client certificate.
    pub front_proxy: Authority,
    /// Private key that signs service account tokens, PEM.
    pub service_account_key: String,
    /// Its public key, PEM.
    pub service_account_public: String,
    now: OffsetDateTime,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// It identifies a client.
    Client,
    /// It identifies a server.
    Server,
    /// Both, for members of etcd.
    Both,
}

fn failed(source: &rcgen::Error) -> Error {
    Error::new(Code::StepFailed, "cannot create a certificate").with_cause(source)
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| failed(&source))
}

fn params(name: &str, organization: Option<&str>, now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name = subject;
    params.not_before = now - BACKDATED;
    params.not_after = now + LIFETIME;
    params
}

fn authority_params(mut params: CertificateParams) -> CertificateParams {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    params
}

fn authority_pair(name: &str, certificate: String, key: String) -> Pair {
    Pair { origin: certificate.clone(), certificate, key, subject: format!("CN={name}") }
}

/// Returns the content of a control plane's file, or `None` if the file does not exist.
pub type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

fn unusable(path: &str, cause: &str) -> Error {
    Error::new(Code::StepFailed, format!("cannot use the control plane's `{path}`")).because(cause)
}

fn read_file(path: &str, read: Read<'_>) -> Result<String> {
    read(path).ok_or_else(|| unusable(path, "it does not exist"))
}

fn read_key(path: &str, read: Read<'_>) -> Result<(String, KeyPair)> {
    let text = read_file(path, read)?;
    // The library's error is left out: it could quote the key.
    let key = KeyPair::from_pem(&text).map_err(|_| unusable(path, "it does not contain a private key"))?;
    Ok((text, key))
}

/// The bytes of the certificate in a PEM text.
fn certificate_content(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let body: String = body.split_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(body).ok()
}

/// Whether the bytes contain the part; this is enough to find a key or a name without a parser of certificates.
fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

impl Authority {
    fn new(name: &str, now: OffsetDateTime) -> Result<Self> {
        let mut params = params(name, None, now);
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().map_err(|source| failed(&source))?)];
        let params = authority_params(params);
        let key = new_key()?;
        let certificate = params.self_signed(&key).map_err(|source| failed(&source))?.pem();
        Ok(Self { pair: authority_pair(name, certificate, key.serialize_pem()), issuer: Issuer::new(params, key) })
    }

    /// Reads the authority of this name from the files `FILE.crt` and `FILE.key`.
    fn from_files(name: &str, file: &str, read: Read<'_>, now: OffsetDateTime) -> Result<Self> {
        let (key_path, path) = (format!("{DIRECTORY}/{file}.key"), format!("{DIRECTORY}/{file}.crt"));
        let (key_text, key) = read_key(&key_path, read)?;
        let certificate = read_file(&path, read)?;
        let content =
            certificate_content(&certificate).ok_or_else(|| unusable(&path, "it does not contain a certificate"))?;
        if !has(&content, key.public_key_raw()) {
            return Err(unusable(&path, &format!("it does not belong to the key in `{key_path}`")));
        }
        // Certificates name their issuer, and are trusted only if the authority's certificate has this name.
        if !has(&content, name.as_bytes()) {
            return Err(unusable(&path, &format!("it is not the certificate of `{name}`")));
        }
        // An issuer takes nothing but its name, its usages and the kind of its key identifier from the parameters.
        let issuer = Issuer::new(authority_params(params(name, None, now)), key);
        Ok(Self { pair: authority_pair(name, certificate, key_text), issuer })
    }
}

impl Pki {
    /// Creates authorities and a service account key; the validity of certificates starts at `now`.
    pub fn generate(now: OffsetDateTime) -> Result<Self> {
        let service_account = new_key()?;
        let [kubernetes, etcd, front_proxy] = AUTHORITIES;
        Ok(Self {
            kubernetes: Authority::new(kubernetes.0, now)?,
            etcd: Authority::new(etcd.0, now)?,
            front_proxy: Authority::new(front_proxy.0, now)?,
            service_account_key: service_account.serialize_pem(),
            service_account_public: service_account.public_key_pem(),
            now,
        })
    }

    /// Reads the authorities and the service account key back from the files of a control plane; the error names the first
    /// file that is missing or broken. The validity of certificates that are then issued starts at `now`.
    pub fn from_files(read: Read<'_>, now: OffsetDateTime) -> Result<Self> {
        let [kubernetes, etcd, front_proxy] = AUTHORITIES;
        let authority = |(name, file): (&str, &str)| Authority::from_files(name, file, read, now);
        let (kubernetes, etcd, front_proxy) = (authority(kubernetes)?, authority(etcd)?, authority(front_proxy)?);
        let (service_account_key, key) = read_key(SERVICE_ACCOUNT_KEY, read)?;
        let service_account_public = read_file(SERVICE_ACCOUNT_PUBLIC, read)?;
        // It may contain other keys too, with which older tokens stay valid.
        if !service_account_public.contains(key.public_key_pem().trim()) {
            let cause = format!("it does not contain the public key of `{SERVICE_ACCOUNT_KEY}`");
            return Err(unusable(SERVICE_ACCOUNT_PUBLIC, &cause));
        }
        Ok(Self { kubernetes, etcd, front_proxy, service_account_key, service_account_public, now })
    }

    /// The files that [`Self::from_files`] reads.
    pub fn paths() -> Vec<String> {
        let authorities = AUTHORITIES.into_iter().flat_map(|(_, file)| ["crt", "key"].map(|end| (file, end)));
        let authorities = authorities.map(|(file, end)| format!("{DIRECTORY}/{file}.{end}"));
        authorities.chain([SERVICE_ACCOUNT_KEY, SERVICE_ACCOUNT_PUBLIC].map(str::to_owned)).collect()
    }

    /// Adds the files that [`Self::from_files`] reads to those of a control plane.
    pub fn write(&self, files: &mut FileTree) {
        for (authority, (_, file)) in [&self.kubernetes, &self.etcd, &self.front_proxy].into_iter().zip(AUTHORITIES) {
            authority.pair.write(files, &format!("{DIRECTORY}/{file}"));
        }
        let public = &self.service_account_public;
        files.secret(SERVICE_ACCOUNT_KEY, &self.service_account_key, "service account key", public);
        files.text(SERVICE_ACCOUNT_PUBLIC, public);
    }

    /// The key with which the agents of all nodes sign their heartbeats. It is made from the authority's key, which stays where
    /// it is, so that a node that is added later has the same one.
    pub fn heartbeat_key(&self) -> String {
        let digest =
            Sha256::new().chain_update("coracle heartbeats\0").chain_update(&self.kubernetes.pair.key).finalize();
        format!("{digest:x}\n")
    }

    /// Issues a certificate with a new key.
    pub fn issue(
        &self,
        authority: &Authority,
        name: &str,
        organization: Option<&str>,
        usage: Usage,
        names: &[&str],
        addresses: &[IpAddr],
    ) -> Result<Pair> {
        let mut params = params(name, organization, self.now);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = match usage {
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        for name in names {
            let name = (*name).try_into().map_err(|source| failed(&source))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        params.use_authority_key_identifier_extension = true;
        let key = new_key()?;
        let certificate = params.signed_by(&key, &authority.issuer).map_err(|source| failed(&source))?;
        let organization = organization.map(|name| format!("O={name}, ")).unwrap_or_default();
        let subject = format!("{organization}CN={name}");
        let origin = format!("{subject} {usage:?} {names:?} {addresses:?} by {}", authority.pair.certificate);
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem(), subject, origin })
    }
}

#[cfg(test)]
#[path = "pki_tests.rs"]
mod tests;
