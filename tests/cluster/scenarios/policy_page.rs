//! `docs/reference/network-policy.md`, as it is written.

use super::hello;
use super::policy::{SOON, policies};
use crate::harness::cluster::Cluster;
use crate::harness::run::{contains, ensure, eventually};

/// The worked example of the documentation, command by command.
pub(super) fn page(cluster: &Cluster) -> Result<(), String> {
    policies(cluster, &[])?;
    hello::deploy(cluster)?;
    let page = include_str!("../../../docs/reference/network-policy.md");
    let mut blocks = page.split("\n```");
    let mut commands = 0;
    while let (Some(_), Some(block)) = (blocks.next(), blocks.next()) {
        if let Some(yaml) = block.strip_prefix("yaml\n# ") {
            let name = yaml.lines().next().unwrap_or_default();
            cluster.write(name, yaml.split_once('\n').unwrap_or_default().1)?;
        } else if let Some(console) = block.strip_prefix("console\n") {
            for part in console.split("$ ").filter(|part| part.starts_with("kubectl ")) {
                let (line, output) = part.split_once('\n').unwrap_or((part, ""));
                eventually(SOON, || as_written(cluster, line, output))?;
                commands += 1;
            }
        }
    }
    ensure(commands >= 8, || format!("only {commands} commands are on the page"))
}

/// Runs a line of the page; it must say what the page says, up to `…`.
fn as_written(cluster: &Cluster, line: &str, output: &str) -> Result<(), String> {
    let words: Vec<String> = words(line).into_iter().skip(1).map(|word| in_home(cluster, word)).collect();
    let said = cluster.kubectl_output(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
    let said = format!("{}{}", said.stdout, said.stderr);
    // What `apply` says of an object that is there already, when the line is tried again.
    let said = said.replace(" unchanged", " created");
    for expected in output.lines().filter(|line| !line.trim().is_empty()) {
        let expected = expected.split('…').next().unwrap_or_default().trim();
        contains(&said, expected).map_err(|error| format!("{line}: {error}"))?;
    }
    Ok(())
}

/// The words of a command; those in double quotes are one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// The manifests of the page are files in the directory of this test.
fn in_home(cluster: &Cluster, word: String) -> String {
    let path = cluster.home.join(&word);
    if word.ends_with("yaml") && path.is_file() { path.display().to_string() } else { word }
}
