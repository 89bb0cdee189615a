//! Waiting until a registry answers.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::plan::facts::Registry;

/// How long a registry may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until a registry answers at its port of this host, so that the first push finds it.
pub async fn wait(engine: &dyn Engine, registry: &Registry) -> Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let cause = match timeout(Duration::from_secs(2), answer(registry.port)).await {
            Ok(Ok(text)) if text.contains(" 200 ") => return Ok(()),
            Ok(Ok(text)) => format!("it answered `{}`", text.lines().next().unwrap_or_default()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() >= deadline {
            let log = engine.logs(&registry.name, Some(5)).await.unwrap_or_default();
            return Err(Error::new(Code::NotReady, format!("registry `{}` does not answer", registry.name))
                .because(cause)
                .with_lines(String::from_utf8_lossy(&log).lines())
                .hint(format!("`docker logs {}` shows more", registry.name)));
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// The beginning of the registry's answer. A connection alone proves nothing: the engine accepts it before the registry does.
async fn answer(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"GET /v2/ HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
    let mut text = vec![0; 64];
    let length = stream.read(&mut text).await?;
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}
