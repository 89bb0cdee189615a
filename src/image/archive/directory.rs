//! A directory in OCI's layout, read like an archive of the same files.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::error::{Code, Error, Result};
use crate::image::archive::invalid::invalid;
use crate::image::archive::scan::{Check, Scan, read_file};

/// Files beside the blobs; the last one is Docker's.
const LISTS: &[&str] = &["oci-layout", "index.json", "manifest.json"];

/// Reads the directory's lists and blobs.
pub(crate) fn scan(directory: &Path, check: Check) -> Result<Scan> {
    let failed = |path: &Path, source: &io::Error| {
        Error::new(Code::FileFailed, format!("cannot read `{}`", path.display())).with_cause(source)
    };
    let entries = |path: &Path| -> Result<Vec<String>> {
        let entries = fs::read_dir(path).map_err(|source| failed(path, &source))?;
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(|source| failed(path, &source))?.file_name();
            names.push(name.into_string().map_err(|_| invalid("one of its file names is not UTF-8"))?);
        }
        names.sort();
        Ok(names)
    };
    if !directory.join(LISTS[0]).is_file() {
        return Err(Error::new(Code::ArchiveInvalid, format!("`{}` is a directory", directory.display()))
            .because(format!("it has no file `{}`, so it does not have OCI's layout", LISTS[0]))
            .hint("give the path of an archive, or of a directory in OCI's layout from Buildx, Podman or Skopeo"));
    }
    let mut paths: Vec<String> = LISTS.iter().map(|name| (*name).to_owned()).collect();
    paths.retain(|path| directory.join(path).is_file());
    let blobs = directory.join("blobs");
    for algorithm in if blobs.is_dir() { entries(&blobs)? } else { Vec::new() } {
        let names = entries(&blobs.join(&algorithm))?;
        paths.extend(names.into_iter().map(|name| format!("blobs/{algorithm}/{name}")));
    }
    let mut found = Scan::default();
    for path in paths {
        let full = directory.join(&path);
        let mut file = File::open(&full).map_err(|source| failed(&full, &source))?;
        let size = file.metadata().map_err(|source| failed(&full, &source))?.len();
        let facts = read_file(&mut file, &path, size, check, &mut found.kept, &mut |_, _| Ok(()))?;
        found.files.insert(path, facts);
    }
    Ok(found)
}
