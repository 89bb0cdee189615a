//! What the engine answers while another command removes the same container.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// An engine that gives one of the answers to each removal, the last one to all further ones.
async fn engine(answers: &'static [(u16, &'static str)]) -> (Docker, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port, tls: None };
    let removals = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&removals);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                if stream.read_buf(&mut request).await.unwrap_or_default() == 0 {
                    break;
                }
            }
            let (status, body) = if request.starts_with(b"DELETE") {
                answers[count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1)]
            } else {
                (200, r#"{"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.24"}"#)
            };
            let head = format!("HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nConnection: close\r\n");
            let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (Docker::connect(&address).await.unwrap(), removals)
}

const IN_PROGRESS: (u16, &str) = (409, r#"{"message": "removal of container 0123 is already in progress"}"#);

#[tokio::test]
async fn a_container_that_another_command_removes_is_waited_for() {
    let (engine, removals) =
        engine(&[IN_PROGRESS, IN_PROGRESS, (404, r#"{"message": "No such container: 0123"}"#)]).await;
    engine.remove_container("0123").await.unwrap();
    assert_eq!(removals.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn another_conflict_is_an_error() {
    let (engine, removals) = engine(&[(409, r#"{"message": "container is paused"}"#)]).await;
    assert_eq!(engine.remove_container("0123").await.unwrap_err().code(), Code::EngineFailed);
    assert_eq!(removals.load(Ordering::SeqCst), 1);
}
