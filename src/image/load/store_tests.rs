//! The engine's layer store as a source: what the helper may do, what is sent on, and that the helper is always removed.

use std::io::Read;
use std::sync::{Arc, Mutex};

use coracle_shared::content::Packing;
use coracle_shared::wire::{
    self, Answer, Chunks, Failure, Image, ImageRequest, Layer, Message, ReadRequest, Reason, chunk_head, receive, send,
};
use futures_util::StreamExt;

use crate::engine::fake::FakeEngine;
use crate::engine::helper::settle;
use crate::engine::spec::{ContainerSpec, Labels, Privilege};
use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Error, Result};
use crate::image::load::fan_out::{FanOut, Missing, Source};
use crate::image::load::program;
use crate::image::load::store::{READ, is_save_wanted, open};
use crate::plan::labels;

const NODE: &str = "demo-worker";

fn wanted() -> ImageRequest {
    ImageRequest {
        id: "sha256:app".to_owned(),
        names: vec!["docker.io/library/app:1".to_owned()],
        diff_ids: vec!["one".to_owned()],
    }
}

async fn with_node(engine: FakeEngine) -> Arc<FakeEngine> {
    let labels = Labels::from([(labels::CLUSTER.to_owned(), "demo".to_owned())]);
    engine.create_container(&ContainerSpec { labels, ..ContainerSpec::new(NODE, "node:v1") }).await.unwrap();
    Arc::new(engine)
}

/// A helper that answers and then sends a layer of 700 kB and an image, or ends in the middle of the layer.
fn engine(answer: Answer, breaks: bool) -> FakeEngine {
    FakeEngine::new(&["node:v1"]).on_converse(move |_, command, input, output| {
        assert_eq!(command, ["images", "read"]);
        // There is no request if the load was interrupted early.
        let Ok(Some(reading)) = receive::<ReadRequest>(input) else { return };
        assert_eq!((reading.version, reading.layers, reading.images.len()), (wire::VERSION, vec!["one".to_owned()], 1));
        let _ = send(output, &answer);
        if !matches!(answer, Answer::Found(_)) {
            return;
        }
        let head = Message::Layer(Layer { diff_id: Some("one".to_owned()), packing: Packing::Plain });
        let ImageRequest { id, names, .. } = reading.images[0].clone();
        let image = Message::Image(Image { id, names, config: "{}".to_owned(), manifest: None });
        let mut answer_rest = || -> std::io::Result<()> {
            send(output, &head)?;
            for _ in 0..7 {
                output.write_all(&chunk_head(100_000)?)?;
                output.write_all(&vec![7; 100_000])?;
            }
            if breaks {
                return Ok(());
            }
            output.write_all(&chunk_head(0)?)?;
            send(output, &image)
        };
        // Nothing is read any longer if the load was interrupted.
        let _ = answer_rest();
    })
}

