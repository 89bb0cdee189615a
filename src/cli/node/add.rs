//! `coracle node add`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::{JsonOption, NameOption, duration};
use crate::cli::output::joined;
use crate::cluster;
use crate::cluster::lifecycle::node::add::{self, Added, Options};
use crate::config::{NodeFlags, Role};
use crate::engine::address::Environment;
use crate::error::{Code, Error, Result, counted};
use crate::ui::Format;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  coracle node add                                 one worker
  coracle node add --role control-plane --count 2  three control planes instead of one
  coracle node add --count 2 --label tier=batch --taint batch=yes:NoSchedule
  coracle node add --port 8080:30080 --mount ./data:/data")]
pub(crate) struct Add {
    #[command(flatten)]
    name: NameOption,
    /// Role of the new nodes
    #[arg(long, value_name = "ROLE", value_parser = ["worker", "control-plane"], default_value = "worker")]
    role: String,
    /// Number of nodes to add
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=99))]
    count: u8,
    /// Label of the new nodes, as KEY=VALUE; may be repeated
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// Taint of the new nodes, as KEY=VALUE:EFFECT or KEY:EFFECT; may be repeated
    #[arg(long, value_name = "TAINT")]
    taint: Vec<String>,
    /// Image to use for the new nodes [default: that of the cluster's nodes]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Path of this host that the new nodes see, as HOST:NODE or HOST:NODE:ro; may be repeated
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// Port of this host that leads to a port of the new node, as HOST:NODE or ADDRESS:HOST:NODE/udp; may be repeated
    #[arg(long, value_name = "PORT")]
    port: Vec<String>,
    /// How long to wait until the nodes are usable, such as `90s` or `5m`
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    wait: Duration,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Add {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let name = self.name.get()?;
        let environment = Environment::from_process();
        let (engine, _) = context.connect(&environment).await?;
        let loopback = cluster::get(&*engine, &name).await?.loopback();
        let options = Options {
            node: self.flags(loopback)?.node()?,
            count: usize::from(self.count),
            wait: self.wait,
            local: engine.place().is_host(),
            docker_config: environment.docker_config.clone(),
        };
        let mut ports = options.node.extra_port_mappings.iter();
        if let Some(port) = ports.find(|port| self.count > 1 && port.host_port != 0) {
            let what = format!("{} nodes cannot all have the port {} of this host", self.count, port.host_port);
            return Err(Error::new(Code::UsageInvalid, what)
                .hint("add them one by one, or let coracle choose the ports: `--port 0:CONTAINER`"));
        }
        let work = Box::pin(add::add(&engine, &name, &options, &context.ui, &context.stop));
        let added = context.clean_up_after(work).await?;
        finish(context, &name.to_string(), &added);
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}

impl Add {
    fn flags(&self, loopback: std::net::IpAddr) -> Result<NodeFlags> {
        let directory = std::env::current_dir()
            .map_err(|source| Error::new(Code::FileFailed, "cannot find the current directory").with_cause(&source))?;
        let role = if self.role == Role::Worker.as_str() { Role::Worker } else { Role::ControlPlane };
        Ok(NodeFlags {
            role,
            image: self.image.clone(),
            labels: self.label.clone(),
            taints: self.taint.clone(),
            mounts: self.mount.clone(),
            ports: self.port.clone(),
            directory,
            loopback,
        })
    }
}

fn finish(context: &Context, cluster: &str, added: &Added) {
    let ui = &context.ui;
    let nodes = added.nodes.iter().map(|node| {
        let ports = node.config.extra_port_mappings.iter();
        json!({
            "name": node.name, "role": node.config.role, "addresses": node.addresses,
            "kubernetesVersion": added.version, "ports": ports.collect::<Vec<_>>(),
        })
    });
    for warning in &added.warnings {
        ui.warn(warning);
    }
    if !added.images.missing.is_empty() {
        ui.warn(format!(
            "the new nodes lack {}, which the other nodes have but the engine no longer does; load the images that pods need again",
            joined(&added.images.missing)
        ));
    }
    for node in &added.nodes {
        for port in &node.config.extra_port_mappings {
            let (address, host, container) = (port.listen_address, port.host_port, port.container_port);
            ui.note(format!("{} has port {container} at {}", node.name, std::net::SocketAddr::new(address, host)));
        }
    }
    let names: Vec<&str> = added.nodes.iter().map(|node| node.name.as_str()).collect();
    ui.note(format!("Added {} to cluster `{cluster}`: {}", counted(names.len(), "node"), names.join(", ")));
    ui.result(&json!({
        "cluster": cluster,
        "nodes": nodes.collect::<Vec<_>>(),
        "images": {"loaded": added.images.loaded, "missing": added.images.missing},
        "warnings": added.warnings,
    }));
}
