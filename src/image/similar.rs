//! Names that a user may have meant.

/// Names this similar (Jaro-Winkler) are suggested.
const SIMILAR: f64 = 0.75;
/// How many names are suggested.
const SUGGESTIONS: usize = 3;

/// The names that are most similar to one of the texts.
pub(crate) fn similar(texts: &[&str], names: &[String]) -> Vec<String> {
    let mut similar: Vec<(f64, &String)> = names
        .iter()
        .filter_map(|name| {
            let likeness = texts.iter().map(|text| likeness(text, name)).fold(0.0, f64::max);
            (likeness >= SIMILAR).then_some((likeness, name))
        })
        .collect();
    similar.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(other.1)));
    similar.into_iter().take(SUGGESTIONS).map(|(_, name)| name.clone()).collect()
}

fn likeness(text: &str, tag: &str) -> f64 {
    let bare = tag.rsplit_once(':').map_or(tag, |(name, _)| name);
    strsim::jaro_winkler(text, tag).max(strsim::jaro_winkler(text, bare))
}
