//! k3d's `Simple` configurations, for `config convert`. k3d's clusters are of k3s, which differs from Kubernetes in what it
//! brings along, so what has no counterpart is left out with a note: the result is for people to look at.

use serde_json::{Map, Value as Json, json};

use super::assembled::{PROXIES, insert, push};
use super::comments::Comments;
use super::tree;
use super::value::{Entry, Node, Value};
use super::{API_VERSION, KIND};

/// What k3s brings along and coracle has as an add-on, by its name for `--disable`.
const PACKAGED: &[(&str, &str)] = &[("traefik", "ingress"), ("metrics-server", "metrics-server")];
/// Flags of k3s that hand flags to components, and the fields that have these.
const COMPONENTS: &[(&str, &str)] = &[
    ("kube-apiserver-arg", "apiServer"),
    ("kube-controller-manager-arg", "controllerManager"),
    ("kube-scheduler-arg", "scheduler"),
    ("etcd-arg", "etcd"),
];
/// Where k3s applies what it finds.
const MANIFESTS: &str = "/var/lib/rancher/k3s/server/manifests";

/// A file of k3d as one of ours.
#[derive(Default)]
pub(super) struct Translated {
    pub(super) document: Map<String, Json>,
    pub(super) comments: Comments,
    /// What was left out.
    pub(super) notes: Vec<String>,
    pub(super) has_relative_paths: bool,
    servers: usize,
    nodes: Vec<Map<String, Json>>,
    networking: Map<String, Json>,
    disabled: Vec<String>,
}

/// Whether this is a file of k3d.
pub(super) fn is_of_k3d(root: &Node) -> bool {
    root.value.get("apiVersion").is_some_and(|version| version.value.text().starts_with("k3d.io/"))
}

/// Translates a file.
pub(super) fn translate(root: &Node) -> Translated {
    let count = |name: &str, usual: usize| {
        root.value.get(name).and_then(|node| node.value.text().parse().ok()).unwrap_or(usual)
    };
    let (servers, agents) =
        (count("servers", 1).min(super::MAX_CONTROL_PLANES), count("agents", 0).min(super::MAX_WORKERS));
    let node = |role: &str| Map::from_iter([("role".to_owned(), json!(role))]);
    let mut nodes = vec![node("control-plane"); servers];
    nodes.extend(vec![node("worker"); agents]);
    let mut all = Translated { servers, nodes, ..Translated::default() };
    for entry in entries(root) {
        all.top(entry);
    }
    all.finish();
    all
}

impl Translated {
    fn left_out(&mut self, name: &str, node: &Node, reason: &str) {
        self.notes.push(format!("`{name}` on line {} is left out: {reason}", node.mark.line));
    }

    fn set(&mut self, name: &str, value: Json) {
        self.document.insert(name.to_owned(), value);
    }

    fn top(&mut self, Entry { key, node, .. }: &Entry) {
        match key.as_str() {
            "apiVersion" | "kind" | "servers" | "agents" => {}
            "metadata" => {
                if let Some(name) = node.value.get("name") {
                    self.set("name", json!(name.value.text()));
                }
            }
            "kubeAPI" => entries(node).iter().for_each(|entry| self.api(entry)),
            "image" => self.left_out(key, node, "it is of k3s; a node image decides the Kubernetes version"),
            "subnet" => {
                let subnet = Some(node.value.text()).filter(|text| text != "auto");
                self.networking.extend(subnet.map(|text| ("nodeSubnet".to_owned(), json!(text))));
            }
            "volumes" => items(node).iter().for_each(|item| self.volume(item)),
            "ports" => items(node).iter().for_each(|item| self.port(item)),
            "env" => items(node).iter().for_each(|item| self.variable(item)),
            "registries" => entries(node).iter().for_each(|entry| self.registry(entry)),
            "hostAliases" => {
                for of_node in &mut self.nodes {
                    of_node.insert("hostAliases".to_owned(), plain(node));
                }
            }
            "options" => entries(node).iter().for_each(|entry| self.options(entry)),
            _ => self.left_out(key, node, "coracle has nothing like it"),
        }
    }

