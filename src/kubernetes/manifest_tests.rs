//! Order, kinds that come late, and what is deleted: against an API of a few lines.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What the API was asked, and the objects it has.
#[derive(Default)]
struct Api {
    asked: Vec<String>,
    labels: std::collections::BTreeMap<String, String>,
    kinds: BTreeSet<&'static str>,
}

impl Api {
    fn answer(&mut self, method: &str, path: &str) -> (u16, Value) {
        let path = path.split('?').next().unwrap_or_default();
        let list = |names: &[(&str, &str, bool)]| {
            let resource = |(name, kind, namespaced): &(&str, &str, bool)| json!({"name": name, "kind": kind, "namespaced": namespaced});
            json!({"resources": names.iter().map(resource).collect::<Vec<_>>()})
        };
        match (method, path) {
            ("GET", "/api/v1") => (200, list(&[("namespaces", "Namespace", false), ("configmaps", "ConfigMap", true)])),
            ("GET", "/apis/apiextensions.k8s.io/v1") => {
                (200, list(&[("customresourcedefinitions", "CustomResourceDefinition", false)]))
            }
            // The kind is served from the second look on.
            ("GET", "/apis/x.io/v1") if !self.kinds.insert("x.io/v1") => (200, list(&[("pages", "Page", true)])),
            ("GET", "/apis/x.io/v1") => (404, json!({})),
            ("GET", path) => match self.labels.get(path) {
                Some(label) => (200, json!({"metadata": {"labels": {"of": label}}})),
                None => (404, json!({})),
            },
            (method, path) => {
                self.asked.push(format!("{method} {path}"));
                if method == "DELETE" {
                    self.labels.remove(path);
                }
                (200, json!({}))
            }
        }
    }
}

async fn serve(mut stream: TcpStream, api: Arc<Mutex<Api>>) {
    let mut received = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.unwrap_or_default();
        if count == 0 {
            return;
        }
        received.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&received).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() < length.unwrap_or(0_usize) {
            continue;
        }
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (code, answer) = api.lock().unwrap().answer(method, path);
        let answer = if code == 200 { answer } else { json!({"kind": "Status", "code": code, "reason": "NotFound"}) };
        let body = answer.to_string();
        let text = format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = stream.write_all(text.as_bytes()).await;
        received.clear();
    }
}

async fn client() -> (Client, Arc<Mutex<Api>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let api = Arc::new(Mutex::new(Api::default()));
    let shared = Arc::clone(&api);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&shared)));
        }
    });
    (Client::anonymous(&server), api)
}

fn object(version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}})
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[tokio::test]
async fn namespaces_and_definitions_come_first_and_a_new_kind_is_awaited() {
    let (client, api) = client().await;
    let objects = [
        object("x.io/v1", "Page", "page"),
        object("v1", "ConfigMap", "settings"),
        object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "pages.x.io"),
        object("v1", "Namespace", "site"),
    ];
    apply(&client, &objects, soon()).await.unwrap();
    let expected = [
        "PATCH /api/v1/namespaces/site",
        "PATCH /apis/apiextensions.k8s.io/v1/customresourcedefinitions/pages.x.io",
        "PATCH /apis/x.io/v1/namespaces/default/pages/page",
        "PATCH /api/v1/namespaces/default/configmaps/settings",
    ];
    assert_eq!(api.lock().unwrap().asked, expected);
}

#[tokio::test]
async fn an_unknown_kind_is_reported_with_its_place() {
    let (client, _) = client().await;
    let objects = [object("v1", "Namespace", "a"), object("v1", "Nonsense", "b")];
    let at = apply(&client, &objects, Instant::now()).await.unwrap_err();
    assert_eq!(at.index, 1);
    assert!(at.error.to_string().contains("\"Nonsense\" of \"v1\""), "{}", at.error);
}

#[tokio::test]
async fn only_objects_with_the_label_are_deleted_and_the_last_first() {
    let (client, api) = client().await;
    for (name, label) in [("one", "me"), ("two", "me"), ("other", "you")] {
        let path = format!("/api/v1/namespaces/default/configmaps/{name}");
        api.lock().unwrap().labels.insert(path, label.to_owned());
    }
    let objects = ["one", "other", "absent", "two"].map(|name| object("v1", "ConfigMap", name));
    assert_eq!(delete(&client, &objects, ("of", "me"), soon()).await.unwrap(), 2);
    let path = |name: &str| format!("DELETE /api/v1/namespaces/default/configmaps/{name}");
    assert_eq!(api.lock().unwrap().asked, [path("two"), path("one")]);
}
