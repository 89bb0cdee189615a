//! An API server that is slow, cuts connections and refuses: what is repeated, and what is not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::kubernetes::{Client, apply};

/// What the server does with a request.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// It reads the request, carries it out, and closes the connection.
    Cut,
    Refused(u16, &'static str, &'static str),
    Accepted,
}

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    asked: Vec<String>,
}

async fn serve(mut stream: TcpStream, script: Arc<Mutex<Script>>) {
    let mut received = Vec::new();
    while stream.read_buf(&mut received).await.is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&received).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() < length.unwrap_or(0_usize) {
            continue;
        }
        let line: Vec<&str> = head.split(' ').take(2).collect();
        let answer = {
            let mut script = script.lock().unwrap();
            script.asked.push(line.join(" "));
            script.answers.pop_front().unwrap_or(Answer::Accepted)
        };
        let (code, body) = match answer {
            Answer::Cut => return,
            Answer::Refused(code, reason, message) => {
                let status = json!({"kind": "Status", "code": code, "reason": reason, "message": message});
                (code, status.to_string())
            }
            Answer::Accepted => (200, json!({"metadata": {"name": "a"}}).to_string()),
        };
        let text = format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = stream.write_all(text.as_bytes()).await;
        received.clear();
    }
}

/// Applies or creates a ConfigMap against a server that answers so; the result and the requests that it got.
async fn against(
    answers: &[Answer],
    work: impl AsyncFn(&Client, &Value, Instant) -> crate::error::Result<Value>,
) -> (crate::error::Result<Value>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::anonymous(&format!("http://{}", listener.local_addr().unwrap()));
    let script = Arc::new(Mutex::new(Script { answers: answers.iter().copied().collect(), asked: Vec::new() }));
    let shared = Arc::clone(&script);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&shared)));
        }
    });
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}});
    let result = work(&client, &object, Instant::now() + Duration::from_secs(20)).await;
    let asked = script.lock().unwrap().asked.clone();
    (result, asked)
}

const ALLOCATED: Answer =
    Answer::Refused(422, "Invalid", "failed to allocate IP 10.96.0.10: provided IP is already allocated");

#[tokio::test]
async fn a_refusal_that_a_lost_answer_caused_is_outlived() {
    let answers = [Answer::Cut, ALLOCATED, ALLOCATED];
    let (result, asked) = against(&answers, apply::apply).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(asked.len(), 4);
}

#[tokio::test]
async fn a_refusal_is_final_at_once_when_nothing_was_lost() {
    let immutable =
        Answer::Refused(422, "Invalid", "spec.clusterIP: Invalid value: \"10.96.0.10\": field is immutable");
    let (result, asked) = against(&[immutable], apply::apply).await;
    assert!(result.unwrap_err().to_string().contains("immutable"));
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn what_the_object_itself_is_to_blame_for_is_not_repeated_although_the_server_blames_itself() {
    let message = "failed to create typed patch object (n/web; apps/v1, Kind=Deployment): .spec.replicass: field not declared in schema";
    // As the API server really answers: without a reason.
    for reason in ["InternalError", ""] {
        let (result, asked) = against(&[Answer::Refused(500, reason, message)], apply::apply).await;
        assert!(result.unwrap_err().to_string().contains(".spec.replicass"));
        assert_eq!(asked.len(), 1);
    }
}

#[tokio::test]
async fn a_webhook_that_does_not_answer_yet_is_waited_for() {
    let answer = Answer::Refused(500, "InternalError", "failed calling webhook \"a.b.c\": connection refused");
    let (result, asked) = against(&[answer, answer], apply::apply).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(asked.len(), 3);
}

#[tokio::test]
async fn what_an_attempt_created_whose_answer_was_lost_is_found() {
    let exists = Answer::Refused(409, "AlreadyExists", "configmaps \"a\" already exists");
    let (result, asked) = against(&[Answer::Cut, exists], apply::create).await;
    assert_eq!(result.unwrap()["metadata"]["name"], "a");
    assert_eq!(asked.last().unwrap(), "GET /api/v1/namespaces/b/configmaps/a");
    let (result, asked) = against(&[exists], apply::create).await;
    assert!(result.is_err());
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn what_the_control_plane_makes_in_its_first_seconds_is_waited_for() {
    let network = "spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: the provided network does not match the current range";
    let account = "pods \"web\" is forbidden: error looking up service account default/default: serviceaccount \"default\" not found";
    for answer in [ALLOCATED, Answer::Refused(422, "Invalid", network), Answer::Refused(403, "Forbidden", account)] {
        let (result, asked) = against(&[answer, answer], apply::apply).await;
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(asked.len(), 3);
    }
}

#[tokio::test]
async fn a_read_whose_connection_breaks_is_repeated() {
    let read = async |client: &Client, _: &Value, _: Instant| {
        client.get("/api/v1/nodes").await.map_err(crate::error::Error::from)
    };
    let (result, asked) = against(&[Answer::Cut, Answer::Cut], read).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(asked.len(), 3);
}

#[tokio::test]
async fn a_server_that_has_no_room_is_asked_again() {
    let read = async |client: &Client, _: &Value, _: Instant| {
        client.get("/api/v1/nodes").await.map_err(crate::error::Error::from)
    };
    let busy = Answer::Refused(429, "TooManyRequests", "later");
    let (result, asked) = against(&[busy; 4], read).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(asked.len(), 5);
}

#[tokio::test]
async fn a_node_that_got_other_subnets_is_replaced() {
    let taken = Answer::Refused(409, "AlreadyExists", "nodes \"a\" already exists");
    let subnets =
        Answer::Refused(422, "Invalid", "spec.podCIDRs: may specify no more than one CIDR for each IP family");
    let node = async |client: &Client, object: &Value, deadline| {
        apply::create_node(client, object, deadline).await.map(|()| Value::Null)
    };
    let (result, asked) = against(&[taken, subnets], node).await;
    assert!(result.is_ok(), "{result:?}");
    let verbs: Vec<&str> = asked.iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(verbs, ["POST", "PATCH", "GET", "DELETE", "POST"], "{asked:?}");
    let (result, asked) = against(&[taken], node).await;
    assert!(result.is_ok() && asked.len() == 2, "{result:?} {asked:?}");
}