    fn api(&mut self, Entry { key, node, .. }: &Entry) {
        let text = node.value.text();
        match (key.as_str(), text.parse::<u16>()) {
            ("hostPort", Ok(port)) => drop(self.networking.insert("apiServerPort".to_owned(), json!(port))),
            ("hostIP", _) => drop(self.networking.insert("apiServerAddress".to_owned(), json!(text))),
            ("host", _) => push(&mut self.networking, "apiServerCertSANs", json!(text)),
            _ => self.left_out(key, node, "it is not a port of this host"),
        }
    }

    /// The nodes that filters such as `server:0` and `agent:*` select; all without filters.
    fn selected(&self, item: &Node) -> Vec<usize> {
        let all = 0..self.nodes.len();
        let Some(filters) = item.value.get("nodeFilters") else { return all.collect() };
        let filters: Vec<String> = items(filters).iter().map(|filter| filter.value.text()).collect();
        let is_selected = |index: &usize| {
            let (role, number) =
                if *index < self.servers { ("server", *index) } else { ("agent", *index - self.servers) };
            filters.iter().any(|filter| {
                let mut parts = filter.split(':');
                let (of, which) = (parts.next().unwrap_or_default(), parts.next().unwrap_or("*"));
                let named = which.split(',').any(|part| part == "*" || part == number.to_string());
                matches!(of, "all" | "*") || (of.trim_end_matches('s') == role && named)
            })
        };
        all.filter(is_selected).collect()
    }

    fn volume(&mut self, item: &Node) {
        let text = text_of(item, "volume");
        let mut parts = text.split(':');
        let (Some(from), Some(to)) = (parts.next(), parts.next()) else {
            return self.left_out("volumes", item, "it is not `HOST:NODE`");
        };
        let options = parts.next().unwrap_or_default();
        if !from.starts_with(['/', '.']) {
            return self.left_out("volumes", item, "it is a volume of Docker, not a path of this host");
        }
        self.has_relative_paths |= from.starts_with('.');
        if to.starts_with(MANIFESTS) {
            return push(&mut self.document, "manifests", json!(from));
        }
        if to.contains("/rancher/") {
            return self.left_out("volumes", item, "nodes of coracle have no k3s");
        }
        let mut mount = json!({"hostPath": from, "containerPath": to});
        if options.split(',').any(|option| option == "ro") {
            mount["readOnly"] = json!(true);
        }
        for (word, propagation) in [("shared", "Bidirectional"), ("slave", "HostToContainer")] {
            if options.contains(word) {
                mount["propagation"] = json!(propagation);
            }
        }
        for index in self.selected(item) {
            push(&mut self.nodes[index], "extraMounts", mount.clone());
        }
    }

    fn port(&mut self, item: &Node) {
        let text = text_of(item, "port");
        let (ports, protocol) = text.rsplit_once('/').unwrap_or((&text, "tcp"));
        let mut from_last = ports.rsplitn(3, ':');
        let (node, host, address) = (from_last.next().unwrap_or_default(), from_last.next(), from_last.next());
        let (Ok(node), Ok(host)) = (node.parse::<u16>(), host.map_or(Ok(0), str::parse::<u16>)) else {
            return self.left_out("ports", item, "it is not `HOST:NODE` with two numbers");
        };
        let mut mapping = json!({"containerPort": node, "hostPort": host});
        if let Some(address) = address {
            mapping["listenAddress"] = json!(address);
        }
        if protocol != "tcp" {
            mapping["protocol"] = json!(protocol.to_uppercase());
        }
        // What k3d's load balancer hands on is answered by every node.
        let selected = self.selected(item);
        for index in if selected.is_empty() || selected.len() == self.nodes.len() { vec![0] } else { selected } {
            if !self.nodes[index].contains_key("extraPortMappings") {
                let comment =
                    "Without `listenAddress`, a port listens on the host's loopback address. k3d: on all addresses.";
                self.comments.insert(format!("nodes[{index}].extraPortMappings"), vec![comment.to_owned()]);
            }
            push(&mut self.nodes[index], "extraPortMappings", mapping.clone());
        }
    }

