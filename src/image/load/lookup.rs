//! Images of the engine by what users call them, and what to say when the engine has none of that name.

use crate::engine::Engine;
use crate::error::{Code, Error, Problem, Result};
use crate::image::archive::layout::wrong_platform;
use crate::image::load::wanted::WantedImage;
use crate::image::platform::Platform;
use crate::image::reference::{Reference, is_id};
use crate::image::similar::similar;

/// Fails with `Code::ImageMissing` when the engine does not have all of the images, and with `Code::LoadFailed` when one
/// is for another platform.
pub async fn check_docker_images(engine: &dyn Engine, images: &[String]) -> Result<()> {
    if images.is_empty() {
        return Ok(());
    }
    let platform = Platform::of_engine(&engine.info().await?.architecture);
    look_up(engine, images, &platform).await.map(drop)
}

/// Looks the images up. `Code::UsageInvalid` lists every text that is no name, `Code::ImageMissing` every missing image,
/// `Code::LoadFailed` every one that nodes of this platform cannot run.
pub(crate) async fn look_up(engine: &dyn Engine, images: &[String], node: &Platform) -> Result<Vec<WantedImage>> {
    check_names(images)?;
    let mut wanted: Vec<WantedImage> = Vec::new();
    let mut absent = Vec::new();
    let mut foreign = Vec::new();
    for text in images {
        let Some(image) = engine.image(text).await? else {
            absent.push(text.as_str());
            continue;
        };
        let platform = Platform::of_image(&image);
        if platform.distance(node).is_none() {
            foreign.push((text.as_str(), platform));
        }
        // An ID has no name to load it under.
        let by_id = is_id(text, &image.id) && !image.tags.iter().any(|tag| tag.split(':').next() == Some(text));
        let (key, names) = if by_id {
            (image.id.clone(), Vec::new())
        } else {
            let reference: Reference = text.parse()?;
            (reference.familiar(), vec![reference])
        };
        // Several names may mean one image: it is sent once, and gets all of them.
        match wanted.iter_mut().find(|other| other.id == image.id) {
            Some(known) => {
                known.names.extend(names.into_iter().filter(|name| !known.names.contains(name)).collect::<Vec<_>>());
            }
            None => wanted.push(WantedImage { key, id: image.id, names, diff_ids: image.layers, size: image.size }),
        }
    }
    if !absent.is_empty() {
        return Err(images_missing(engine, &absent).await?);
    }
    refused(&foreign, node).map_or(Ok(wanted), Err)
}

/// The error for images that nodes cannot run.
fn refused(foreign: &[(&str, Platform)], node: &Platform) -> Option<Error> {
    let error = |(text, platform): &(&str, Platform)| wrong_platform(&format!("`{text}`"), platform, node);
    if let [one] = foreign {
        return Some(error(one));
    }
    let first = error(foreign.first()?);
    let problems = foreign.iter().map(|(text, platform)| Problem {
        place: format!("`{text}`"),
        message: format!("it is for {platform}"),
        snippet: None,
    });
    let all = Error::new(Code::LoadFailed, format!("{} images are not for {node}, as the nodes are", foreign.len()));
    Some(all.with_problems(problems.collect()).with_hints(first.hints()))
}

fn check_names(images: &[String]) -> Result<()> {
    let named = images.iter().filter(|text| !is_id(text, text));
    let mut refused: Vec<(&String, Error)> =
        named.filter_map(|text| Some((text, text.parse::<Reference>().err()?))).collect();
    if refused.len() < 2 {
        return refused.pop().map_or(Ok(()), |(_, why)| Err(why));
    }
    let problem = |(text, why): (&String, Error)| Problem {
        place: format!("`{text}`"),
        message: why.cause().unwrap_or_default().to_owned(),
        snippet: None,
    };
    Err(Error::new(Code::UsageInvalid, "these are not image names")
        .with_problems(refused.into_iter().map(problem).collect()))
}

async fn images_missing(engine: &dyn Engine, absent: &[&str]) -> Result<Error> {
    let tags: Vec<String> = engine.images().await?.into_iter().flat_map(|image| image.tags).collect();
    let similar = similar(absent, &tags);
    let names = absent.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
    let what = if absent.len() == 1 { "the engine has no image" } else { "the engine does not have the images" };
    let error = Error::new(Code::ImageMissing, format!("{what} {names}"));
    let first = absent.first().copied().unwrap_or_default();
    let error = if similar.is_empty() { error } else { error.hint(format!("similar names: {}", similar.join(", "))) };
    // A digest is what an image turns out to have; nothing can be built under it.
    let build = if first.contains('@') { String::new() } else { format!(" or `docker build --tag {first} .`") };
    Ok(error
        .hint(format!("`docker images` lists the images of the engine; `docker pull {first}`{build} adds this one")))
}

#[cfg(test)]
mod tests {
    use crate::engine::spec::Image;
    use crate::error::Code;
    use crate::image::archive::testing::docker_archive;
    use crate::image::load::tests::{engine_with, id_of, image, list, load};

    #[tokio::test]
    async fn images_for_another_platform_are_refused_by_name() {
        let of = |id: &str, tag: &str, architecture: &str| Image {
            platform: ("linux".to_owned(), architecture.to_owned(), String::new()),
            ..image(id, &[tag])
        };
        let archive = docker_archive(&["app:1"], &["one"]);
        let images = vec![
            of("sha256:1", "arm:1", "arm64"),
            of("sha256:2", "ibm:1", "s390x"),
            image(&id_of(&archive), &["app:1"]),
        ];
        let (engine, stores) = engine_with(&list(&["a"]), images, archive).await;
        let error = load(&engine, &list(&["a"]), &["app:1", "arm:1"]).await.unwrap_err();
        assert_eq!(error.code(), Code::LoadFailed);
        assert_eq!(error.to_string(), "image `arm:1` is for linux/arm64, but the nodes are linux/amd64");
        let error =
            crate::image::check_docker_images(&*engine, &["arm:1".to_owned(), "ibm:1".to_owned()]).await.unwrap_err();
        let places: Vec<&str> = error.problems().iter().map(|problem| problem.place.as_str()).collect();
        assert_eq!(places, ["`arm:1`", "`ibm:1`"]);
        assert!(stores.lock().unwrap().get("a").is_none_or(|store| store.names.is_empty()));
        // An image that does not tell its platform passes.
        load(&engine, &list(&["a"]), &["app:1"]).await.unwrap();
    }
}
