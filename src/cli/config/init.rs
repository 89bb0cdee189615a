//! `coracle config init`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::catalog;
use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::config::init::{Answers, INGRESS_PORTS, Port, version};
use crate::config::{self, ClusterName, Overrides};
use crate::error::{Code, Error, Result};
use crate::ui::Ui;

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// File to write, or `-` for standard output
    #[arg(value_name = "FILE", default_value = "cluster.yaml")]
    file: PathBuf,
    /// Name of the cluster [default: coracle]
    #[arg(long, short, value_name = "NAME")]
    name: Option<String>,
    /// Number of control plane nodes [default: 1]
    #[arg(long, value_name = "N")]
    control_planes: Option<usize>,
    /// Number of worker nodes [default: 0]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Enable this add-on; may be repeated
    #[arg(long, value_name = "ADDON", value_parser = PossibleValuesParser::new(catalog::names()))]
    addon: Vec<String>,
    /// Forward a port of this host to a port of the first node, such as `8080:30080`; may be repeated
    #[arg(long, value_name = "HOST:NODE", value_parser = port)]
    port: Vec<Port>,
    /// Create the local registry
    #[arg(long)]
    registry: bool,
    /// Kubernetes version, such as `v1.36.3` [default: that of the newest node image]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    kubernetes_version: Option<String>,
    /// Ask no questions; use the default for every option that is not given
    #[arg(long, short)]
    yes: bool,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

impl Run for Init {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let ui = &context.ui;
        let shown = self.file.display().to_string();
        let replaces = self.may_write(ui)?;
        let answers = self.answers(ui)?;
        let text = answers.to_text(if shown == "-" { "FILE" } else { &shown })?;
        // Two ports of the host that are the same, for example.
        config::load(&text, &shown, &Overrides::default())?;
        if shown == "-" {
            ui.data(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
        write(&self.file, &text, replaces)?;
        ui.note(format!("Wrote {shown}"));
        ui.hint(format!("`coracle create cluster --config {shown}` creates the cluster"));
        Ok(ExitCode::SUCCESS)
    }

    fn sweeps(&self) -> bool {
        false
    }
}

impl Init {
    /// Whether a file is replaced; fails if one exists and must stay. It is asked first: no answer is given for nothing.
    fn may_write(&self, ui: &Ui) -> Result<bool> {
        if self.file == Path::new("-") || self.file.symlink_metadata().is_err() {
            return Ok(false);
        }
        let shown = self.file.display();
        let asked = || if self.yes { Ok(false) } else { ui.confirm(&format!("{shown} exists. Replace it?")) };
        if self.force || asked()? {
            return Ok(true);
        }
        Err(Error::new(Code::UsageInvalid, format!("`{shown}` exists"))
            .hint("choose another file, or replace this one with `--force`"))
    }

    /// What the options say, and the answers to the questions about the rest.
    fn answers(&self, ui: &Ui) -> Result<Answers> {
        let asks = ui.can_ask() && !self.yes;
        let name = match &self.name {
            None if asks => ui.ask("Name of the cluster", ClusterName::DEFAULT, named)?,
            name => name.clone().unwrap_or_else(|| ClusterName::DEFAULT.to_owned()),
        };
        let control_planes = match self.control_planes {
            None if asks => ui.ask("Control planes (1, or 3 to survive the loss of one)", "1", control_planes)?,
            number => number.unwrap_or(1),
        };
        let workers = match self.workers {
            None if asks => ui.ask("Workers", "0", workers)?,
            number => number.unwrap_or(0),
        };
        // As flags of `create cluster`, so that what is wrong with them is told in the same words.
        let given = Overrides {
            name: Some(name.clone()),
            control_planes: Some(control_planes),
            workers: Some(workers),
            ..Overrides::default()
        };
        config::load("", "", &given)?;
        let addons = if self.addon.is_empty() && asks { addons(ui)? } else { self.addon.clone() };
        let has_ingress = addons.iter().any(|addon| addon == "ingress");
        let ports = if self.port.is_empty() && asks {
            let usual =
                if has_ingress { INGRESS_PORTS.map(|port| port.to_string()).join(",") } else { "none".to_owned() };
            ui.ask("Ports of this host that lead to the node, such as 8080:30080", &usual, ports)?
        } else {
            self.port.clone()
        };
        let registry = self.registry || (asks && ui.confirm("A local registry at localhost:5001?")?);
        let version = match &self.kubernetes_version {
            None if asks => ui.ask("Kubernetes version, such as v1.36.3", "newest", newest_or_version)?,
            version => version.clone(),
        };
        Ok(Answers { name, control_planes, workers, ports, addons, registry, version })
    }
}

/// Which add-ons are wanted.
fn addons(ui: &Ui) -> Result<Vec<String>> {
    let all = catalog::all()?;
    let lines: Vec<String> = all.iter().map(|addon| format!("{}: {}", addon.name, addon.about.description)).collect();
    let chosen = ui.choose("Add-ons (space selects, Enter continues)", &lines)?;
    Ok(chosen.into_iter().filter_map(|index| all.get(index)).map(|addon| addon.name.clone()).collect())
}

fn named(text: &str) -> std::result::Result<String, String> {
    text.parse::<ClusterName>().map(|name| name.to_string())
}

fn control_planes(text: &str) -> std::result::Result<usize, String> {
    number(text, 1..=config::MAX_CONTROL_PLANES)
}

fn workers(text: &str) -> std::result::Result<usize, String> {
    number(text, 0..=config::MAX_WORKERS)
}

fn number(text: &str, range: std::ops::RangeInclusive<usize>) -> std::result::Result<usize, String> {
    let wrong = || format!("enter a number between {} and {}", range.start(), range.end());
    text.trim().parse().ok().filter(|number| range.contains(number)).ok_or_else(wrong)
}

fn port(text: &str) -> std::result::Result<Port, String> {
    text.parse()
}

/// Ports with commas or spaces between them.
fn ports(text: &str) -> std::result::Result<Vec<Port>, String> {
    let words = text.split([',', ' ']).filter(|word| !word.is_empty() && *word != "none");
    words.map(str::parse).collect()
}

fn newest_or_version(text: &str) -> std::result::Result<Option<String>, String> {
    if text.is_empty() || text == "newest" { Ok(None) } else { version(text).map(Some) }
}

/// Writes a file that does not exist, unless it may be replaced.
fn write(path: &Path, text: &str, replaces: bool) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    if replaces {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    let failed = |source: std::io::Error| {
        Error::new(Code::FileFailed, format!("cannot write `{}`", path.display())).with_cause(&source)
    };
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_they_are_typed() {
        let hosts = |text: &str| ports(text).map(|ports| ports.iter().map(Port::to_string).collect::<Vec<_>>());
        assert_eq!(hosts("8080:80, 8443:443").unwrap(), ["8080:80", "8443:443"]);
        assert_eq!(hosts("none").unwrap(), Vec::<String>::new());
        assert_eq!(hosts("5353:30053/udp").unwrap(), ["5353:30053/udp"]);
        assert!(hosts("8080:x").is_err());
        assert_eq!(newest_or_version("newest"), Ok(None));
        assert_eq!(newest_or_version("1.36.3"), Ok(Some("v1.36.3".to_owned())));
        assert!(control_planes("0").is_err() && workers("0").is_ok() && workers("x").is_err());
    }

    #[test]
    fn a_file_is_replaced_only_if_it_may_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.yaml");
        write(&path, "a long first text", false).unwrap();
        assert_eq!(write(&path, "second", false).unwrap_err().code(), Code::FileFailed);
        write(&path, "third", true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "third");
    }
}