    fn variable(&mut self, item: &Node) {
        let text = text_of(item, "envVar");
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        if PROXIES.contains(&name.to_uppercase().as_str()) {
            return self.left_out("env", item, "nodes get the proxy settings of the environment of `create cluster`");
        }
        for index in self.selected(item) {
            insert(&mut self.nodes[index], "env", name, json!(value));
        }
    }

    fn registry(&mut self, Entry { key, node, .. }: &Entry) {
        match key.as_str() {
            "create" => {
                self.set("registry", json!(true));
                let comment = "coracle's registry is called localhost:5001, on this host and in pods.";
                self.comments.insert("registry".to_owned(), vec![comment.to_owned()]);
            }
            "config" => match tree::parse(&node.value.text()) {
                Ok(Some(config)) => self.mirrors(&config),
                _ => self.left_out("registries.config", node, "it is not YAML"),
            },
            _ => self.left_out("registries.use", node, "name the registry in `registry`, or in `registries`"),
        }
    }

    /// k3s' own file about registries.
    fn mirrors(&mut self, config: &Node) {
        let mut known: Map<String, Json> = Map::new();
        let of = |known: &mut Map<String, Json>, host: &str| {
            known.entry(host.to_owned()).or_insert_with(|| json!({"host": host}));
        };
        for entry in config.value.get("mirrors").map(entries).unwrap_or_default() {
            of(&mut known, &entry.key);
            if let Some(endpoints) = entry.node.value.get("endpoint") {
                known[&entry.key]["mirrors"] = plain(endpoints);
            }
        }
        for entry in config.value.get("configs").map(entries).unwrap_or_default() {
            of(&mut known, &entry.key);
            let tls = entry.node.value.get("tls");
            if tls.and_then(|tls| tls.value.get("insecure_skip_verify")).is_some_and(|node| node.value.text() == "true")
            {
                known[&entry.key]["insecure"] = json!(true);
            }
            if entry.node.value.get("auth").is_some() {
                known[&entry.key]["login"] = json!(true);
                self.notes.push(format!("the password for `{0}` is left out: run `docker login {0}` first", entry.key));
            }
        }
        self.set("registries", known.into_iter().map(|(_, registry)| registry).collect());
    }

    fn options(&mut self, Entry { key, node, .. }: &Entry) {
        match key.as_str() {
            // They say how the command works, and not what the cluster is.
            "k3d" | "kubeconfig" => {}
            "k3s" => {
                for item in node.value.get("extraArgs").map(items).unwrap_or_default() {
                    self.argument(item);
                }
                for item in node.value.get("nodeLabels").map(items).unwrap_or_default() {
                    let text = text_of(item, "label");
                    self.label(&text, item);
                }
            }
            "runtime" => entries(node).iter().for_each(|entry| self.runtime(entry)),
            _ => self.left_out(key, node, "coracle has nothing like it"),
        }
    }

    fn label(&mut self, text: &str, item: &Node) {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        for index in self.selected(item) {
            insert(&mut self.nodes[index], "labels", name, json!(value));
        }
    }

