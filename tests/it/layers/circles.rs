//! No modules use each other, neither two of them nor several in a circle.
//!
//! Two modules are two files or directories beside each other. A directory uses what anything in it uses, so a circle between
//! two files of different directories is one of these directories. Handing an item on (`pub use`) is not using it, and
//! whoever gets it so uses the module that defines it. A `mod.rs` and its children may use each other: it is their shared
//! ground, and calls them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::graph::{Graph, OWN, Use};

/// The first place where one of two modules beside each other uses the other one, by their names.
fn neighbours(uses: Vec<Use>) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for one in uses.into_iter().filter(|one| !one.is_export) {
        let shared = one.from.iter().zip(&one.to).take_while(|(from, to)| from == to).count();
        if one.from[shared] == OWN || one.to[shared] == OWN {
            continue;
        }
        let name = |path: &[String]| path[..=shared].join("/");
        found.entry((name(&one.from), name(&one.to))).or_insert(one.place);
    }
    found
}

/// The shortest way from one module to another one: the places where each uses the next.
fn way<'u>(uses: &'u BTreeMap<(String, String), String>, from: &'u str, to: &str) -> Option<Vec<&'u str>> {
    let mut ways = VecDeque::from([(from, Vec::new())]);
    let mut known = BTreeSet::from([from]);
    while let Some((at, places)) = ways.pop_front() {
        for ((_, next), place) in uses.iter().filter(|((one, _), _)| one == at) {
            let places = [&places[..], &[place.as_str()]].concat();
            if next == to {
                return Some(places);
            }
            if known.insert(next) {
                ways.push_back((next, places));
            }
        }
    }
    None
}

#[test]
fn no_modules_use_each_other() {
    let uses = neighbours(Graph::of("src/lib.rs").uses());
    let mut circles = BTreeSet::new();
    for ((one, other), there) in uses.iter().filter(|((one, other), _)| one != other) {
        if let Some(back) = way(&uses, other, one) {
            let mut places = [&[there.as_str()][..], &back].concat();
            places.sort_unstable();
            circles.insert(format!("{}\n", places.join("\n    ")));
        }
    }
    let all: String = circles.iter().map(String::as_str).collect();
    assert!(circles.is_empty(), "{} circles\n{all}", circles.len());
}
