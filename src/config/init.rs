//! The first configuration file of someone who has none.

use serde_json::{Map, Value as Json, json};

use super::comments::{self, Comments};
use super::{API_VERSION, KIND, Protocol, Role};
use crate::catalog::NODE_REPOSITORY;
use crate::error::Result;

/// Ports of a node at which the add-on `ingress` answers, and those of the host that lead there.
pub const INGRESS_PORTS: [Port; 2] =
    [Port { host: 8080, node: 80, protocol: Protocol::Tcp }, Port { host: 8443, node: 443, protocol: Protocol::Tcp }];

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// The cluster's name.
    pub name: String,
    pub control_planes: usize,
    pub workers: usize,
    /// Ports of the host that lead to the first control plane.
    pub ports: Vec<Port>,
    pub addons: Vec<String>,
    /// Whether the registry that all clusters share is created.
    pub registry: bool,
    /// The Kubernetes version, such as `v1.36.3`; `None` for that of the newest node image.
    pub version: Option<String>,
}

/// A port of the host that leads to a port of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    pub host: u16,
    pub node: u16,
    pub protocol: Protocol,
}

impl std::str::FromStr for Port {
    type Err = String;

    /// Reads `8080:30080` or `5353:30053/udp`; one number is both ports.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a port such as `8080:30080`, of this host and of a node");
        let (ports, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, word)) => match word.to_lowercase().as_str() {
                "tcp" => (ports, Protocol::Tcp),
                "udp" => (ports, Protocol::Udp),
                "sctp" => (ports, Protocol::Sctp),
                _ => return Err(wrong()),
            },
        };
        let (host, node) = ports.split_once(':').unwrap_or((ports, ports));
        let number = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        Ok(Self { host: number(host)?, node: number(node)?, protocol })
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = match self.protocol {
            Protocol::Tcp => "",
            Protocol::Udp => "/udp",
            Protocol::Sctp => "/sctp",
        };
        write!(formatter, "{}:{}{end}", self.host, self.node)
    }
}

/// Reads a Kubernetes version, with or without `v`.
pub fn version(text: &str) -> Result<String, String> {
    let numbers = text.strip_prefix('v').unwrap_or(text);
    let is_number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    if numbers.split('.').count() == 3 && numbers.split('.').all(is_number) {
        return Ok(format!("v{numbers}"));
    }
    Err(format!("`{text}` is not a Kubernetes version such as `v1.36.3`"))
}

impl Answers {
    /// The file, with comments; `file` is what it will be called. What it says is checked when it is loaded.
    pub fn to_text(&self, file: &str) -> Result<String> {
        let mut document = Map::new();
        let mut set = |name: &str, value: Json| drop(document.insert(name.to_owned(), value));
        set("apiVersion", json!(API_VERSION));
        set("kind", json!(KIND));
        set("name", json!(self.name));
        if let Some(version) = &self.version {
            set("image", json!(format!("{NODE_REPOSITORY}:{version}")));
        }
        set("nodes", self.nodes());
        if !self.addons.is_empty() {
            set("addons", json!(self.addons));
        }
        if self.registry {
            set("registry", json!(true));
        }
        let mut text = comments::write(&Json::Object(document), &head(file), &self.comments())?;
        for line in self.left_out() {
            text.push_str("# ");
            text.push_str(line);
            text.push('\n');
        }
        Ok(text)
    }

    fn nodes(&self) -> Json {
        let roles = std::iter::repeat_n(Role::ControlPlane, self.control_planes)
            .chain(std::iter::repeat_n(Role::Worker, self.workers));
        let mut nodes: Vec<Json> = roles.map(|role| json!({"role": role})).collect();
        if let Some(first) = nodes.first_mut().filter(|_| !self.ports.is_empty()) {
            let port = |port: &Port| {
                let mut mapping = json!({"containerPort": port.node, "hostPort": port.host});
                if port.protocol != Protocol::Tcp {
                    mapping["protocol"] = json!(port.protocol);
                }
                mapping
            };
            first["extraPortMappings"] = self.ports.iter().map(port).collect();
        }
        Json::Array(nodes)
    }

    fn comments(&self) -> Comments {
        let mut comments = Comments::new();
        let mut add = |path: String, text: &str| comments.entry(path).or_default().push(text.to_owned());
        add("name".to_owned(), "The context of kubectl is `coracle-NAME`.");
        add(
            "image".to_owned(),
            "The node image decides the Kubernetes version; `coracle build node-image` builds one.",
        );
        let first = match (self.control_planes, self.workers) {
            (1, 0) => "The only node runs the control plane and your pods.",
            (1, _) => {
                "The control plane: etcd, the API server, the controller manager and the scheduler; pods run on the workers."
            }
            _ => {
                "Several control planes have a load balancer in front of them; the cluster survives the loss of less than half."
            }
        };
        add("nodes[0]".to_owned(), first);
        if self.workers > 0 {
            let text = "Workers may have `labels`, `taints`, `memory`, `cpus`, `extraMounts` and more.";
            add(format!("nodes[{}]", self.control_planes), text);
        }
        let text =
            "Ports of this host that lead to ports of the node; NodePorts (30000 to 32767) lead on to a Service.";
        add("nodes[0].extraPortMappings".to_owned(), text);
        if self.addons.iter().any(|addon| addon == "ingress") {
            add("addons".to_owned(), "The add-on `ingress` answers at the ports 80 and 443 of the nodes.");
        } else {
            add("addons".to_owned(), "`coracle addon list` shows what there is.");
        }
        add("registry".to_owned(), "A registry at localhost:5001, for Docker on this host and for the nodes.");
        comments
    }

