//! An engine that accepts connections and never answers: every call to it ends.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::engine::address::Address;
use crate::engine::spec::ContainerSpec;
use crate::error::{Code, Reason};

const IMPATIENT: Patience = Patience { quiet: Duration::from_millis(50), silence: Duration::from_millis(200) };

/// Says its version, then falls silent: whole requests are read and connections stay open. `alive`: pings are answered.
async fn hang(listener: UnixListener, alive: Arc<AtomicBool>) {
    let mut open = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        let alive = alive.clone();
        open.push(tokio::spawn(async move { serve(stream, &alive).await }));
    }
}

async fn serve(mut stream: UnixStream, alive: &AtomicBool) -> std::io::Result<()> {
    let mut request = vec![0; 4096];
    let length = stream.read(&mut request).await?;
    let request = String::from_utf8_lossy(&request[..length]).into_owned();
    let version = r#"{"ApiVersion": "1.41", "Components": []}"#;
    if request.starts_with("GET /version") {
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", version.len());
        stream.write_all(format!("{head}{version}").as_bytes()).await?;
    }
    if request.starts_with("GET /_ping") && alive.load(Ordering::SeqCst) {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await?;
    }
    if request.starts_with("POST /exec/x/start") {
        // Taken over for the command's output, of which there is none.
        stream.write_all(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n").await?;
    }
    if request.starts_with("POST /containers/c/exec") {
        stream
            .write_all(
                b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{\"Id\":\"x\"}",
            )
            .await?;
    }
    std::future::pending().await
}

async fn engine(socket: &Path, alive: bool) -> (Guarded, tokio::task::JoinHandle<()>) {
    let server = tokio::spawn(hang(UnixListener::bind(socket).unwrap(), Arc::new(AtomicBool::new(alive))));
    let docker = Docker::connect(&Address::Unix(socket.into())).await.unwrap();
    (Guarded::new(docker, IMPATIENT), server)
}

/// A call that must end soon, and says why.
async fn ends<T>(what: &str, call: impl Future<Output = Result<T>>) {
    let began = Instant::now();
    let ended = timeout(Duration::from_secs(5), call).await.unwrap_or_else(|_| panic!("{what} does not end"));
    let error = ended.err().unwrap_or_else(|| panic!("{what} succeeded"));
    assert_eq!((error.code(), error.reason()), (Code::EngineUnreachable, Some(Reason::AnswerLost)), "{what}: {error}");
    assert!(error.cause().unwrap().contains("it hangs"), "{what}: {error}");
    assert!(began.elapsed() >= IMPATIENT.silence, "{what} ended at once");
}

#[tokio::test]
async fn every_call_to_an_engine_that_never_answers_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, server) = engine(&directory.path().join("s"), false).await;
    let spec = ContainerSpec::new("c", "app");
    let network = NetworkSpec { name: "n".to_owned(), pools: Vec::new(), mtu: None, labels: BTreeMap::default() };
    let nothing = || -> ByteStream { futures_util::stream::pending().boxed() };
    let progress = |_: u64, _: u64| {};
    tokio::join!(
        ends("info", engine.info()),
        ends("image", engine.image("i")),
        ends("images", engine.images()),
        ends("pull_image", engine.pull_image("i", None, &progress)),
        ends("load_images", engine.load_images(nothing())),
        ends("remove_image", engine.remove_image("i")),
        ends("networks", engine.networks()),
        ends("create_network", engine.create_network(&network)),
        ends("remove_network", engine.remove_network("n")),
        ends("connect_network", engine.connect_network("n", "c", "a", &[])),
        ends("disconnect_network", engine.disconnect_network("n", "c")),
        ends("create_container", engine.create_container(&spec)),
        ends("upload", engine.upload("c", Bytes::from_static(b"x"))),
        ends("download", engine.download("c", "/x")),
        ends("start_container", engine.start_container("c")),
        ends("stop_container", engine.stop_container("c", 1)),
        ends("remove_container", engine.remove_container("c")),
        ends("containers", engine.containers(&[])),
        ends("volumes", engine.volumes(&[])),
        ends("remove_volume", engine.remove_volume("v")),
        ends("exec", engine.exec("c", &["true"], Some(nothing()))),
        ends("attach", engine.attach("c")),
        ends("logs", engine.logs("c", None)),
        ends("inspect", engine.inspect("c")),
    );
    // What has begun, and then stops: the pieces of a stream.
    let mut conversation = engine.converse("c", &["cat"]).await.unwrap();
    let piece = timeout(Duration::from_secs(5), conversation.output.next()).await.unwrap();
    assert!(piece.unwrap().unwrap_err().to_string().contains("no longer answers"));
    let mut saved = engine.save_images(&["i".to_owned()]).await.unwrap();
    let piece = timeout(Duration::from_secs(5), saved.next()).await.unwrap();
    assert!(piece.unwrap().unwrap_err().to_string().contains("no longer answers"));
    assert!(saved.next().await.is_none());
    server.abort();
}

#[tokio::test]
async fn a_long_call_to_an_engine_that_answers_pings_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, server) = engine(&directory.path().join("s"), true).await;
    let long = IMPATIENT.silence * 5;
    assert!(timeout(long, engine.pull_image("i", None, &|_, _| {})).await.is_err());
    server.abort();
}
