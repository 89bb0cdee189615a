//! The files of random images are in a node's containers what they are in the engine's own, down to the last attribute.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::chance::rounds;
use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, json};
use crate::harness::run::{contains, docker, ensure, eventually, run};
use crate::scenarios::{STORE, changes};

mod containers;
mod layers;
mod listing;
mod random;
mod tape;

use containers::Named;
use layers::Tree;
use listing::Listing;
use random::Random;

/// One image of so many, the last ones, has sparse files. Of those the engine cannot give the layers back: they come as an
/// archive.
const SPARSE_EVERY: usize = 5;
/// Of every so many images containers are run.
const RUN_EVERY: usize = 10;
/// Images have at most this many layers.
const DEEPEST: usize = 9;
/// Every run makes the same images, unless this variable says otherwise.
const SEED: (&str, u64) = ("CORACLE_TEST_SEED", 5);
/// Where the images are mounted in the node.
const MOUNTS: &str = "/run/coracle-trees";
const LIMIT: Duration = Duration::from_secs(180);
/// Differences that are shown.
const SHOWN: usize = 5;

/// An image: its layers, lowest first, and what a container of it shows.
struct Image {
    layers: Vec<usize>,
    tree: Tree,
    /// Files with holes in its own layer, and directories that have got the set-group-ID bit.
    counts: (usize, usize),
}

/// How many images there are.
fn count() -> usize {
    rounds(100, 200)
}

/// The number of the first image with sparse files.
fn first_sparse() -> usize {
    count() - count() / SPARSE_EVERY
}

/// The engine and the node show the same files in all images.
pub(crate) fn equal(cluster: &Cluster) -> Result<(), String> {
    let seed = std::env::var(SEED.0).ok().and_then(|text| text.parse().ok()).unwrap_or(SEED.1);
    let repository = format!("{}trees-{}", cleanup::PREFIX, std::process::id());
    let mut random = Random(seed);
    let (dense, sparse) = (cluster.home.join("trees.tar"), cluster.home.join("sparse.tar"));
    let mut images = write_archive(&dense, &repository, &mut random, 0..first_sparse())?;
    images.extend(write_archive(&sparse, &repository, &mut random, first_sparse()..count())?);
    let names: Vec<String> = (0..images.len()).map(|number| format!("{repository}:{number}")).collect();
    for name in &names {
        cleanup::register_object("image", name);
    }
    for path in [&dense, &sparse] {
        let mut load = Command::new("docker");
        load.args(["load", "--quiet", "--input"]).arg(path);
        run(load, None, LIMIT)?.ok()?;
    }
    let arguments: Vec<&str> =
        ["load", "docker-image"].into_iter().chain(names[..first_sparse()].iter().map(String::as_str)).collect();
    cluster.coracle(&arguments)?;
    refused(cluster, &names, &images)?;
    cluster.coracle(&["load", "image-archive", &sparse.display().to_string()])?;

    mount_in_node(cluster, &names)?;
    let process = docker(&["inspect", "--format", "{{.State.Pid}}", &cluster.node()])?;
    let in_node = PathBuf::from(format!("/proc/{}/root{MOUNTS}", process.trim()));
    let engine = of_engine(cluster, &names, &images)?;
    let mut failures = Vec::new();
    for (number, (image, engine)) in images.iter().zip(&engine).enumerate() {
        let node = listing::list(&in_node.join(number.to_string()), |path| image.tree.is_timeless(path))?;
        let differences = listing::difference(engine, &node);
        failures.extend(differences.into_iter().map(|text| format!("image {number} of {:?}: {text}", image.layers)));
    }
    unmount_in_node(cluster)?;
    let run_too: Vec<Named<'_>> = names.iter().map(String::as_str).zip(&images).step_by(RUN_EVERY).collect();
    let [in_engine, in_kubelet] = containers::both(cluster, &run_too)?;
    for ((name, _), (engine, kubelet)) in run_too.iter().zip(in_engine.iter().zip(&in_kubelet)) {
        let differences = listing::difference(engine, kubelet);
        failures.extend(differences.into_iter().map(|text| format!("container of {name}: {text}")));
    }
    let mut remove = Command::new("docker");
    remove.args(["image", "rm", "--force"]).args(&names);
    run(remove, None, LIMIT)?.ok()?;
    tell(&images, &engine, &in_engine, seed)?;
    let count = failures.len();
    failures.truncate(SHOWN);
    ensure(count == 0, || format!("{count} files differ:\n{}", failures.join("\n")))
}

/// Says what was compared, and that it was enough.
fn tell(images: &[Image], engine: &[Listing], run: &[Listing], seed: u64) -> Result<(), String> {
    let files: usize = engine.iter().map(Listing::len).sum();
    let run_files: usize = run.iter().map(Listing::len).sum();
    let sparse: usize = images.iter().map(|image| image.counts.0).sum();
    let inherited: usize = images.iter().map(|image| image.counts.1).sum();
    println!(
        "        {files} files of {} images, {run_files} in containers of {}; written: {sparse} sparse files, \
         {inherited} directories with an inherited bit; seed {seed}",
        images.len(),
        run.len()
    );
    let enough = files > count() * 10 && run_files > run.len() * 10 && sparse > count() / 20 && inherited > 5;
    ensure(enough, || "too little was compared".to_owned())
}

