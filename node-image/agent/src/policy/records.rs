//! Which addresses the pods of this node have got: files that the CNI plugin writes and the agent reads.
//!
//! The API learns the address of a pod when the pod is about to run, which is too late for its rules, and an agent that
//! starts anew must know what its predecessor was told.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::object::NamespacedName;

/// Below the agent's run directory, which is on a tmpfs: it ends with the node, as the pods do.
const DIRECTORY: &str = "pods";

/// The addresses of each pod.
pub(crate) type Records = BTreeMap<NamespacedName, Record>;

/// What a pod was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// ID of the sandbox, by which a later one of the same pod is told apart.
    pub(crate) container: String,
    pub(crate) addresses: Vec<IpAddr>,
}

fn path(run: &Path, pod: &NamespacedName) -> PathBuf {
    // No name of Kubernetes' has an underscore in it.
    run.join(DIRECTORY).join(format!("{}_{}", pod.namespace, pod.name))
}

/// Notes what a pod was given.
pub(crate) fn write(run: &Path, pod: &NamespacedName, record: &Record) -> io::Result<()> {
    let path = path(run, pod);
    fs::create_dir_all(run.join(DIRECTORY))?;
    // The name begins with a dot, so that nobody reads a file that is not whole.
    let temporary = run.join(DIRECTORY).join(format!(".{}", record.container));
    fs::write(&temporary, serde_json::to_vec(record)?)?;
    fs::rename(temporary, path)
}

/// Forgets a pod's sandbox, unless it has another one meanwhile.
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

/// All pods that were noted.
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
        // A file that went meanwhile is a pod that went.
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
    fn the_sandbox_that_goes_late_does_not_take_the_record_of_the_next_one() {
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
