//! No two modules use each other.
//!
//! Two modules are two files or directories beside each other. A directory uses what anything in it uses, so a circle between
//! two files of different directories is one of these directories. Handing an item on (`pub use`) is not using it, and
//! whoever gets it so uses the module that defines it. A `mod.rs` and its children may use each other: it is their shared
//! ground, and calls them.

use std::collections::BTreeMap;

use super::graph::{Graph, OWN, Use};

/// Pairs that are left from before this test.
const KNOWN: &[(&str, &str)] = &[("kubeconfig/document", "kubeconfig/proof")];

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

#[test]
fn no_two_modules_use_each_other() {
    let uses = neighbours(Graph::of("src/lib.rs").uses());
    let mut pairs = Vec::new();
    for ((one, other), there) in uses.iter().filter(|((one, other), _)| one < other) {
        if let Some(back) = uses.get(&(other.clone(), one.clone()))
            && !KNOWN.contains(&(one, other))
        {
            pairs.push(format!("{one} and {other} use each other:\n    {there}\n    {back}\n"));
        }
    }
    assert!(pairs.is_empty(), "{} pairs\n{}", pairs.len(), pairs.concat());
    let is_known = |(one, other): &&(&str, &str)| {
        let there = ((*one).to_owned(), (*other).to_owned());
        uses.contains_key(&there) && uses.contains_key(&(there.1.clone(), there.0.clone()))
    };
    let gone: Vec<_> = KNOWN.iter().filter(|pair| !is_known(pair)).collect();
    assert!(gone.is_empty(), "they do no longer; take them out of KNOWN: {gone:?}");
}
