//! The addresses of the pods of this node, in files that the CNI plugin writes and the agent reads.
//!
//! The API learns the address of a pod only when the pod is about to run, which is too late for its rules; and an agent
//! that restarts must know what its predecessor knew.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::object::NamespacedName;

/// Below the agent's run directory, which is on a tmpfs: it is lost when the node stops, like the pods.
const DIRECTORY: &str = "pods";

/// The addresses of each pod.
pub(crate) type Records = BTreeMap<NamespacedName, Record>;

/// The sandbox and the addresses of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// ID of the sandbox, which distinguishes it from a later one of the same pod.
    pub(crate) container: String,
    pub(crate) addresses: Vec<IpAddr>,
}

fn path(run: &Path, pod: &NamespacedName) -> PathBuf {
    // Names in Kubernetes have no underscores.
    run.join(DIRECTORY).join(format!("{}_{}", pod.namespace, pod.name))
}

/// Records the sandbox and the addresses of a pod.
pub(crate) fn write(run: &Path, pod: &NamespacedName, record: &Record) -> io::Result<()> {
    let path = path(run, pod);
    fs::create_dir_all(run.join(DIRECTORY))?;
    // The name begins with a dot, so that an incomplete file is never read.
    let temporary = run.join(DIRECTORY).join(format!(".{}", record.container));
    fs::write(&temporary, serde_json::to_vec(record)?)?;
    fs::rename(temporary, path)
}

/// Removes the record of a pod's sandbox, unless the pod has another one by now.
pub(crate) fn remove(run: &Path, pod: &NamespacedName, container: &str) -> io::Result<()> {
    let path = path(run, pod);
    match read(&path) {
        Ok(record) if record.container != container => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        _ => {}
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// All recorded pods.
pub(crate) fn load(run: &Path) -> io::Result<Records> {
    let entries = match fs::read_dir(run.join(DIRECTORY)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Records::new()),
        entries => entries?,
    };
    let mut records = Records::new();
    for entry in entries {
        let entry = entry?;
        let file = entry.file_name();
        let Some((namespace, name)) = file.to_str().and_then(|name| name.split_once('_')) else { continue };
        // A file that disappeared belongs to a pod that was removed.
        if let Ok(record) = read(&entry.path()) {
            records.insert(NamespacedName { namespace: namespace.to_owned(), name: name.to_owned() }, record);
        }
    }
    Ok(records)
}

fn read(path: &Path) -> io::Result<Record> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> NamespacedName {
        NamespacedName { namespace: "n".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn a_sandbox_that_is_removed_late_does_not_remove_the_record_of_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path();
        assert_eq!(load(run).unwrap(), Records::new());
        let record = |container: &str, address: &str| Record {
            container: container.to_owned(),
            addresses: vec![address.parse().unwrap()],
        };
        write(run, &pod("a"), &record("1", "10.1.0.2")).unwrap();
        write(run, &pod("a"), &record("2", "10.1.0.3")).unwrap();
        write(run, &pod("b.c"), &record("3", "fd00::3")).unwrap();
        remove(run, &pod("a"), "1").unwrap();
        let expected = Records::from([(pod("a"), record("2", "10.1.0.3")), (pod("b.c"), record("3", "fd00::3"))]);
        assert_eq!(load(run).unwrap(), expected);
        remove(run, &pod("a"), "2").unwrap();
        remove(run, &pod("a"), "2").unwrap();
        assert_eq!(load(run).unwrap().len(), 1);
    }
}
