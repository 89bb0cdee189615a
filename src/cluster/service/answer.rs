//! Whether something answers at an address.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection must last. The engine's proxy takes every connection, and closes it at once if no one is behind it.
const LASTING: Duration = Duration::from_millis(300);

/// Connects to `HOST:PORT`, and waits a moment whether the connection lasts.
pub(super) async fn answers(address: &str) -> Result<(), String> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let mut stream = stream
        .map_err(|_| format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))?
        .map_err(|source| said(&source))?;
    match timeout(LASTING, stream.read(&mut [0])).await {
        // It waits for a request, or speaks first.
        Err(_) | Ok(Ok(1..)) => Ok(()),
        Ok(Ok(0)) => Err("the connection was closed at once".to_owned()),
        Ok(Err(source)) => Err(said(&source)),
    }
}

fn said(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        _ => source.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn only_a_connection_that_lasts_is_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            // Closes at once, speaks first, waits for a request, and ends.
            drop(listener.accept().await.unwrap());
            listener.accept().await.unwrap().0.write_all(b"hello").await.unwrap();
            let waiting = listener.accept().await.unwrap();
            tokio::time::sleep(LASTING * 2).await;
            drop(waiting);
        });
        assert_eq!(answers(&address).await.unwrap_err(), "the connection was closed at once");
        assert_eq!(answers(&address).await, Ok(()));
        assert_eq!(answers(&address).await, Ok(()));
        server.await.unwrap();
        assert_eq!(answers(&address).await.unwrap_err(), "connection refused");
    }
}
