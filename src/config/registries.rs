//! Registries: the local one, and how nodes reach others.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use serde::{Serialize, Serializer};

use super::reader::{Field, Fields, Reader};
use super::value::{Value, quoted};
use super::{ClusterConfig, nodes, syntax};

const REGISTRY: &[&str] = &["host", "mirrors", "caFile", "insecure", "login"];

/// What `registries` is, for those who mean the other field.
const LOCAL: &str =
    "`registries` must be a list of other registries; for a registry on this host, set `registry: true`";

/// Which local registry a cluster uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalRegistry {
    /// None, not even the one that all clusters share.
    None,
    /// The one of this name, which is created if it does not exist.
    Named(String),
}

impl LocalRegistry {
    /// The name of the one that all clusters share.
    pub const DEFAULT: &str = "coracle-registry";
}

impl Serialize for LocalRegistry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_bool(false),
            Self::Named(name) if name == Self::DEFAULT => serializer.serialize_bool(true),
            Self::Named(name) => serializer.serialize_str(name),
        }
    }
}

/// What nodes log in with at a registry, where the file itself has it, as files of kind do. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    pub user: String,
    password: String,
}

impl Account {
    pub(super) fn new(user: String, password: String) -> Self {
        Self { user, password }
    }

    /// From `NAME:PASSWORD` in base64.
    pub(super) fn from_base64(packed: &str) -> Option<Self> {
        let text = base64::engine::general_purpose::STANDARD.decode(packed.trim()).ok()?;
        let text = String::from_utf8(text).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Self::new(user.to_owned(), password.to_owned()))
    }

    /// The password, for the one place that hands it to nodes.
    pub fn reveal(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How nodes reach a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Registry {
    /// What names of its images begin with, such as `docker.io`; `*` for all that are not listed.
    pub host: String,
    /// URLs that are tried before it, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// Absolute path of a file on this host: certificates of the CA that signed those of the registry and its mirrors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// Certificates are not checked, and plain HTTP is accepted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// Nodes get the credentials that this host's Docker configuration has for it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub login: bool,
    /// The credentials of the file itself, instead of those of this host.
    #[serde(skip)]
    pub account: Option<Account>,
}

impl Registry {
    /// Stands for all registries that are not listed.
    pub const ALL: &str = "*";

    /// A registry without any settings.
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into(), mirrors: Vec::new(), ca_file: None, insecure: false, login: false, account: None }
    }
}

/// Reads `registry` and `registries`.
pub(super) fn read(reader: &mut Reader<'_>, fields: &Fields<'_>, base: &Path, cluster: &mut ClusterConfig) {
    cluster.registry = fields.get("registry").and_then(|field| local(reader, field));
    let Some(field) = fields.get("registries") else { return };
    // `registries: {create: …}` is k3d's, `registries: true` a slip.
    if matches!(field.node.value, Value::Bool(_) | Value::Map(_) | Value::Text(_, _)) {
        reader.problem(field.node.mark, LOCAL);
        return;
    }
    for item in reader.items(field).unwrap_or_default() {
        let Some(registry) = registry(reader, &item, base) else { continue };
        if cluster.registries.iter().any(|other| other.host == registry.host) {
            reader.problem(item.node.mark, format!("{} is already given", quoted(&registry.host)));
        }
        cluster.registries.push(registry);
    }
}

