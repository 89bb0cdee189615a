//! Images of the engine by what users call them, and what to say when the engine has none of that name.

use crate::engine::Engine;
use crate::error::{Code, Error, Problem, Result};
use crate::image::load::wanted::WantedImage;
use crate::image::reference::{Reference, is_id};
use crate::image::similar::similar;

/// Fails with `Code::ImageMissing` when the engine does not have all of the images.
pub async fn check_docker_images(engine: &dyn Engine, images: &[String]) -> Result<()> {
    look_up(engine, images).await.map(drop)
}

/// Looks the images up. `Code::UsageInvalid` lists every text that is no name, `Code::ImageMissing` every missing image.
pub(crate) async fn look_up(engine: &dyn Engine, images: &[String]) -> Result<Vec<WantedImage>> {
    check_names(images)?;
    let mut wanted: Vec<WantedImage> = Vec::new();
    let mut absent = Vec::new();
    for text in images {
        let Some(image) = engine.image(text).await? else {
            absent.push(text.as_str());
            continue;
        };
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
    if absent.is_empty() { Ok(wanted) } else { Err(images_missing(engine, &absent).await?) }
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
    Ok(error.hint(format!(
        "`docker images` lists the images of the engine; `docker pull {first}` or `docker build --tag {first} .` adds this one"
    )))
}
