//! The Kubernetes API of a cluster.

use std::time::Duration;

use http::{Method, Request};
use serde_json::Value;

use crate::error::{Code, Error, Result};
use crate::plan::Access;

pub mod apply;
pub mod manifest;
pub mod ready;
mod resources;
pub mod workload;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(15);

/// The kind and name of an object, for people.
pub fn title(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} `{namespace}/{name}`"),
        None => format!("{kind} `{name}`"),
    }
}

/// A client of one cluster's API.
#[derive(Clone)]
pub struct Client(kube::Client);

/// Why a request was not answered as hoped.
#[derive(Debug)]
pub enum Failure {
    /// The API answered with a status: code, reason and message.
    Status(u16, String, String),
    /// There was no answer.
    Transport(String),
}

impl Failure {
    /// The text for people.
    pub fn text(&self) -> &str {
        match self {
            Self::Status(_, _, message) | Self::Transport(message) => message,
        }
    }

    /// Worth another try while the API server starts: no connection, not ready, or a name space that is not there yet.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport(_) => true,
            Self::Status(code, _, message) => match code {
                404 => message.contains("namespaces"),
                403 => message.contains("not yet ready") || message.contains("unable to create new content"),
                _ => *code == 429 || *code >= 500 || *code == 401,
            },
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::new(Code::ApiFailed, "the Kubernetes API did not accept a request").because(failure.text())
    }
}

impl Client {
    /// A client with the rights of `system:masters`, which work before RBAC is there.
    pub async fn new(access: &Access) -> Result<Self> {
        let pair = &access.super_admin;
        let text = crate::plan::node::kubelet::kubeconfig(
            &access.server,
            &access.authority,
            "kubernetes-super-admin",
            &pair.certificate,
            &pair.key,
        )?;
        Self::from_kubeconfig(&text).await
    }

    /// A client from the text of a kubeconfig.
    pub async fn from_kubeconfig(text: &str) -> Result<Self> {
        let failed = |source: &dyn std::error::Error| {
            Error::new(Code::ApiFailed, "cannot make a client of the Kubernetes API").cause(source)
        };
        let kubeconfig = kube::config::Kubeconfig::from_yaml(text).map_err(|source| failed(&source))?;
        let options = kube::config::KubeConfigOptions::default();
        let mut config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|source| failed(&source))?;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = Some(REQUEST);
        // The cluster is on this host: a proxy of the environment is never on the way.
        config.proxy_url = None;
        Ok(Self(kube::Client::try_from(config).map_err(|source| failed(&source))?))
    }

    /// Sends a request with a JSON body and returns the JSON answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let bytes = body.map(|value| serde_json::to_vec(value).unwrap_or_default()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Content-Type", content_type)
            .body(bytes)
            .map_err(|source| Failure::Transport(source.to_string()))?;
        let answer = tokio::time::timeout(REQUEST, self.0.request_text(request)).await;
        match answer {
            Err(_) => Err(Failure::Transport(format!("no answer within {} s", REQUEST.as_secs()))),
            // Health endpoints answer with plain text.
            Ok(Ok(text)) => Ok(serde_json::from_str(&text).unwrap_or(Value::String(text))),
            Ok(Err(kube::Error::Api(status))) => {
                Err(Failure::Status(status.code, status.reason.clone(), status.message.clone()))
            }
            Ok(Err(source)) => Err(Failure::Transport(
                Error::new(Code::ApiFailed, "").cause(&source).cause_text().unwrap_or_default().to_owned(),
            )),
        }
    }

    /// Reads an object or a list.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::GET, path, "application/json", None).await
    }
}
