//! Disabling add-ons: exactly what enabling made, and what users made with it only if they say so.

use serde_json::Value;

use crate::cluster::addon::objects::ADDON_LABEL;
use crate::cluster::addon::state::{self, Enabled};
use crate::cluster::addon::target::Target;
use crate::error::{Code, Error, Result};
use crate::kubernetes::{Failure, manifest, object};

/// How many objects of users an error lists.
const MAX_SHOWN: usize = 10;

/// What became of an add-on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disabled {
    /// It was enabled, and is disabled now.
    Removed(String),
    /// It was not enabled.
    Absent(String),
    /// It was required by another add-on, and stays because users have objects of its kinds.
    Kept(String),
}

/// Disables add-ons, and those that only they required.
///
/// `Code::AddonInUse` if an add-on that stays requires one of them, or, unless `force`, if users have objects of its kinds,
/// which would be deleted with it.
pub async fn disable(target: &Target<'_>, names: &[String], force: bool) -> Result<Vec<Disabled>> {
    let mut enabled = state::enabled(target.client).await?;
    check_required(&enabled, names)?;
    if !force {
        check_unused(target, &enabled, names).await?;
    }
    let mut results = Vec::new();
    let mut queue: Vec<(String, bool)> = names.iter().map(|name| (name.clone(), true)).collect();
    // Those that require others go first.
    queue.sort_by_key(|(name, _)| enabled.iter().filter(|other| other.requires.contains(name)).count());
    while !queue.is_empty() {
        let (name, wanted) = queue.remove(0);
        let Some(index) = enabled.iter().position(|other| other.name == name) else {
            if wanted {
                results.push(Disabled::Absent(name));
            }
            continue;
        };
        if !wanted && !user_objects(target, &enabled[index]).await?.is_empty() {
            results.push(Disabled::Kept(name));
            continue;
        }
        let addon = enabled.remove(index);
        let step = target.run.ui.step(format!("Disabling add-on {}", addon.name));
        let objects = [vec![state::marker_of(&addon.name)], addon.objects].concat();
        manifest::delete(target.client, &objects, (ADDON_LABEL, &addon.name), target.run.deadline).await?;
        step.finish();
        for name in &addon.requires {
            let needed = enabled.iter().any(|other| other.requires.contains(name));
            let automatic = enabled.iter().any(|other| other.name == *name && other.automatic);
            if automatic && !needed && !queue.iter().any(|(other, _)| other == name) {
                queue.push((name.clone(), false));
            }
        }
        results.push(Disabled::Removed(addon.name));
    }
    Ok(results)
}

/// Refuses to disable what an add-on that stays requires.
fn check_required(enabled: &[Enabled], names: &[String]) -> Result<()> {
    for name in names.iter().filter(|name| enabled.iter().any(|addon| addon.name == **name)) {
        let requires = |addon: &&Enabled| addon.requires.contains(name) && !names.contains(&addon.name);
        if let Some(other) = enabled.iter().find(requires) {
            return Err(Error::new(Code::AddonInUse, format!("add-on `{name}` is required"))
                .because(format!("add-on `{}` requires it", other.name))
                .hint(format!("disable both: `coracle addon disable {} {name}`", other.name)));
        }
    }
    Ok(())
}

async fn check_unused(target: &Target<'_>, enabled: &[Enabled], names: &[String]) -> Result<()> {
    for addon in enabled.iter().filter(|addon| names.contains(&addon.name)) {
        let objects = user_objects(target, addon).await?;
        if objects.is_empty() {
            continue;
        }
        let more = objects.len().saturating_sub(MAX_SHOWN);
        let more = (more > 0).then(|| format!("and {more} more"));
        return Err(Error::new(Code::AddonInUse, format!("add-on `{}` is in use", addon.name))
            .because(format!("{} objects of its kinds exist and would be deleted with it", objects.len()))
            .with_lines(objects.into_iter().take(MAX_SHOWN).chain(more))
            .hint("delete them first, or delete them with it: `--force`"));
    }
    Ok(())
}

/// Objects of the kinds that an add-on defines, made by users.
async fn user_objects(target: &Target<'_>, addon: &Enabled) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for definition in addon.objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition") {
        let name = object::name(definition);
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
        let list = match target.client.get(&path).await {
            Ok(definition) => match collection(&definition) {
                Some(path) => target.client.get(&path).await,
                None => continue,
            },
            Err(failure) => Err(failure),
        };
        match list {
            Ok(list) => found.extend(of_users(&list)),
            Err(Failure::Status(404, ..)) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok(found)
}

/// Where the objects of a defined kind are listed.
fn collection(definition: &Value) -> Option<String> {
    let spec = &definition["spec"];
    let served = spec["versions"].as_array()?.iter().find(|version| version["served"] == true)?;
    Some(format!(
        "/apis/{}/{}/{}",
        spec["group"].as_str()?,
        served["name"].as_str()?,
        spec["names"]["plural"].as_str()?
    ))
}

/// The objects of a list that do not belong to an add-on.
fn of_users(list: &Value) -> Vec<String> {
    let kind = list["kind"].as_str().unwrap_or_default().trim_end_matches("List").to_owned();
    let users = object::items(list).iter().filter(|item| item["metadata"]["labels"][ADDON_LABEL].is_null());
    users
        .map(|item| {
            let mut item = item.clone();
            item["kind"] = Value::String(kind.clone());
            object::title(&item)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn addon(name: &str, requires: &[&str]) -> Enabled {
        Enabled {
            name: name.to_owned(),
            version: "v1".to_owned(),
            automatic: false,
            requires: requires.iter().map(|&name| name.to_owned()).collect(),
            objects: Vec::new(),
        }
    }

    #[test]
    fn what_another_add_on_requires_stays() {
        let enabled = [addon("gateway-api", &[]), addon("ingress", &["gateway-api"])];
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let error = check_required(&enabled, &names(&["gateway-api"])).unwrap_err();
        assert_eq!(error.code(), Code::AddonInUse);
        assert!(error.hints()[0].contains("disable ingress gateway-api"));
        check_required(&enabled, &names(&["gateway-api", "ingress"])).unwrap();
        check_required(&enabled[..1], &names(&["gateway-api"])).unwrap();
        check_required(&enabled[1..], &names(&["gateway-api"])).unwrap();
    }

    #[test]
    fn only_objects_without_the_label_are_a_users() {
        let list = json!({"kind": "GatewayList", "items": [
            {"metadata": {"name": "mine", "namespace": "a"}},
            {"metadata": {"name": "own", "labels": {ADDON_LABEL: "ingress"}}},
        ]});
        assert_eq!(of_users(&list), ["Gateway `a/mine`"]);
    }

    #[test]
    fn a_collection_is_of_a_version_that_is_served() {
        let versions = json!([{"name": "v1alpha1", "served": false}, {"name": "v1", "served": true}]);
        let definition = json!({"spec": {"group": "x.io", "names": {"plural": "gateways"}, "versions": versions}});
        assert_eq!(collection(&definition).unwrap(), "/apis/x.io/v1/gateways");
    }
}
