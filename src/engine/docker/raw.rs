//! A session with a terminal, whose bytes the engine passes on as they are. bollard takes a piece that begins with 0, 1 or 2 for
//! the head of a message, and waits for its rest: after a `cat` of a program, nothing more would be shown.

use std::io;

use futures_util::{StreamExt, TryStreamExt};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_util::io::ReaderStream;

use crate::engine::address::{Address, authority};
use crate::engine::conversation::{Conversation, Said};
use crate::engine::docker::{OUTPUT_BUFFER, connect};
use crate::engine::inside::TerminalSize;
use crate::error::{Code, Error, Result};

/// Longest head of an answer, bytes.
const MAX_HEAD: usize = 16 << 10;

/// A connection to an engine.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Starts a command that was made with a terminal, and takes both of its ends.
pub(super) async fn start(address: &Address, exec: &str, size: TerminalSize, what: &str) -> Result<Conversation> {
    let failed = |source: io::Error| Error::new(Code::EngineFailed, what).with_cause(&source);
    let connection = open(address).await?;
    let connection = take_over(connection, &host(address), exec, size).await.map_err(failed)?;
    let (output, input) = tokio::io::split(connection);
    let output = ReaderStream::with_capacity(output, OUTPUT_BUFFER).map_ok(Said::Output).boxed();
    Ok(Conversation { input: Box::pin(input), output })
}

/// What the engine is called in a request.
fn host(address: &Address) -> String {
    match address {
        Address::Unix(_) => "localhost".to_owned(),
        Address::Tcp { host, port, .. } => authority(host, *port),
    }
}

async fn open(address: &Address) -> Result<Box<dyn Connection>> {
    let failed = |source: io::Error| {
        Error::new(Code::EngineUnreachable, "the Docker engine no longer answers").with_cause(&source)
    };
    Ok(match address {
        Address::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(failed)?),
        Address::Tcp { host, port, tls } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            // Every key is a packet of its own, and should not wait for others.
            stream.set_nodelay(true).map_err(failed)?;
            match tls {
                None => Box::new(stream),
                Some(tls) => {
                    let name = rustls::pki_types::ServerName::try_from(host.clone());
                    let name = name.map_err(|source| failed(io::Error::other(source)))?;
                    let connector = TlsConnector::from(std::sync::Arc::new(connect::configuration(tls)?));
                    Box::new(connector.connect(name, stream).await.map_err(failed)?)
                }
            }
        }
    })
}

/// Asks for the start of the command; after the head of the answer, the connection is the terminal's.
async fn take_over<C: AsyncRead + AsyncWrite + Unpin>(
    connection: C,
    host: &str,
    exec: &str,
    size: TerminalSize,
) -> io::Result<BufReader<C>> {
    let body = json!({"Detach": false, "Tty": true, "ConsoleSize": [size.rows, size.columns]}).to_string();
    let head = format!(
        "POST /exec/{exec}/start HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: Upgrade\r\n\
         Upgrade: tcp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = BufReader::new(connection);
    connection.write_all(head.as_bytes()).await?;
    connection.flush().await?;
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        let count = connection.read_until(b'\n', &mut line).await?;
        if count == 0 || lines.len() > MAX_HEAD {
            return Err(io::Error::other("the engine gave no answer"));
        }
        if line == b"\r\n" {
            break;
        }
        lines.extend(line);
    }
    let head = String::from_utf8_lossy(&lines);
    let status = head.lines().next().unwrap_or_default();
    // Engines from before 1.22 of the API answer with 200.
    match status.split(' ').nth(1) {
        Some("101" | "200") => Ok(connection),
        _ => Err(io::Error::other(format!("the engine answered `{}`", status.trim_end()))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    const SIZE: TerminalSize = TerminalSize { rows: 33, columns: 111 };

    /// What comes through a connection to an engine that answers this, and what the engine was asked.
    async fn through(answer: &'static [u8]) -> (io::Result<Vec<u8>>, String) {
        let (ours, mut theirs) = duplex(1 << 16);
        let engine = tokio::spawn(async move {
            let mut asked = vec![0; 4096];
            let count = theirs.read(&mut asked).await.unwrap();
            theirs.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&asked[..count]).into_owned()
        });
        let taken = take_over(ours, "localhost", "0123", SIZE).await;
        let asked = engine.await.unwrap();
        let mut rest = Vec::new();
        match taken {
            Ok(mut connection) => {
                connection.read_to_end(&mut rest).await.unwrap();
                (Ok(rest), asked)
            }
            Err(error) => (Err(error), asked),
        }
    }

    #[tokio::test]
    async fn what_follows_the_head_is_the_terminals_whatever_it_begins_with() {
        let (rest, asked) = through(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n\x01\x00\x02\r\n\r\nmore").await;
        assert_eq!(rest.unwrap(), b"\x01\x00\x02\r\n\r\nmore");
        assert!(asked.starts_with("POST /exec/0123/start HTTP/1.1\r\nHost: localhost\r\n"), "{asked}");
        assert!(asked.ends_with("{\"Detach\":false,\"Tty\":true,\"ConsoleSize\":[33,111]}"), "{asked}");
    }

    #[tokio::test]
    async fn an_answer_of_another_kind_is_told() {
        let (rest, _) = through(b"HTTP/1.1 409 Conflict\r\n\r\n{}").await;
        assert_eq!(rest.unwrap_err().to_string(), "the engine answered `HTTP/1.1 409 Conflict`");
        assert!(through(b"").await.0.is_err());
    }
}
