//! Archives: good ones of every layout are understood, damaged ones refused as a whole.

use proptest::prelude::*;
use serde_json::json;

use crate::error::{Code, Error, Result};
use crate::image::archive::digest::digest;
use crate::image::archive::images::resolve;
use crate::image::archive::layout::ArchiveImage;
use crate::image::archive::scan::{Check, scan};
use crate::image::archive::testing::{OciArchive, docker_archive, docker_archive_by_name, gzip, layer, tar_of, zstd};
use crate::image::platform::Platform;

fn node() -> Platform {
    Platform::of_engine("x86_64")
}

fn read(archive: &[u8]) -> Result<Vec<ArchiveImage>> {
    resolve(&scan(archive, Check::Everything, &mut |_, _| Ok(()))?, &node()).map(|contents| contents.images)
}

fn refusal(archive: &[u8]) -> Error {
    read(archive).expect_err("the archive is damaged")
}

fn names(images: &[ArchiveImage]) -> Vec<String> {
    images.iter().flat_map(|image| &image.names).map(ToString::to_string).collect()
}

#[test]
fn dockers_old_layout_is_understood() {
    let archive = docker_archive(&["app:1", "registry.test:5000/team/app:2"], &["one", "two", "one"]);
    let images = read(&archive).unwrap();
    assert_eq!(names(&images), ["docker.io/library/app:1", "registry.test:5000/team/app:2"]);
    assert_eq!(images[0].layers.len(), 3);
    assert_eq!(read(&gzip(&archive)).unwrap(), images);
    assert_eq!(read(&zstd(&archive)).unwrap(), images);
}

#[test]
fn an_image_that_is_listed_once_for_each_name_has_all_of_them() {
    let images = read(&docker_archive_by_name(&["a:1", "b:1", "a:1"], &["one"])).unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(names(&images), ["docker.io/library/a:1", "docker.io/library/b:1"]);
}

/// As an engine with containerd's store saves it: the whole index, one platform's blobs, attestations left out.
fn multi_platform() -> (Vec<u8>, String) {
    let mut oci = OciArchive::default();
    let mine = oci.image(&["one", "two"], "amd64");
    let other = oci.image(&["three"], "arm64");
    let mut attestation = oci.blob("application/vnd.oci.image.manifest.v1+json", b"{\"layers\":[]}".to_vec());
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let index = oci.index(&[other.clone(), mine.clone(), attestation.clone()]);
    oci.list(index, &json!({"io.containerd.image.name": "docker.io/library/app:1"}));
    oci.remove_descriptor(&other);
    oci.remove_descriptor(&attestation);
    (oci.build(), mine["digest"].as_str().unwrap().to_owned())
}

#[test]
fn an_index_with_missing_platforms_is_reduced_to_the_nodes_one() {
    let (archive, manifest) = multi_platform();
    let images = read(&archive).unwrap();
    let found = images[0].manifest.as_ref().unwrap();
    assert_eq!(digest(found.content.as_bytes()), manifest);
    assert_eq!(names(&images), ["docker.io/library/app:1"]);
    assert_eq!(found.media_type, "application/vnd.oci.image.manifest.v1+json");
}

#[test]
fn names_come_from_whichever_note_has_them() {
    for (annotations, name) in [
        (
            json!({"io.containerd.image.name": "app:1", "org.opencontainers.image.ref.name": "1"}),
            "docker.io/library/app:1",
        ),
        (json!({"org.opencontainers.image.ref.name": "docker.io/team/app:3"}), "docker.io/team/app:3"),
        (json!({"org.opencontainers.image.ref.name": "v7"}), "localhost/loaded:v7"),
    ] {
        let mut oci = OciArchive::default();
        let image = oci.image(&["one"], "amd64");
        oci.list(image, &annotations);
        assert_eq!(names(&read(&oci.build()).unwrap()), [name]);
    }
    let mut oci = OciArchive::default();
    let image = oci.image(&["one"], "amd64");
    oci.list(image, &json!({}));
    assert_eq!(names(&read(&oci.build()).unwrap()), [""; 0]);
}