fn local(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<LocalRegistry> {
    match &field.node.value {
        Value::Bool(true) => Some(LocalRegistry::Named(LocalRegistry::DEFAULT.to_owned())),
        Value::Bool(false) => Some(LocalRegistry::None),
        Value::Text(_, _) => reader.parsed(field, registry_name).map(LocalRegistry::Named),
        _ => {
            reader.wrong_type(field, "`true`, `false` or the name of a local registry");
            None
        }
    }
}

/// Checks the name of a local registry, which is also the name of its container and its name in networks.
pub fn registry_name(text: &str) -> Result<String, String> {
    if text.contains('.') {
        return Err(format!("the name {} contains `.`; use lower-case letters, digits and `-`", quoted(text)));
    }
    let name = text.parse::<super::ClusterName>().map(|name| name.to_string());
    name.map_err(|message| message.replace("digits, `-` and `.`", "digits and `-`"))
}

fn registry(reader: &mut Reader<'_>, item: &Field<'_>, base: &Path) -> Option<Registry> {
    let fields = reader.fields(item, REGISTRY, &[("endpoint", "use `mirrors`"), ("auth", "use `login`")])?;
    let Some(host) = fields.get("host") else {
        reader
            .problem(fields.mark, "`host` is missing; it is a name such as `docker.io` or `registry.example.com:5000`");
        return None;
    };
    let host = reader.parsed(host, syntax::registry_host)?;
    let mut registry = Registry::new(host);
    if let Some(field) = fields.get("mirrors") {
        for item in reader.items(field).unwrap_or_default() {
            registry.mirrors.extend(reader.parsed(&item, syntax::mirror));
        }
    }
    registry.ca_file =
        fields.get("caFile").and_then(|field| reader.parsed(field, |text: &str| nodes::host_path(text, base)));
    for (name, flag) in [("insecure", &mut registry.insecure), ("login", &mut registry.login)] {
        if let Some(value) = fields.get(name).and_then(|field| reader.boolean(field)) {
            *flag = value;
        }
    }
    let all = registry.host == Registry::ALL;
    if let Some(field) = fields.get("login").filter(|_| all && registry.login) {
        reader.problem(field.node.mark, "credentials belong to one registry; name it in `host` instead of `*`");
    }
    if let Some(field) = fields.get("caFile").filter(|_| registry.insecure) {
        reader.problem(field.node.mark, "`caFile` has no effect with `insecure`, which does not check certificates");
    }
    Some(registry)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Overrides, load};

    fn body(text: &str) -> crate::error::Result<ClusterConfig> {
        let base_directory = Some(PathBuf::from("/home/me/project"));
        let text = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n{text}");
        load(&text, "c.yaml", &Overrides { base_directory, ..Overrides::default() })
    }

    fn problems(text: &str) -> Vec<String> {
        let error = body(text).unwrap_err();
        error.problems().iter().map(|problem| format!("{} {}", problem.place, problem.message)).collect()
    }

    #[test]
    fn the_local_registry_is_yes_no_or_a_name() {
        let local = |text: &str| body(text).unwrap().registry;
        assert_eq!(local(""), None);
        assert_eq!(local("registry: false"), Some(LocalRegistry::None));
        assert_eq!(local("registry: true"), Some(LocalRegistry::Named("coracle-registry".to_owned())));
        assert_eq!(local("registry: mine"), Some(LocalRegistry::Named("mine".to_owned())));
        assert!(problems("registry: Mine")[0].starts_with("c.yaml:3:11 "));
        assert!(problems("registry: Mine")[0].ends_with("use lower-case letters, digits and `-`"));
        assert!(problems("registry: [mine]")[0].contains("`true`, `false` or the name"));
        assert!(problems("registry: a.b")[0].contains("`.`"));
        for text in ["registry: false", "registry: true", "registry: mine"] {
            let cluster = body(text).unwrap();
            assert_eq!(load(&cluster.to_text().unwrap(), "c.yaml", &Overrides::default()).unwrap(), cluster);
        }
    }

    #[test]
    fn the_local_registry_is_pointed_to_where_it_is_meant() {
        for text in
            ["registries: true", "registries: {create: {name: a}}", "registries: mine", "containerdConfigPatches: []"]
        {
            assert!(problems(text)[0].contains("`registry: true`"), "{text}: {:?}", problems(text));
        }
    }

    #[test]
    fn registries_read_back_the_same() {
        let text = "registries:\n\
            - {host: docker.io, mirrors: ['https://mirror.example.com:5000/hub', 'http://10.0.0.1'], caFile: ca.crt}\n\
            - {host: 'registry.example.com:5000', login: true}\n- {host: localhost, insecure: true}\n- {host: '*'}\n";
        let cluster = body(text).unwrap();
        assert_eq!(cluster.registries[0].ca_file.as_deref(), Some("/home/me/project/ca.crt"));
        assert_eq!(cluster.registries[0].mirrors, ["https://mirror.example.com:5000/hub", "http://10.0.0.1"]);
        assert!(cluster.registries[1].login && cluster.registries[2].insecure);
        assert_eq!(load(&cluster.to_text().unwrap(), "c.yaml", &Overrides::default()).unwrap(), cluster);
    }

    #[test]
    fn every_mistake_is_reported_at_its_place() {
        let text = "registries:\n\
            - mirrors: [https://a.example]\n\
            - {host: 'https://b.example'}\n\
            - {host: c.example/team}\n\
            - {host: d.example, mirrors: [e.example, 'https://user:secret@f.example', 'ftp://g']}\n\
            - {host: d.example, insecure: true, caFile: ca.crt}\n\
            - {host: '*', login: true}\n\
            - {host: h.example, mirror: x}\n";
        let lines = problems(text);
        let wanted = [
            ("4:3 ", "`host` is missing"),
            ("5:10 ", "without `https://`"),
            ("6:10 ", "contains a path"),
            ("7:31 ", "https://e.example"),
            ("7:42 ", "`login: true`"),
            ("7:75 ", "https://"),
            ("8:3 ", "already given"),
            ("8:45 ", "no effect"),
            ("9:22 ", "name it"),
            ("10:21 ", "did you mean `mirrors`"),
        ];
        assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
        for (line, (place, message)) in lines.iter().zip(wanted) {
            assert!(line.starts_with(&format!("c.yaml:{place}")) && line.contains(message), "{line}");
        }
        assert!(!lines.join("\n").contains("secret"), "a password is shown: {lines:#?}");
    }

    #[test]
    fn credentials_that_go_unencrypted_are_warned_of() {
        let warnings = |login: bool, mirror: &str| {
            let registry = format!("registries: [{{host: 'a.example:5000', login: {login}, mirrors: ['{mirror}']}}]\n");
            crate::config::warnings(&body(&registry).unwrap())
        };
        let open = "http://a.example:5000";
        let told = "credentials for `a.example:5000` go to http://a.example:5000 unencrypted";
        assert!(warnings(true, open)[0].contains(told));
        assert!(warnings(false, open).is_empty() && warnings(true, "http://a.example:50001").is_empty());
    }
}
