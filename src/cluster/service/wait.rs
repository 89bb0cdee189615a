//! Waiting until a Service answers where this host reaches it.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::access;
use crate::cluster::found::Cluster;
use crate::cluster::service::answer::answers;
use crate::cluster::service::endpoints::{Endpoints, why_none};
use crate::cluster::service::urls::{Outlook, ServiceUrl, Sight, Unreachable, Urls, look};
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::kubernetes::{Client, object};

/// Pause between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long kube-proxy takes at most, on a machine that is not busy, until a new Service answers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Waits a moment until a connection to each of these URLs is accepted: a node that has just heard of a Service refuses it.
pub async fn accepting(urls: &[&str]) {
    let accepted = join_all(urls.iter().filter_map(|url| connectable(url)).map(async |address| {
        while TcpStream::connect(address).await.is_err() {
            sleep(CONNECT_TIMEOUT / 40).await;
        }
    }));
    let _ = timeout(CONNECT_TIMEOUT, accepted).await;
}

/// The URLs of a Service, once one of each port answers, which then is the first one.
pub async fn answering(
    engine: &dyn Engine,
    cluster: &Cluster,
    name: (&str, &str),
    sight: &Sight,
    deadline: Instant,
    progress: impl Fn(&str),
) -> Result<Urls> {
    loop {
        let found = match access::client(engine, cluster).await {
            Ok(client) => answering_now(&client, cluster, name, sight).await,
            // Nothing starts it while this waits: what is known of its containers is from before.
            Err(error) if error.code() == Code::ClusterStopped => return Err(error),
            Err(error) => Err(Unreachable { error, outlook: Outlook::Soon }),
        };
        let error = match found {
            Ok(urls) => return Ok(urls),
            Err(failure) if failure.outlook == Outlook::Never || Instant::now() >= deadline => {
                return Err(failure.error);
            }
            Err(failure) => failure.error,
        };
        progress(&error.to_string());
        sleep(POLL_INTERVAL).await;
    }
}

/// Waits until a Service has pods that take connections, and answers if this host reaches it. The reason if it does not.
pub async fn settled(
    client: &Client,
    cluster: &Cluster,
    name: (&str, &str),
    sight: &Sight,
    deadline: Instant,
) -> Result<()> {
    loop {
        let error = match answering_now(client, cluster, name, sight).await {
            Ok(_) => return Ok(()),
            Err(failure) if failure.outlook != Outlook::Never => failure.error,
            // It is only for the inside of the cluster.
            Err(_) => match inside(client, cluster, name).await {
                None => return Ok(()),
                Some(error) => error,
            },
        };
        if Instant::now() >= deadline {
            return Err(error);
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Why a Service has no pods that take connections; `None` if it has.
async fn inside(client: &Client, cluster: &Cluster, (namespace, name): (&str, &str)) -> Option<Error> {
    let service = client.get(&format!("/api/v1/namespaces/{namespace}/services/{name}")).await.ok()?;
    if service["spec"]["type"] == "ExternalName" {
        return None;
    }
    let found = Endpoints::of(client, cluster, &service).await.is_ok_and(|endpoints| !endpoints.is_empty());
    if found {
        return None;
    }
    let (cause, lines) = why_none(client, cluster, &service).await;
    let title = object::key(&service);
    Some(Error::new(Code::NotReady, format!("nothing answers for Service `{title}`")).because(cause).with_lines(lines))
}

async fn answering_now(
    client: &Client,
    cluster: &Cluster,
    name: (&str, &str),
    sight: &Sight,
) -> Result<Urls, Unreachable> {
    let mut urls = look(client, cluster, name, sight).await?;
    let ports: Vec<String> = urls.all.iter().map(|url| url.port.clone()).collect();
    let mut ordered = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        if ports[..index].contains(port) {
            continue;
        }
        let mut of_port: Vec<ServiceUrl> = urls.all.iter().filter(|url| url.port == *port).cloned().collect();
        let best = first_answer(&of_port).await.map_err(|cause| {
            let error = Error::new(Code::NotReady, format!("Service `{}` has pods, but does not answer", name.1));
            let hint = format!("`kubectl describe service {} --namespace {}` shows its ports and pods", name.1, name.0);
            Unreachable { error: error.because(cause).hint(hint), outlook: Outlook::Soon }
        })?;
        of_port.swap(0, best);
        ordered.extend(of_port);
    }
    urls.all = ordered;
    Ok(urls)
}

/// `HOST:PORT` of a URL that takes connections: whether a datagram arrives cannot be known without speaking its language.
fn connectable(url: &str) -> Option<&str> {
    url.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(scheme)).map(|(_, address)| address)
}

/// The index of the first URL at which something answers, else what the best one said.
async fn first_answer(urls: &[ServiceUrl]) -> Result<usize, String> {
    let mut first = None;
    for (index, ServiceUrl { url, .. }) in urls.iter().enumerate() {
        match connectable(url) {
            Some(address) => match answers(address).await {
                Ok(()) => return Ok(index),
                Err(cause) => drop(first.get_or_insert(format!("{url}: {cause}"))),
            },
            None => return Ok(index),
        }
    }
    first.map_or(Ok(0), Err)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_first_url_that_answers_is_taken() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = |text: String| ServiceUrl { port: String::new(), url: text };
        let (refused, open) = (url("http://127.0.0.1:1".to_owned()), url(format!("https://127.0.0.1:{port}")));
        assert_eq!(first_answer(&[refused.clone(), open]).await, Ok(1));
        assert_eq!(
            first_answer(std::slice::from_ref(&refused)).await.unwrap_err(),
            "http://127.0.0.1:1: connection refused"
        );
        assert_eq!(first_answer(&[url("udp://127.0.0.1:1".to_owned())]).await, Ok(0));
    }

    #[tokio::test]
    async fn what_is_refused_at_first_is_tried_again_for_a_moment() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let url = format!("http://{free}");
        let began = Instant::now();
        let served = tokio::spawn(async move {
            sleep(CONNECT_TIMEOUT / 10).await;
            TcpListener::bind(free).await.unwrap().accept().await.unwrap();
        });
        accepting(&[url.as_str(), "udp://192.0.2.1:53"]).await;
        assert!((CONNECT_TIMEOUT / 10..CONNECT_TIMEOUT).contains(&began.elapsed()));
        served.await.unwrap();
        accepting(&[url.as_str()]).await;
        assert!(began.elapsed() >= CONNECT_TIMEOUT);
    }
}
