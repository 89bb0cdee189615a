//! Brings images into nodes: each node is asked what it has, and what some lack is read once and sent to all of them.

use coracle_shared::wire::ImageRequest;
use futures_util::future::try_join_all;

use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Error, Result};
use crate::image::archive::verified::{ArchiveInput, VerifiedArchive};
use crate::image::load::asked::Load;
use crate::image::load::fan_out::Source;
use crate::image::load::lookup::look_up;
use crate::image::load::report::{LoadReport, SourceKind};
use crate::image::load::save::save;
use crate::image::load::session::Session;
use crate::image::load::transfer::joined;
use crate::image::load::wanted::WantedImage;
use crate::image::load::{share, store};
use crate::image::platform::Platform;
use crate::image::progress::Progress;

/// Loads images of the engine into nodes; only what they lack is sent.
pub async fn load_docker_images(
    engine: &SharedEngine,
    nodes: &[String],
    images: &[String],
    progress: Progress<'_>,
) -> Result<LoadReport> {
    store::check_source()?;
    let mut report = Box::pin(load_from_engine(engine, nodes, images, true, progress)).await?;
    report.nodes.sort_by_key(|load| nodes.iter().position(|node| *node == load.node));
    Ok(report)
}

/// Loads images of the engine. With `may_link`, nodes get links to the layers of another one where that saves time.
async fn load_from_engine(
    engine: &SharedEngine,
    nodes: &[String],
    images: &[String],
    may_link: bool,
    progress: Progress<'_>,
) -> Result<LoadReport> {
    let look_up = async {
        let info = engine.info().await?;
        let platform = Platform::of_engine(&info.architecture);
        Ok((look_up(&**engine, images, &platform).await?, info, platform))
    };
    let ((wanted, info, platform), sessions) = tokio::try_join!(look_up, open(&**engine, nodes))?;
    let mut load = Load::ask(&**engine, sessions, wanted.clone()).await?;
    if load.missing().is_empty() {
        return load.run(None, progress).await;
    }
    let requests: Vec<ImageRequest> = load.missing().iter().map(WantedImage::request).collect();
    // The reason why the store cannot be read is of no use to the user: the images are loaded nevertheless.
    if let Ok(store) = store::open(engine, &info, &nodes[0], &requests, load.missing_layers()).await {
        let done = if may_link && share::is_worthwhile(&load, store.bytes) {
            share::run(engine, &info, load, store, progress).await
        } else {
            load.run(Some((SourceKind::EngineStore, Box::new(store))), progress).await.map(share::Shared::complete)
        };
        match done {
            // Its output ended early, or was not what it should be: the nodes have discarded all of it.
            Err(error) if error.code() == Code::LoadFailed => {}
            Err(error) => return Err(error),
            Ok(share::Shared { report, left }) if left.is_empty() => return Ok(report),
            Ok(share::Shared { report, left }) => {
                let rest = Box::pin(load_from_engine(engine, &left, images, false, progress)).await?;
                return Ok(report.with(rest));
            }
        }
        load = Load::ask(&**engine, open(&**engine, nodes).await?, wanted).await?;
    }
    let missing = load.missing();
    let source: Option<(_, Box<dyn Source>)> = if missing.is_empty() {
        None
    } else {
        Some((SourceKind::EngineSave, Box::new(save(&**engine, missing, platform).await?)))
    };
    load.run(source, progress).await
}

/// Loads all images of an archive into nodes. Nothing is sent before the whole archive was verified.
pub async fn load_archive(
    engine: &dyn Engine,
    nodes: &[String],
    input: &ArchiveInput,
    progress: Progress<'_>,
) -> Result<LoadReport> {
    let platform = Platform::of_engine(&engine.info().await?.architecture);
    let input = input.clone();
    let archive = joined(tokio::task::spawn_blocking(move || VerifiedArchive::open(&input, &platform)).await)?;
    let wanted = archive.images.iter().map(|image| WantedImage {
        key: String::new(),
        id: image.id.clone(),
        names: image.names.clone(),
        diff_ids: image.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        size: image.size,
    });
    let wanted = wanted.collect();
    let others = archive.others.clone();
    let load = Load::ask(engine, open(engine, nodes).await?, wanted).await?;
    let missing = load.missing();
    let archive = archive.only(|image| missing.iter().any(|missing| missing.id == image.id));
    let source: Option<(_, Box<dyn Source>)> =
        if missing.is_empty() { None } else { Some((SourceKind::Archive, Box::new(archive))) };
    let report = load.run(source, progress).await?;
    Ok(LoadReport { passed_over: others, ..report })
}

async fn open(engine: &dyn Engine, nodes: &[String]) -> Result<Vec<(String, Session)>> {
    let session = |node: &String| {
        let node = node.clone();
        async move { Ok::<_, Error>((node.clone(), Session::open(engine, &node).await?)) }
    };
    try_join_all(nodes.iter().map(session)).await
}
