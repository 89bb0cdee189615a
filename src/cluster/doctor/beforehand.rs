//! What `create` checks before it makes anything, and advice beside it.

use std::path::Path;
use std::time::Duration;

use rustix::fs::Access;
use tokio::time::timeout;

use crate::cluster::doctor::Request;
use crate::cluster::doctor::finding::Finding;
use crate::cluster::doctor::fix::Fix;
use crate::cluster::lifecycle::checks::Subject;
use crate::cluster::lifecycle::preflight;
use crate::config::ClusterConfig;
use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Error, Result};
use crate::host::check::{Check, each};
use crate::host::checks::Id;
use crate::host::{advice, credentials, limits, ports, routes};
use crate::node_image::choose;
use crate::plan::facts::USUAL_MTU;

/// How long credential helpers may take; they may ask their user to unlock a key ring.
const HELPERS_TIMEOUT: Duration = Duration::from_secs(1);

/// Looks at what a cluster needs; without a configuration that was asked for, its name may be taken.
pub(super) async fn findings(
    engine: &SharedEngine,
    request: &Request,
    config: Option<&ClusterConfig>,
) -> Result<Vec<Finding>> {
    let info = engine.info().await?;
    let mut checks = preflight::engine(&info, engine.place());
    let Some(config) = config else { return Ok(checks.into_iter().map(Finding::from).collect()) };
    let local = engine.place().is_host();
    let asked = matches!(request.config, Some(Ok(_)));
    let subject = Subject::look(&**engine, &info, config, &request.proxy, local).await?;
    checks.extend(subject.checks());
    if local {
        checks.push(Check::new(Id::PortTaken, ports::free_now(config, &subject.containers)));
        let mtu = subject.mtu().unwrap_or(USUAL_MTU);
        checks.push(Check::unless(Id::SmallUplink, preflight::small_uplink(mtu, routes::uplink())));
        if limits::is_here(&info) {
            checks.extend(advice::of_host(Path::new("/"), &info));
        }
    }
    checks.extend(advice::of_engine(&info, config));
    checks.extend(images(&**engine, config, &info.architecture).await?);
    if asked {
        checks.push(Check::new(Id::CredentialsMissing, logins(request, config).await));
    } else {
        checks.retain(|check| ![Id::ClusterExists, Id::OldVolumes].contains(&check.id));
    }
    let wanted = || limits::wanted_inotify(config, &subject.containers);
    Ok(checks.into_iter().map(|check| with_fix(check, wanted)).collect())
}

/// The limit of inotify instances can be raised by who may write it.
fn with_fix(check: Check, wanted: impl Fn() -> usize) -> Finding {
    let is_inotify = [Id::InotifyLimit, Id::InotifyTight].contains(&check.id) && check.result.is_err();
    let may_write = || rustix::fs::access(limits::INOTIFY, Access::WRITE_OK).is_ok();
    let fix = (is_inotify && may_write()).then(|| Fix::Inotify(wanted()));
    Finding { check, fix }
}

/// Whether the node images are here, and for this engine's processor.
async fn images(engine: &dyn Engine, config: &ClusterConfig, architecture: &str) -> Result<Vec<Check>> {
    let mut names: Vec<Option<&String>> =
        config.nodes.iter().map(|node| node.image.as_ref().or(config.image.as_ref())).collect();
    names.sort();
    names.dedup();
    let (mut missing, mut others) = (Vec::new(), Vec::new());
    for name in names {
        let reference = match name {
            Some(name) => name.clone(),
            None => choose::newest_local(engine).await?.unwrap_or_else(|| choose::PUBLISHED.to_owned()),
        };
        match engine.image(&reference).await? {
            Some(image) => others.extend(preflight::platform(&reference, &image, architecture).err()),
            None if name.is_none() => missing.push(
                Error::new(Code::ImageMissing, "there is no node image here")
                    .because("`create` would pull kind's instead, which takes a minute or more")
                    .hint(choose::BUILD),
            ),
            None => missing.push(
                Error::new(Code::ImageMissing, format!("the node image `{reference}` is not here"))
                    .because("`create` would pull it, which takes a minute or more")
                    .hint(format!("pull it: `docker pull {reference}`")),
            ),
        }
    }
    Ok([each(Id::NodeImageMissing, missing), each(Id::NodeImagePlatform, others)].concat())
}

/// Whether this host has the credentials that the configuration asks for; helpers that are slow are not waited for.
async fn logins(request: &Request, config: &ClusterConfig) -> Result<()> {
    let asked = credentials::of_registries(request.docker_config.as_deref(), &config.registries);
    timeout(HELPERS_TIMEOUT, asked).await.map_or(Ok(()), |logins| logins.map(drop))
}
