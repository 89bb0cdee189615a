//! Certificates and keys of a cluster: ECDSA P-256, valid for ten years, backdated by an hour for clocks that differ.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::error::{Code, Error, Result};

/// How long certificates are valid.
const LIFETIME: Duration = Duration::days(3650);
/// How far the beginning of their validity lies back.
const BACKDATED: Duration = Duration::hours(1);

/// A certificate and its key as PEM, with a description for people.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Certificate.
    pub certificate: String,
    /// PKCS#8 key.
    pub key: String,
    /// Subject, such as `CN=kube-apiserver`.
    pub subject: String,
}

/// A certificate authority.
pub struct Authority {
    /// Its certificate and key.
    pub pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

/// The authorities and the service account key of a cluster.
pub struct Pki {
    /// Signs everything of Kubernetes.
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
    /// Proves a client.
    Client,
    /// Proves a server.
    Server,
    /// Both, as etcd's members need.
    Both,
}

fn failed(source: &rcgen::Error) -> Error {
    Error::new(Code::StepFailed, "cannot make a certificate").cause(source)
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

impl Authority {
    fn new(name: &str, now: OffsetDateTime) -> Result<Self> {
        let mut params = params(name, None, now);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().map_err(|source| failed(&source))?)];
        let key = new_key()?;
        let certificate = params.self_signed(&key).map_err(|source| failed(&source))?;
        let pair = Pair { certificate: certificate.pem(), key: key.serialize_pem(), subject: format!("CN={name}") };
        Ok(Self { pair, issuer: Issuer::new(params, key) })
    }
}

impl Pki {
    /// Makes new authorities and a new service account key; `now` is the time that validity counts from.
    pub fn generate(now: OffsetDateTime) -> Result<Self> {
        let service_account = new_key()?;
        Ok(Self {
            kubernetes: Authority::new("kubernetes", now)?,
            etcd: Authority::new("etcd-ca", now)?,
            front_proxy: Authority::new("front-proxy-ca", now)?,
            service_account_key: service_account.serialize_pem(),
            service_account_public: service_account.public_key_pem(),
            now,
        })
    }

    /// Issues a certificate with its own key.
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
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            subject: format!("{organization}CN={name}"),
        })
    }
}
