//! The logs of a create that failed: kept by themselves, before its nodes are removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cluster::found::{self, Cluster};
use crate::cluster::lifecycle::options::Options;
use crate::cluster::logs;
use crate::engine::SharedEngine;
use crate::error::Result;
use crate::host::kubectl;
use crate::plan::labels;
use crate::ui::Ui;

/// How long the logs may take.
const MAX_EXPORT: Duration = Duration::from_secs(120);
/// How many directories are kept in the cache, and for how long; each has about 1 MB.
const MAX_KEPT: usize = 10;
const MAX_AGE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Writes the logs of what the run made where the options say, and says where they are.
pub(super) async fn keep(engine: &SharedEngine, id: &str, options: &Options, ui: &Ui, stop: &CancellationToken) {
    // Nothing was made that could have logs.
    let Some(cluster) = made(engine, id).await.ok().flatten() else { return };
    let directory = match (&options.logs, &options.cache) {
        (Some(directory), _) => Ok(directory.clone()),
        (None, Some(cache)) => new_directory(&cache.join("logs"), &cluster),
        (None, None) => return,
    };
    let directory = match directory {
        Ok(directory) => directory,
        Err(error) => return ui.warn(format!("{error}; `--logs-on-failure DIR` keeps the logs elsewhere")),
    };
    let shown = ui.step("Collecting the logs");
    let exported = tokio::select! {
        exported = timeout(MAX_EXPORT, logs::export_logs(&**engine, &cluster, &directory)) => exported,
        () = stop.cancelled() => return,
    };
    match exported {
        Ok(Ok(export)) => {
            shown.finish();
            let size = export.bytes.div_ceil(1024);
            ui.note(format!("The logs of the nodes are in {} ({size} KiB)", export.directory.display()));
        }
        Ok(Err(error)) => ui.warn(format!("the logs could not be collected: {error}")),
        Err(_) => ui.warn(format!("the logs were not complete after {} s", MAX_EXPORT.as_secs())),
    }
}

async fn made(engine: &SharedEngine, id: &str) -> Result<Option<Cluster>> {
    let made = engine.containers(&[format!("{}={id}", labels::RUN)]).await?;
    Ok(found::group(made).pop())
}

/// A new directory for the logs of a cluster; the oldest ones make room.
fn new_directory(all: &Path, cluster: &Cluster) -> Result<PathBuf> {
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default().replace(':', "-");
    let directory = all.join(format!("{}-{}", cluster.name, now.split('.').next().unwrap_or_default()));
    fs::create_dir_all(&directory).map_err(|source| kubectl::unusable(&directory, &source))?;
    // Logs may say what is not meant for other users.
    let _ = fs::set_permissions(all, fs::Permissions::from_mode(0o700));
    remove_old(all, SystemTime::now());
    Ok(directory)
}

/// Removes all but the newest directories, and those that are old.
fn remove_old(all: &Path, now: SystemTime) {
    let entries = fs::read_dir(all).into_iter().flatten().flatten();
    let mut dated: Vec<(SystemTime, PathBuf)> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    dated.sort();
    dated.reverse();
    let is_old = |time: SystemTime| now.duration_since(time).is_ok_and(|age| age > MAX_AGE);
    for (number, (time, path)) in dated.into_iter().enumerate() {
        if number >= MAX_KEPT || is_old(time) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_ten_directories_stay_for_two_weeks() {
        let all = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for age in 0..12_u32 {
            let path = all.path().join(format!("a-{age}"));
            fs::create_dir(&path).unwrap();
            fs::File::open(&path).unwrap().set_modified(now - Duration::from_secs(60) * age).unwrap();
        }
        remove_old(all.path(), now);
        let left = || fs::read_dir(all.path()).unwrap().count();
        assert_eq!(left(), 10);
        assert!(all.path().join("a-9").exists() && !all.path().join("a-10").exists());
        remove_old(all.path(), now + MAX_AGE - Duration::from_secs(30));
        assert_eq!(left(), 1);
    }
}
