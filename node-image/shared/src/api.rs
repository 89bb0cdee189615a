//! A client of one Kubernetes API server: JSON over HTTP, with TLS where the server has it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, ResolveServerName};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tower_service::Service;

/// Why there is no client, or no answer; hyper names the phase in it, such as `(Connect)`.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// An answer whose body is still on its way.
pub type Answer = Response<Incoming>;

/// Where an API server is, and how it and its client prove who they are.
#[derive(Clone, Copy)]
pub struct Server<'a> {
    /// Its address, without a path.
    pub url: &'a str,
    /// The certificates of the authorities that vouch for it, as PEM; no others do.
    pub authority: &'a [u8],
    /// The client's certificate and key, as PEM.
    pub identity: Option<(&'a [u8], &'a [u8])>,
    /// The name in the server's certificate, where it is not the address.
    pub name: Option<&'static str>,
    /// How long a connection may take until the server has proved who it is.
    pub connect_timeout: Duration,
}

/// What the API says instead of the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The HTTP status.
    pub code: u16,
    /// One word, such as `NotFound`.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum Failure {
    /// The server refused it, or failed.
    Status(Status),
    /// It did not reach the server, or the answer did not come back.
    Transport(Error),
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Transport(error.into())
    }
}

/// A client of one API server. Its clones share their connections.
#[derive(Clone)]
pub struct Client {
    connections: legacy::Client<Limited, Full<Bytes>>,
    scheme: Scheme,
    authority: Authority,
}

impl Client {
    /// Nothing is connected yet.
    pub fn new(server: &Server<'_>) -> Result<Self, Error> {
        let url: Uri = server.url.parse()?;
        let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
            return Err(format!("`{}` is not a URL", server.url).into());
        };
        let names: Arc<dyn ResolveServerName + Send + Sync> = match server.name {
            Some(name) => Arc::new(FixedServerNameResolver::new(ServerName::try_from(name)?)),
            None => Arc::new(DefaultServerNameResolver::default()),
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnector::new(tcp, tls(server)?, false, names);
        let connector = Limited { connector, limit: server.connect_timeout };
        let connections = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { connections, scheme: scheme.clone(), authority: authority.clone() })
    }

    /// Sends a request for a path of the server, and returns its answer unless that is a failure.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<Answer, Failure> {
        let answer = self.try_send(request).await.map_err(Failure::Transport)?;
        let code = answer.status();
        if !code.is_client_error() && !code.is_server_error() {
            return Ok(answer);
        }
        let body = answer.into_body().collect().await?.to_bytes();
        Err(Failure::Status(status(code.as_u16(), &body)))
    }

    /// Sends a request for a path of the server, and returns the whole body of its answer.
    pub async fn read(&self, request: Request<Vec<u8>>) -> Result<Bytes, Failure> {
        Ok(self.send(request).await?.into_body().collect().await?.to_bytes())
    }

    async fn try_send(&self, request: Request<Vec<u8>>) -> Result<Answer, Error> {
        let (mut head, body) = request.into_parts();
        let mut uri = head.uri.into_parts();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(self.authority.clone());
        head.uri = Uri::from_parts(uri)?;
        Ok(self.connections.request(Request::from_parts(head, Full::new(body.into()))).await?)
    }
}

/// The lines of an answer, as they arrive.
pub struct Lines {
    body: Incoming,
    /// What has arrived of the lines that were not taken yet.
    arrived: Vec<u8>,
}

impl Lines {
    /// Those of an answer that was just received.
    pub fn of(answer: Answer) -> Self {
        Self { body: answer.into_body(), arrived: Vec::new() }
    }

    /// The next one with its end; none when the server has ended the answer, which may cut off the last one.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut seen = 0;
        loop {
            if let Some(end) = self.arrived[seen..].iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.arrived.drain(..=seen + end).collect()));
            }
            seen = self.arrived.len();
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Ok(data) = frame?.into_data() {
                self.arrived.extend_from_slice(&data);
            }
        }
    }
}

/// What the body of a failure says. What is not the API itself answers with plain text, or with other JSON.
fn status(code: u16, body: &[u8]) -> Status {
    let mut status: Status = serde_json::from_slice(body).unwrap_or_default();
    if status.code == 0 {
        status.code = code;
    }
    if status.message.is_empty() {
        String::from_utf8_lossy(body).trim().clone_into(&mut status.message);
    }
    status
}

fn tls(server: &Server<'_>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(server.authority) {
        roots.add(certificate?)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_root_certificates(roots);
    let Some((certificates, key)) = server.identity else { return Ok(builder.with_no_client_auth()) };
    let certificates = CertificateDer::pem_slice_iter(certificates).collect::<Result<_, _>>()?;
    Ok(builder.with_client_auth_cert(certificates, PrivateKeyDer::from_pem_slice(key)?)?)
}

/// Gives up connections that take too long: to a server that takes them and then says nothing.
#[derive(Clone)]
struct Limited {
    connector: HttpsConnector<HttpConnector>,
    limit: Duration,
}

impl Service<Uri> for Limited {
    type Response = <HttpsConnector<HttpConnector> as Service<Uri>>::Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let (connected, limit) = (self.connector.call(server), self.limit);
        Box::pin(async move {
            let late =
                || io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {} s", limit.as_secs()));
            tokio::time::timeout(limit, connected).await.map_err(|_| late())?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_the_server_said() {
        let of_the_api = status(409, br#"{"kind":"Status","code":409,"reason":"Conflict","message":"it was changed"}"#);
        assert_eq!((of_the_api.code, of_the_api.reason.as_str()), (409, "Conflict"));
        assert_eq!(of_the_api.message, "it was changed");
        let text = status(503, b"upstream is away\n");
        assert_eq!((text.code, text.reason.as_str(), text.message.as_str()), (503, "", "upstream is away"));
        assert_eq!(
            status(404, br#"{"error":"x"}"#),
            Status { code: 404, message: r#"{"error":"x"}"#.to_owned(), ..Status::default() }
        );
    }

    #[test]
    fn a_server_needs_an_address() {
        let server =
            |url| Server { url, authority: b"", identity: None, name: None, connect_timeout: Duration::from_secs(1) };
        assert!(Client::new(&server("https://127.0.0.1:6443")).is_ok());
        for url in ["", "/path", "127.0.0.1"] {
            assert!(Client::new(&server(url)).is_err(), "{url}");
        }
    }
}