/// What a node gets that lacks everything: the size of the layer, and the image.
async fn loaded(engine: &Arc<FakeEngine>) -> Result<(usize, Image)> {
    let info = engine.info().await?;
    let shared: SharedEngine = engine.clone();
    let source = open(&shared, &info, NODE, &[wanted()], vec!["one".to_owned()]).await?;
    let missing = Missing { layers: ["one".to_owned()].into(), images: ["sha256:app".to_owned()].into() };
    let (mut fan_out, mut streams) = FanOut::new([missing]);
    let fed = tokio::task::spawn_blocking(move || Box::new(source).send(&mut fan_out));
    let mut received = Vec::new();
    while let Some(chunk) = streams[0].stream.next().await {
        received.extend_from_slice(&chunk.unwrap());
    }
    fed.await.map_err(|source| Error::new(Code::LoadFailed, "lost").with_cause(&source))??;
    let mut rest = received.as_slice();
    assert!(matches!(receive::<Message>(&mut rest).unwrap(), Some(Message::Layer(_))));
    let mut layer = Vec::new();
    Chunks::new(&mut rest).read_to_end(&mut layer).unwrap();
    let Some(Message::Image(image)) = receive(&mut rest).unwrap() else { panic!("no image") };
    Ok((layer.len(), image))
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_come_out_of_the_store_and_the_helper_is_removed() {
    let engine = with_node(engine(Answer::Found(700_000), false)).await;
    let (size, image) = loaded(&engine).await.unwrap();
    assert_eq!((size, image.names), (700_000, wanted().names));
    settle().await;
    assert_eq!(engine.left(), ["container demo-worker"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_read_is_an_error_and_the_helper_is_removed() {
    let failure = Failure { reason: Reason::Unreadable, message: "no such layer".to_owned() };
    for (answer, breaks) in
        [(Answer::Failed(failure), false), (Answer::Done(Vec::new()), false), (Answer::Found(9), true)]
    {
        let engine = with_node(engine(answer, breaks)).await;
        assert_eq!(loaded(&engine).await.unwrap_err().code(), Code::LoadFailed);
        settle().await;
        assert_eq!(engine.left(), ["container demo-worker"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_failure_of_the_engine_leaves_a_helper() {
    for call in 2..9 {
        let found = Answer::Found(700_000);
        let failing = with_node(engine(found.clone(), false).failing_at(call)).await;
        let _ = loaded(&failing).await;
        settle().await;
        assert_eq!(failing.left(), ["container demo-worker"], "call {call} failed");
        let losing = with_node(engine(found, false).losing_answer_at(call)).await;
        let _ = loaded(&losing).await;
        settle().await;
        assert_eq!(losing.left(), ["container demo-worker"], "the answer of call {call} was lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_load_leaves_no_helper() {
    let engine = with_node(engine(Answer::Found(700_000), false)).await;
    let seen = Arc::new(Mutex::new(0));
    for polls in 0..12 {
        let engine = Arc::clone(&engine);
        let seen = Arc::clone(&seen);
        // Interrupted after that many turns of the scheduler.
        tokio::select! {
            biased;
            done = loaded(&engine) => { done.unwrap(); *seen.lock().unwrap() += 1; }
            () = async { for _ in 0..polls * 20 { tokio::task::yield_now().await; } } => {}
        }
        settle().await;
        assert_eq!(engine.left(), ["container demo-worker"]);
    }
}

#[tokio::test]
async fn unknown_stores_are_left_alone() {
    let engine = with_node(FakeEngine::new(&["node:v1"])).await;
    let shared: SharedEngine = engine.clone();
    let before = engine.transcript().len();
    let known = FakeEngine::new(&[]).info().await.unwrap();
    for info in [
        crate::engine::spec::EngineInfo { storage_driver: "zfs".to_owned(), ..known.clone() },
        crate::engine::spec::EngineInfo { rootless: true, ..known.clone() },
        crate::engine::spec::EngineInfo { userns_remap: true, ..known.clone() },
    ] {
        open(&shared, &info, NODE, &[wanted()], Vec::new()).await.err().unwrap();
    }
    assert_eq!(engine.transcript().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_helper_is_found_by_the_cluster_and_is_no_node() {
    let engine = with_node(FakeEngine::new(&["node:v1"])).await;
    let spec = program::spec(&*engine, NODE, READ, Vec::new(), Privilege::Files).await.unwrap();
    assert_eq!(spec.labels.get(labels::CLUSTER).map(String::as_str), Some("demo"));
    assert_eq!(spec.labels.get(labels::ROLE).map(String::as_str), Some("reader"));
    assert_eq!((spec.network.as_deref(), spec.attached), (Some("none"), true));
    assert!(spec.name.starts_with("demo-worker-reader-"));
}

#[test]
fn a_source_that_does_not_exist_is_refused() {
    let wanted = |choice: &str| is_save_wanted(Some(choice.as_ref()));
    assert!(
        !is_save_wanted(None).unwrap() && !wanted("").unwrap() && !wanted("store").unwrap() && wanted("save").unwrap()
    );
    let error = wanted("bogus").unwrap_err();
    assert_eq!(error.code(), Code::UsageInvalid);
    assert!(error.message().contains("`CORACLE_IMAGE_SOURCE` is `bogus`"), "{error}");
}