    /// What can be added later.
    fn left_out(&self) -> Vec<&'static str> {
        let all = [
            (self.version.is_some(), "image: coracle/node:v1.36.3   # another Kubernetes version"),
            (!self.addons.is_empty(), "addons: [ingress]   # enabled when the cluster is created"),
            (self.registry, "registry: true   # a registry at localhost:5001"),
        ];
        let mut lines = vec!["More settings, with examples:"];
        lines.extend(all.into_iter().filter(|(is_said, _)| !is_said).map(|(_, line)| line));
        lines.extend([
            "images: [shop:v1]   # images of Docker that are loaded into the nodes",
            "manifests: [shop.yaml]   # objects that are applied",
            "networking: {apiServerPort: 6443}   # instead of a free port",
        ]);
        lines
    }
}

fn head(file: &str) -> Vec<String> {
    vec![
        format!("Create the cluster with `coracle create cluster --config {file}`."),
        "`coracle config validate` checks it, `coracle config view` shows it with all defaults.".to_owned(),
        // An editor would read the comment itself if it stood at the beginning of the line.
        "For your editor: coracle config schema > s.json, and the comment yaml-language-server: $schema=s.json"
            .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClusterConfig, Overrides, load};

    fn answers() -> Answers {
        Answers {
            name: "dev".to_owned(),
            control_planes: 1,
            workers: 0,
            ports: Vec::new(),
            addons: Vec::new(),
            registry: false,
            version: None,
        }
    }

    fn loaded(answers: &Answers) -> (ClusterConfig, String) {
        let text = answers.to_text("cluster.yaml").unwrap();
        (load(&text, "cluster.yaml", &Overrides::default()).unwrap_or_else(|error| panic!("{text}{error:?}")), text)
    }

    #[test]
    fn the_smallest_file_is_the_default_cluster_with_a_name() {
        let (cluster, text) = loaded(&answers());
        assert_eq!(cluster, ClusterConfig::new("dev".parse().unwrap()));
        assert!(text.contains("# registry: true") && text.contains("\n# The only node"), "{text}");
    }

    #[test]
    fn every_answer_is_in_the_file() {
        let ports = ["8080:30080", "5353:30053/udp", "9000"].map(|text| text.parse().unwrap()).to_vec();
        let many = Answers {
            control_planes: 3,
            workers: 2,
            ports,
            addons: vec!["ingress".to_owned(), "metrics-server".to_owned()],
            registry: true,
            version: Some(version("1.36.3").unwrap()),
            ..answers()
        };
        let (cluster, text) = loaded(&many);
        assert_eq!((cluster.control_planes(), cluster.nodes.len()), (3, 5));
        let ports = cluster.nodes[0].extra_port_mappings.iter();
        let ports: Vec<_> = ports.map(|port| (port.host_port, port.container_port, port.protocol)).collect();
        assert_eq!(ports, [(8080, 30080, Protocol::Tcp), (5353, 30053, Protocol::Udp), (9000, 9000, Protocol::Tcp)]);
        assert_eq!(cluster.addons, ["ingress", "metrics-server"]);
        assert_eq!(cluster.image.as_deref(), Some("coracle/node:v1.36.3"));
        assert!(cluster.registry.is_some() && !text.contains("# registry: true"), "{text}");
    }

    /// Whoever removes the `#` of an example has a file that loads.
    #[test]
    fn the_examples_in_the_comments_are_right() {
        let text = answers().to_text("cluster.yaml").unwrap();
        let (text, examples) = text.split_once("# More settings, with examples:\n").unwrap();
        assert!(examples.lines().count() >= 6, "{examples}");
        for example in examples.lines() {
            let text = format!("{text}{}\n", example.strip_prefix("# ").unwrap());
            let overrides = Overrides { base_directory: Some("/home/user".into()), ..Overrides::default() };
            load(&text, "cluster.yaml", &overrides).unwrap_or_else(|error| panic!("{text}{error:?}"));
        }
    }

    #[test]
    fn what_is_no_port_and_no_version_is_refused() {
        for text in ["", "0:80", "80:0", "a", "8080:80/icmp", "70000", "1:2:3"] {
            assert!(text.parse::<Port>().is_err(), "{text}");
        }
        for text in ["", "1.36", "v1.36.x", "latest", "1.36.3.4"] {
            assert!(version(text).is_err(), "{text}");
        }
    }
}