#[test]
fn what_is_no_image_is_passed_over() {
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let artifact = |oci: &mut OciArchive, artifact: &str, config: &str, layer: &str| {
        let (config, layer) = (oci.blob(config, b"{}".to_vec()), oci.blob(layer, artifact.as_bytes().to_vec()));
        let text = json!({"mediaType": manifest, "artifactType": artifact, "config": config, "layers": [layer]});
        oci.blob(manifest, text.to_string().into_bytes())
    };
    let kinds = [
        ("", "application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
        ("application/vnd.example", "application/vnd.oci.empty.v1+json", "text/plain"),
        ("", "application/vnd.unknown.config.v1+json", "text/x-notes"),
        ("", "application/vnd.oci.image.config.v1+json", "application/vnd.dev.cosign.simplesigning.v1+json"),
    ];
    let mut oci = OciArchive::default();
    for (number, (kind, config, layer)) in kinds.into_iter().enumerate() {
        let found = artifact(&mut oci, kind, config, layer);
        oci.list(found, &json!({"org.opencontainers.image.ref.name": format!("Sha256-{number}.sig")}));
    }
    let early =
        json!({"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "artifactType": "a/early", "blobs": []});
    let early = oci.blob("application/vnd.oci.artifact.manifest.v1+json", early.to_string().into_bytes());
    oci.list(early, &json!({"org.opencontainers.image.ref.name": "early"}));
    let only = OciArchive::default();
    let image = oci.image(&["one"], "amd64");
    let attached = artifact(&mut oci, "a/b", "application/vnd.oci.empty.v1+json", "c/d");
    let index = oci.index(&[attached, image]);
    oci.list(index, &json!({"io.containerd.image.name": "app:1"}));
    let missing = format!("sha256:{}", "0".repeat(64));
    let note = json!({"mediaType": "application/xml", "digest": missing, "size": 4});
    oci.list(note, &json!({"org.opencontainers.image.ref.name": "note"}));
    let found = scan(&*oci.build(), Check::Everything, &mut |_, _| Ok(())).unwrap();
    let contents = resolve(&found, &node()).unwrap();
    assert_eq!(names(&contents.images), ["docker.io/library/app:1"]);
    let others: Vec<(&str, &str)> = contents.others.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
    assert_eq!(
        others,
        [
            ("Sha256-0.sig", "application/vnd.cncf.helm.config.v1+json"),
            ("Sha256-1.sig", "application/vnd.example"),
            ("Sha256-2.sig", "text/x-notes"),
            ("Sha256-3.sig", "application/vnd.dev.cosign.simplesigning.v1+json"),
            ("early", "a/early"),
            ("note", "application/xml"),
        ]
    );
    let mut only = only;
    let chart = artifact(&mut only, "", kinds[0].1, kinds[0].2);
    only.list(chart, &json!({"org.opencontainers.image.ref.name": "chart:1"}));
    let error = refusal(&only.build());
    assert_eq!(error.cause(), Some("it contains no image; `chart:1` is application/vnd.cncf.helm.config.v1+json"));
}

#[test]
fn an_image_for_another_platform_is_named() {
    let mut oci = OciArchive::default();
    let image = oci.image(&["one"], "arm64");
    oci.list(image, &json!({"io.containerd.image.name": "app:1"}));
    let error = refusal(&oci.build());
    assert_eq!(error.code(), Code::LoadFailed);
    assert_eq!(error.to_string(), "image `app:1` is for linux/arm64, but the nodes are linux/amd64");
}

#[test]
fn a_fitting_image_with_a_missing_layer_is_refused() {
    let mut oci = OciArchive::default();
    let image = oci.image(&["one", "two"], "amd64");
    let lost = json!({"digest": digest(&gzip(&layer("two")))});
    let index = oci.index(&[image]);
    oci.list(index, &json!({"io.containerd.image.name": "app:1"}));
    oci.remove_descriptor(&lost);
    let error = refusal(&oci.build());
    assert_eq!(error.code(), Code::ArchiveInvalid);
    assert!(error.cause().unwrap().contains("is missing"), "{error}");
}

#[test]
fn what_is_no_image_archive_is_refused_with_a_reason() {
    let filesystem = tar_of(&[("bin/sh".to_owned(), b"x".to_vec())]);
    let cut = docker_archive(&["app:1"], &["one"]);
    for (bytes, reason) in [
        (&b""[..], "it is empty"),
        (b"<html>no such page</html>", "it is not a tar archive"),
        (&[b'x'; 2000], "it is not a tar archive"),
        (&filesystem, "it has neither `manifest.json` nor `oci-layout`"),
        (b"\x28\xb5\x2f\xfd....", "it is not a tar archive"),
        (b"BZh91AY", "it is compressed with bzip2"),
        (&cut[..cut.len() / 2], "it is cut off"),
        (&gzip(&cut)[..200], "it is cut off"),
        (&tar_of(&[("manifest.json".to_owned(), b"[]".to_vec())]), "it contains no image"),
        (&tar_of(&[("manifest.json".to_owned(), b"{]".to_vec())]), "its file `manifest.json` is damaged"),
    ] {
        let error = refusal(bytes);
        assert_eq!(error.code(), Code::ArchiveInvalid);
        let cause = error.cause().unwrap();
        assert!(cause.starts_with(reason), "{cause} / {reason}");
    }
}

#[test]
fn an_image_in_a_directory_of_ocis_layout_is_found() {
    let (archive, manifest) = multi_platform();
    let directory = tempfile::tempdir().unwrap();
    tar::Archive::new(archive.as_slice()).unpack(directory.path()).unwrap();
    let found = crate::image::archive::directory::scan(directory.path(), Check::Everything).unwrap();
    let images = resolve(&found, &node()).unwrap().images;
    assert_eq!(images, read(&archive).unwrap());
    assert_eq!(images[0].listed.is_some(), !manifest.is_empty());
}

/// What must not change unnoticed.
fn identity(images: &[ArchiveImage]) -> Vec<(String, String)> {
    images.iter().map(|image| (image.id.clone(), image.config.clone())).collect()
}

fn samples() -> Vec<Vec<u8>> {
    let docker = docker_archive(&["app:1"], &["one", "two", "one"]);
    let packed = [gzip(&docker), zstd(&docker)];
    [vec![docker, multi_platform().0], packed.into()].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_cut_archive_never_passes_for_another_image(sample in 0_usize..4, at in 0.0_f64..1.0) {
        let archive = &samples()[sample];
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in it")]
        let at = (archive.len() as f64 * at) as usize;
        let whole = read(archive).unwrap();
        match read(&archive[..at]) {
            // Only the padding at the end may be missing.
            Ok(images) => prop_assert_eq!(images, whole),
            Err(error) => prop_assert_eq!(error.code(), Code::ArchiveInvalid),
        }
    }

    #[test]
    fn a_flipped_byte_never_changes_an_image_unnoticed(sample in 0_usize..4, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut archive = samples()[sample].clone();
        let whole = identity(&read(&archive).unwrap());
        let at = at.index(archive.len());
        archive[at] ^= 1 << bit;
        match read(&archive) {
            Ok(images) => prop_assert_eq!(identity(&images), whole),
            Err(error) => prop_assert!(matches!(error.code(), Code::ArchiveInvalid | Code::LoadFailed)),
        }
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        prop_assert!(read(&bytes).is_err());
    }
}
