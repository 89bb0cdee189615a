//! Opening a connection to an engine, in plain text or with TLS, and looking at what answers there.

use std::sync::Arc;
use std::time::Duration;

use bollard::models::SystemVersion;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::engine::address::{Address, authority};
use crate::engine::docker::{REQUEST_TIMEOUT, failure};
use crate::engine::tls::Tls;
use crate::error::{Code, Error, Result};

/// How long an engine may take to say its version.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The oldest API: that of Docker 20.10, which has the cgroup namespaces that nodes need.
const OLDEST_API: (u32, u32) = (1, 41);

/// Connects, and checks that an engine answers there with which coracle works.
pub(super) async fn connect(address: &Address) -> Result<bollard::Docker> {
    let unreachable = |source: &bollard::errors::Error| failure::unreachable(address, source);
    let client = open(address)?.map_err(|source| unreachable(&source))?;
    let version = match tokio::time::timeout(ANSWER_TIMEOUT, client.version()).await {
        Ok(version) => version.map_err(|source| unreachable(&source))?,
        Err(_) => return Err(unreachable(&bollard::errors::Error::RequestTimeoutError)),
    };
    supported(&version)?;
    Ok(client)
}

fn open(address: &Address) -> Result<Result<bollard::Docker, bollard::errors::Error>> {
    let version = bollard::API_DEFAULT_VERSION;
    Ok(match address {
        Address::Unix(path) => bollard::Docker::connect_with_unix(&path.to_string_lossy(), REQUEST_TIMEOUT, version),
        Address::Tcp { tls: None, .. } => {
            bollard::Docker::connect_with_http(&address.to_string(), REQUEST_TIMEOUT, version)
        }
        Address::Tcp { host, port, tls: Some(tls) } => {
            let mut tcp = HttpConnector::new();
            tcp.enforce_http(false);
            let connector = hyper_rustls::HttpsConnector::from((tcp, configuration(tls)?));
            // As bollard's own connections: none is kept, since one that was taken over for a stream is of no more use.
            let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
            let transport = move |request: bollard::BollardRequest| {
                let answer = client.request(request);
                async move { answer.await.map_err(bollard::errors::Error::from) }
            };
            let url = format!("https://{}", authority(host, *port));
            bollard::Docker::connect_with_custom_transport(transport, Some(url), REQUEST_TIMEOUT, version)
        }
    })
}

/// Refuses what is no Docker engine, or one from before the oldest that has what nodes need.
fn supported(version: &SystemVersion) -> Result<()> {
    let components = version.components.iter().flatten();
    if components.into_iter().any(|component| component.name.starts_with("Podman")) {
        return Err(Error::new(Code::EngineUnsupported, "this engine cannot run nodes")
            .because(format!(
                "it is Podman {}, which coracle does not support yet",
                version.version.as_deref().unwrap_or_default()
            ))
            .hint("use a Docker engine: `DOCKER_HOST` or a Docker context selects one, and `docker context ls` lists them"));
    }
    // An engine that does not say is taken for a new one.
    let api = version.api_version.as_deref().unwrap_or_default();
    let number = api.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    if number.is_some_and(|number: (u32, u32)| number < OLDEST_API) {
        return Err(Error::new(Code::EngineUnsupported, "this engine is too old")
            .because(format!(
                "it is Docker {} with API {api}, and coracle needs Docker 20.10 (API {}.{}) or newer",
                version.version.as_deref().unwrap_or_default(),
                OLDEST_API.0,
                OLDEST_API.1
            ))
            .hint("update the engine: https://docs.docker.com/engine/install"));
    }
    Ok(())
}

/// The TLS that the certificates are for. The engine's is vouched for by their authority only, as with the docker command.
pub(super) fn configuration(tls: &Tls) -> Result<ClientConfig> {
    let failed = |what: &str, source: &dyn std::error::Error| {
        Error::new(
            Code::FileFailed,
            format!("cannot use {what} in `{}` for TLS to the Docker engine", tls.directory.display()),
        )
        .with_cause(source)
        .hint("`openssl x509 -noout -text -in FILE` shows what is in a certificate; `docker info` must succeed with the same files")
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|source| failed("the protocol", &source))?;
    let builder = if !tls.verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    } else if let Some(pem) = &tls.authority {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|source| failed("`ca.pem`", &source))?;
            roots.add(certificate).map_err(|source| failed("`ca.pem`", &source))?;
        }
        builder.with_root_certificates(roots)
    } else {
        use hyper_rustls::ConfigBuilderExt;
        builder
            .with_native_roots()
            .map_err(|source| failed("the authorities of this host, since there is no `ca.pem`", &source))?
    };
    let Some((certificates, key)) = &tls.client else { return Ok(builder.with_no_client_auth()) };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(certificates)
        .collect::<std::result::Result<_, _>>()
        .map_err(|source| failed("`cert.pem`", &source))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| failed("`key.pem`", &source))?;
    builder.with_client_auth_cert(certificates, key).map_err(|source| failed("`cert.pem` with `key.pem`", &source))
}

/// Takes any engine for the right one: `DOCKER_TLS` without `DOCKER_TLS_VERIFY`, or a context that skips the check.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> SystemVersion {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn podman_and_engines_from_before_20_10_are_refused() {
        // What Podman 5.8 says at /version; its /info has no word of it.
        let podman = version(
            r#"{"Platform": {"Name": "linux/amd64/debian-14"}, "Components": [{"Name": "Podman Engine", "Version": "5.8.6"},
                {"Name": "Conmon", "Version": "2.1"}], "Version": "5.8.6", "ApiVersion": "1.41"}"#,
        );
        let error = supported(&podman).unwrap_err();
        assert_eq!(error.code(), Code::EngineUnsupported);
        assert!(error.cause().unwrap().contains("Podman 5.8.6"));
        let docker = |number: &str| {
            version(&format!(
                r#"{{"Components": [{{"Name": "Engine", "Version": "19.03.5"}}], "Version": "19.03.5", "ApiVersion": "{number}"}}"#
            ))
        };
        assert!(supported(&docker("1.41")).is_ok() && supported(&docker("1.52")).is_ok());
        assert!(supported(&docker("2.0")).is_ok() && supported(&version("{}")).is_ok());
        let error = supported(&docker("1.40")).unwrap_err();
        assert!(error.cause().unwrap().starts_with("it is Docker 19.03.5 with API 1.40"), "{error}");
        assert_eq!(error.code(), Code::EngineUnsupported);
    }
}
