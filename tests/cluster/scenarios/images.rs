//! `load image-archive`, from a file, compressed, and from standard input.

use std::fs::File;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::cleanup;
use crate::harness::cluster::Cluster;
use crate::harness::run::{contains, docker, ensure};

/// Makes an image with one small file that is in no other image, and saves it.
pub(super) fn archive(cluster: &Cluster, tag: &str) -> Result<(String, String), String> {
    let text = |error: std::io::Error| error.to_string();
    let image = format!("{}{tag}:{}", cleanup::PREFIX, std::process::id());
    cleanup::register_object("image", &image);
    let content = cluster.home.join(format!("{tag}-content.tar"));
    let mut tar = tar::Builder::new(File::create(&content).map_err(text)?);
    let mut header = tar::Header::new_gnu();
    header.set_size(image.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "marker", image.as_bytes()).map_err(text)?;
    tar.into_inner().map_err(text)?;
    docker(&["import", "--change=CMD [\"/marker\"]", &content.display().to_string(), &image])?;
    let path = cluster.home.join(format!("{tag}.tar")).display().to_string();
    docker(&["save", "--output", &path, &image])?;
    Ok((image, path))
}

fn is_loaded(cluster: &Cluster, image: &str) -> Result<(), String> {
    let images = cluster.in_node("crictl images --output json")?;
    contains(&images, &format!("docker.io/library/{image}"))
}

pub(super) fn archives(cluster: &Cluster) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let (image, path) = archive(cluster, "file")?;
    cluster.coracle(&["load", "image-archive", &path])?;
    is_loaded(cluster, &image)?;

    let (image, path) = archive(cluster, "gzip")?;
    let packed = format!("{path}.gz");
    let mut encoder = GzEncoder::new(File::create(&packed).map_err(text)?, Compression::fast());
    encoder.write_all(&std::fs::read(&path).map_err(text)?).map_err(text)?;
    encoder.finish().map_err(text)?;
    cluster.coracle(&["load", "image-archive", &packed])?;
    is_loaded(cluster, &image)?;

    let (image, path) = archive(cluster, "stdin")?;
    cluster.coracle_reading(&["load", "image-archive", "-"], File::open(&path).map_err(text)?)?;
    is_loaded(cluster, &image)?;

    let broken = cluster.write("broken.tar", "this is no archive")?;
    let output = cluster.coracle_output(&["load", "image-archive", &broken])?;
    ensure(output.code != 0, || "a file that is no archive was loaded".to_owned())?;
    contains(&output.stderr, "error[")
}