/// What the engine has unpacked of files with holes it cannot put together again: such an image is refused, and the node
/// is as before.
fn refused(cluster: &Cluster, names: &[String], images: &[Image]) -> Result<(), String> {
    let found = names.iter().zip(images).find(|(_, image)| image.counts.0 > 0);
    let (name, _) = found.ok_or("no image has a sparse file")?;
    let before = cluster.in_node(STORE)?;
    let output = cluster.coracle_output(&["load", "docker-image", name])?;
    ensure(output.code == 1, || format!("it is taken: {}", output.told()))?;
    contains(&output.stderr, "could not verify layer data")?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let after = cluster.in_node(STORE)?;
        let changes = changes(&before, &after);
        ensure(changes.is_empty(), || format!("it left something: {}", changes.join(", ")))
    })
}

/// Writes images of these numbers into one archive, as `docker load` takes it. Each has one layer more than another one,
/// or is the first of a family. Only the last ones have files that are written with their holes.
fn write_archive(
    path: &Path,
    repository: &str,
    random: &mut Random,
    numbers: Range<usize>,
) -> Result<Vec<Image>, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut archive = tar::Builder::new(File::create(path).map_err(text)?);
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).map_err(text)
    };
    let mut images: Vec<Image> = Vec::new();
    let mut diff_ids: Vec<String> = Vec::new();
    let mut list: Vec<Value> = Vec::new();
    for number in numbers.clone() {
        let below = if random.one_in(5) { None } else { images.get(random.below(images.len())) };
        let below = below.filter(|image| image.layers.len() < DEEPEST);
        let nothing = Tree::default();
        let sparse = number >= first_sparse();
        let layer = layers::layer(random, below.map_or(&nothing, |image| &image.tree), sparse)?;
        diff_ids.push(format!("sha256:{:x}", Sha256::digest(&layer.tar)));
        add(&format!("{number}.tar"), &layer.tar)?;
        let layers: Vec<usize> = below.map_or(&[][..], |image| &image.layers).iter().copied().chain([number]).collect();
        let ids: Vec<&String> = layers.iter().map(|layer| &diff_ids[*layer - numbers.start]).collect();
        let config = json!({
            "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"), "os": "linux",
            "config": {"Cmd": ["/none"]}, "rootfs": {"type": "layers", "diff_ids": ids},
        });
        add(&format!("{number}.json"), config.to_string().as_bytes())?;
        let files: Vec<String> = layers.iter().map(|layer| format!("{layer}.tar")).collect();
        let tag = format!("{repository}:{number}");
        list.push(json!({"Config": format!("{number}.json"), "RepoTags": [tag], "Layers": files}));
        images.push(Image { layers, tree: layer.tree, counts: (layer.sparse, layer.inherited) });
    }
    add("manifest.json", Value::from(list).to_string().as_bytes())?;
    archive.finish().map_err(text)?;
    Ok(images)
}

/// Mounts each image where its number says, as containerd does for a container.
fn mount_in_node(cluster: &Cluster, names: &[String]) -> Result<(), String> {
    let script = format!(
        "mkdir -p {MOUNTS}; for name in \"$@\"; do mkdir {MOUNTS}/${{name##*:}}; echo $name; done |
         xargs -P 2 -I NAME bash -ec 'name=NAME; ctr -n k8s.io images mount docker.io/library/$name {MOUNTS}/${{name##*:}} >/dev/null'"
    );
    let mut command = Command::new("docker");
    command.args(["exec", &cluster.node(), "bash", "-ec", &script, "bash"]).args(names);
    run(command, None, LIMIT)?.ok().map(drop)
}

/// Removes the mounts, and the snapshots that they are views of.
fn unmount_in_node(cluster: &Cluster) -> Result<(), String> {
    let script =
        format!("umount {MOUNTS}/*; ctr -n k8s.io snapshots rm $(ls -d {MOUNTS}/*); rmdir {MOUNTS}/* {MOUNTS}");
    cluster.in_node(&script).map(drop)
}

/// What the engine's containers of these images show: its layers, mounted as it mounts them.
fn of_engine(cluster: &Cluster, names: &[String], images: &[Image]) -> Result<Vec<Listing>, String> {
    let directory = cluster.home.join("trees");
    let empty = directory.join("empty");
    std::fs::create_dir_all(&empty).map_err(|error| error.to_string())?;
    let arguments: Vec<&str> = ["image", "inspect"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let inspected = json(&docker(&arguments)?)?;
    let mut listings = Vec::new();
    for (image, found) in images.iter().zip(inspected.as_array().into_iter().flatten()) {
        let data = &found["GraphDriver"]["Data"];
        let parts = [data["UpperDir"].as_str(), data["LowerDir"].as_str(), empty.to_str()];
        let layers: Vec<&str> = parts.into_iter().flatten().flat_map(|part| part.split(':')).collect();
        let depth = layers.iter().collect::<BTreeSet<_>>().len() - 1;
        ensure(depth == image.layers.len(), || format!("the engine has {depth} layers: {data}"))?;
        let place = directory.join("mount");
        std::fs::create_dir_all(&place).map_err(|error| error.to_string())?;
        let options = format!("ro,lowerdir={}", layers.join(":"));
        let mut mount = Command::new("mount");
        mount.args(["-t", "overlay", "overlay", "-o", &options]).arg(&place);
        run(mount, None, LIMIT)?.ok()?;
        let listing = listing::list(&place, |path| image.tree.is_timeless(path));
        let mut unmount = Command::new("umount");
        unmount.arg(&place);
        run(unmount, None, LIMIT)?.ok()?;
        listings.push(listing?);
    }
    ensure(listings.len() == images.len(), || "the engine has not told of all images".to_owned())?;
    Ok(listings)
}
