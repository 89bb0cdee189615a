//! A load into several nodes of one machine: the node that lacks most gets the layers, and the others get links to them.

use coracle_shared::wire::Placed;

use crate::engine::SharedEngine;
use crate::engine::spec::EngineInfo;
use crate::error::{Code, Result};
use crate::image::load::asked::Load;
use crate::image::load::linker::{self, Linker};
use crate::image::load::report::{LoadReport, SourceKind};
use crate::image::load::store::StoreSource;
use crate::image::load::transfer::Transferred;
use crate::image::progress::Progress;

/// Fewer bytes than these are sent to all nodes before a helper has started.
const WORTHWHILE: u64 = 16 << 20;

/// What was loaded, and the nodes that could not get links.
pub(super) struct Shared {
    pub report: LoadReport,
    pub left: Vec<String>,
}

impl Shared {
    /// Everything was loaded.
    pub(super) fn complete(report: LoadReport) -> Self {
        Self { report, left: Vec::new() }
    }
}

/// Whether links save more time than they take.
pub(super) fn is_worthwhile(load: &Load, bytes: u64) -> bool {
    bytes >= WORTHWHILE && load.lacking().len() > 1
}

/// Loads into the first node, and links into the others.
pub(super) async fn run(
    engine: &SharedEngine,
    info: &EngineInfo,
    load: Load,
    store: StoreSource,
    progress: Progress<'_>,
) -> Result<Shared> {
    let lacking = load.lacking();
    let (first, others) = load.split();
    let left = others.names();
    let source = Some((SourceKind::EngineStore, Box::new(store) as _));
    let (linker, sent) = tokio::join!(linker::open(engine, info, &lacking), first.run_and_tell(source, progress));
    let (report, transferred) = sent?;
    // Why nothing can be linked is of no use to the user: the nodes get everything in another way.
    let Ok(helper) = linker else { return Ok(Shared { report, left }) };
    match link(helper, others, &lacking, &transferred).await? {
        Some(rest) => Ok(Shared::complete(report.with(rest))),
        None => Ok(Shared { report, left }),
    }
}

/// Links what the first node has got into the others, and lets them take it; `None` if that does not work.
async fn link(
    helper: Linker,
    others: Load,
    lacking: &[String],
    transferred: &Transferred,
) -> Result<Option<LoadReport>> {
    let (first, layers) = placed(transferred);
    // A node with an older program does not tell where its layers are.
    if layers.is_empty() {
        return Ok(None);
    }
    let to: Vec<String> = lacking.iter().filter(|node| **node != first).cloned().collect();
    let linked = helper.link(&first, &to, layers, transferred.images.clone()).await;
    let Ok((linked, keeper)) = linked else { return Ok(None) };
    let taken = others.run(Some((SourceKind::EngineStore, Box::new(linked))), &|_, _, _| {}).await;
    keeper.finish().await;
    let mut report = match taken {
        Err(error) if error.code() == Code::LoadFailed => return Ok(None),
        taken => taken?,
    };
    for node in report.nodes.iter_mut().filter(|node| !node.sent.is_empty()) {
        node.bytes = 0;
        node.linked_from = Some(first.clone());
    }
    Ok(Some(report))
}

/// The node that got layers, and where they are in it.
fn placed(transferred: &Transferred) -> (String, Vec<Placed>) {
    let (mut node, mut layers) = (String::new(), Vec::<Placed>::new());
    for (name, received) in &transferred.nodes {
        name.clone_into(&mut node);
        for layer in received.stored.iter().flat_map(|stored| &stored.layers) {
            if !layers.iter().any(|known| known.diff_id == layer.diff_id) {
                layers.push(layer.clone());
            }
        }
    }
    (node, layers)
}