    fn argument(&mut self, item: &Node) {
        let text = text_of(item, "arg");
        let argument = text.trim_start_matches('-');
        let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
        if let Some((_, field)) = COMPONENTS.iter().find(|(flag, _)| *flag == name) {
            let (flag, value) = value.split_once('=').unwrap_or((value, "true"));
            return insert(&mut self.document, field, flag, json!(value));
        }
        let mut network = |name: &str, value: Json| drop(self.networking.insert(name.to_owned(), value));
        match name {
            "disable" => self.disabled.extend(value.split(',').map(str::to_owned)),
            "tls-san" => push(&mut self.networking, "apiServerCertSANs", json!(value)),
            "cluster-cidr" => network("podSubnet", json!(value)),
            "service-cidr" => network("serviceSubnet", json!(value)),
            "flannel-backend" if value == "none" => network("disableDefaultCNI", json!(true)),
            "disable-kube-proxy" => network("kubeProxyMode", json!("none")),
            "disable-network-policy" => {}
            "node-label" => self.label(value, item),
            "kubelet-arg" => {
                let (flag, value) = value.split_once('=').unwrap_or((value, "true"));
                for index in self.selected(item) {
                    insert(&mut self.nodes[index], "kubeletFlags", flag, json!(value));
                }
            }
            "node-taint" => {
                let (rest, effect) = value.rsplit_once(':').unwrap_or((value, ""));
                let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
                for index in self.selected(item) {
                    push(&mut self.nodes[index], "taints", json!({"key": key, "value": value, "effect": effect}));
                }
            }
            _ => self.left_out(&text, item, "it is a flag of k3s"),
        }
    }

    fn runtime(&mut self, Entry { key, node, .. }: &Entry) {
        let of_role = match key.as_str() {
            "serversMemory" => 0..self.servers,
            "agentsMemory" => self.servers..self.nodes.len(),
            "ulimits" => {
                for item in items(node) {
                    let limit = |name: &str| item.value.get(name).map_or(Json::Null, plain);
                    let both = json!({"soft": limit("soft"), "hard": limit("hard")});
                    self.nodes
                        .iter_mut()
                        .for_each(|node| insert(node, "ulimits", &text_of(item, "name"), both.clone()));
                }
                return;
            }
            _ => return self.left_out(key, node, "coracle has nothing like it"),
        };
        // Docker's units are powers of two.
        let text = node.value.text();
        let memory = ['k', 'm', 'g'].into_iter().find_map(|unit| Some((text.strip_suffix(unit)?, unit)));
        let memory = memory.map_or_else(|| text.clone(), |(number, unit)| format!("{number}{}i", unit.to_uppercase()));
        for node in self.nodes[of_role].iter_mut().filter(|_| !text.is_empty()) {
            node.insert("memory".to_owned(), json!(memory));
        }
    }

    /// Puts everything together, in the order of our files.
    fn finish(&mut self) {
        let addons: Vec<&str> = PACKAGED
            .iter()
            .filter(|(name, _)| !self.disabled.iter().any(|disabled| disabled == name))
            .map(|(_, addon)| *addon)
            .collect();
        if self.disabled.iter().any(|name| name == "servicelb") {
            self.networking.insert("loadBalancer".to_owned(), json!(false));
        }
        let others = std::mem::take(&mut self.document);
        self.set("apiVersion", json!(API_VERSION));
        self.set("kind", json!(KIND));
        let nodes = std::mem::take(&mut self.nodes);
        self.document.extend(others.get("name").cloned().map(|name| ("name".to_owned(), name)));
        self.set("nodes", nodes.into_iter().map(Json::Object).collect());
        let networking = std::mem::take(&mut self.networking);
        if !networking.is_empty() {
            self.set("networking", Json::Object(networking));
        }
        self.document.extend(others);
        if !addons.is_empty() {
            self.set("addons", json!(addons));
            let comment = "k3s brings them along; leave out what you do not use.";
            self.comments.insert("addons".to_owned(), vec![comment.to_owned()]);
        }
    }
}

fn entries(node: &Node) -> &[Entry] {
    match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        _ => &[],
    }
}

/// The text of a field.
fn text_of(node: &Node, name: &str) -> String {
    node.value.get(name).map(|node| node.value.text()).unwrap_or_default()
}

/// A tree as JSON.
fn plain(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Number(Some(number), _) => json!(number),
        Value::Number(None, text) | Value::Text(text, _) => json!(text),
        Value::List(items) => items.iter().map(plain).collect(),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|entry| (entry.key.clone(), plain(&entry.node))).collect())
        }
    }
}
