//! Whether services answer on this node yet: after a boot, the agent runs before kube-proxy has written its rules.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Where kube-proxy reports whether it is up to date.
const HEALTH: &str = "127.0.0.1:10256";
const INTERVAL: Duration = Duration::from_millis(500);
/// Without an answer for this long, there is no kube-proxy, and another program handles services.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Ends when services answer, as far as that can be known.
pub(crate) async fn wait() {
    let began = Instant::now();
    while began.elapsed() < ANSWER_TIMEOUT {
        if matches!(timeout(INTERVAL, is_healthy()).await, Ok(Ok(true))) {
            return;
        }
        sleep(INTERVAL).await;
    }
}

async fn is_healthy() -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(HEALTH).await?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await?;
    Ok(start.ends_with(b" 200"))
}
