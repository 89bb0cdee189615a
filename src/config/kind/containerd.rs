//! kind's `containerdConfigPatches`: what they say of registries becomes `registries`, and the rest is merged into
//! containerd's configuration, under the names that containerd 2 has.

use std::collections::BTreeMap;

use toml::{Table, Value as Toml};

use super::kubeadm::Settings;
use super::{containerd_json, list, map, text_entry};
use crate::config::reader::{Field, Reader};
use crate::config::registries::Account;
use crate::config::value::{Entry, Mark, Node, Value, quoted};

/// containerd's plugin for Kubernetes before version 2, and the parts that it was split into.
const OLD: &str = "io.containerd.grpc.v1.cri";
const RUNTIME: &str = "io.containerd.cri.v1.runtime";
const IMAGES: &str = "io.containerd.cri.v1.images";
/// Settings of the old plugin that belong to the images now.
const OF_IMAGES: &[&str] = &[
    "image_decryption",
    "image_pull_progress_timeout",
    "image_pull_with_sync_fs",
    "max_concurrent_downloads",
    "registry",
    "stats_collect_period",
];
/// Settings of the old plugin's `containerd` table that belong to the images now.
const OF_THE_STORE: &[&str] = &["disable_snapshot_annotations", "discard_unpacked_layers", "snapshotter"];
/// Settings of the old plugin that it has kept: those of the server for `kubectl exec` and its like.
const OF_THE_SERVER: &[&str] = &[
    "disable_tcp_service",
    "enable_tls_streaming",
    "stream_idle_timeout",
    "stream_server_address",
    "stream_server_port",
    "x509_key_pair_streaming",
];
/// Where nodes have the files by which containerd finds registries.
const CERTS: &str = "/etc/containerd/certs.d";

/// A registry as the patches have it.
#[derive(Default)]
struct Known {
    mark: Option<Mark>,
    mirrors: Vec<String>,
    insecure: bool,
    account: Option<Account>,
}

/// Reads the patches: as kind does, first those that merge, then those with operations.
pub(super) fn patches(
    reader: &mut Reader<'_>,
    merges: Option<&Field<'_>>,
    operations: &[&Field<'_>],
    settings: &mut Settings,
) {
    let Some(first) = merges.or(operations.first().copied()) else { return };
    let mut tables: Vec<(Mark, Table)> = Vec::new();
    for item in merges.and_then(|field| reader.items(field)).unwrap_or_default() {
        let Some(text) = reader.string(&item) else { continue };
        match text.parse::<Table>() {
            Ok(table) => tables.push((item.node.mark, table)),
            Err(source) => {
                let mark = reader.inside(&item, source.span().map_or(0, |span| span.start));
                reader.problem(mark, format!("this is not TOML: {}", source.message()));
            }
        }
    }
    for field in operations {
        for item in reader.items(field).unwrap_or_default() {
            tables.push((item.node.mark, containerd_json::table(reader, &item)));
        }
    }
    take_over(reader, first.node.mark, tables, settings);
}

/// Makes settings of the tables, merged one after the other.
fn take_over(reader: &mut Reader<'_>, mark: Mark, tables: Vec<(Mark, Table)>, settings: &mut Settings) {
    let mut registries: BTreeMap<String, Known> = BTreeMap::new();
    let mut merged = Table::new();
    for (mark, table) in tables {
        merge(&mut merged, of_version_3(reader, mark, table));
        if let Some(registry) = take(&mut merged, &["plugins", IMAGES, "registry"]) {
            self::registries(reader, mark, registry, &mut registries);
        }
    }
    drop_empty(&mut merged);
    settings.containerd = merged.iter().map(|(name, value)| entry(mark, name, value)).collect();
    for (host, known) in registries {
        let mark = known.mark.unwrap_or(mark);
        let mut entries = vec![text_entry(mark, "host", &host)];
        if !known.mirrors.is_empty() {
            let text = |url: &String| Node { mark, value: Value::Text(url.clone(), false) };
            let urls = list(mark, known.mirrors.iter().map(text).collect());
            entries.push(Entry { key: "mirrors".to_owned(), mark, node: urls });
        }
        let flag = |name: &str| Entry { key: name.to_owned(), mark, node: Node { mark, value: Value::Bool(true) } };
        entries.extend(known.insecure.then(|| flag("insecure")));
        entries.extend(known.account.is_some().then(|| flag("login")));
        settings.registries.push(map(mark, entries));
        settings.accounts.extend(known.account.map(|account| (host, account)));
    }
}

/// The table under the names of containerd's configuration of version 3.
fn of_version_3(reader: &mut Reader<'_>, mark: Mark, mut table: Table) -> Table {
    table.remove("version");
    let Some(Toml::Table(plugins)) = table.get_mut("plugins") else { return table };
    for name in ["cri", OLD] {
        let Some(Toml::Table(old)) = plugins.remove(name) else { continue };
        for (key, value) in old {
            match (key.as_str(), value) {
                ("containerd", Toml::Table(store)) => {
                    for (key, value) in store {
                        let images = OF_THE_STORE.contains(&key.as_str());
                        let path: &[&str] = if images { &[IMAGES] } else { &[RUNTIME, "containerd"] };
                        put(plugins, path, key, value);
                    }
                }
                ("sandbox_image", value) => put(plugins, &[IMAGES, "pinned_images"], "sandbox".to_owned(), value),
                ("systemd_cgroup", _) => {
                    reader.problem(
                        mark,
                        "containerd 2 has no `systemd_cgroup`; `SystemdCgroup` is an option of a runtime",
                    );
                }
                (name, value) if OF_IMAGES.contains(&name) => put(plugins, &[IMAGES], key, value),
                (name, value) if OF_THE_SERVER.contains(&name) => put(plugins, &[OLD], key, value),
                (_, value) => put(plugins, &[RUNTIME], key, value),
            }
        }
    }
    table
}

/// Puts a value below a path of tables, merged with what is there.
fn put(table: &mut Table, path: &[&str], key: String, value: Toml) {
    let Some((first, rest)) = path.split_first() else {
        return merge(table, Table::from_iter([(key, value)]));
    };
    let below = table.entry(*first).or_insert_with(|| Toml::Table(Table::new()));
    if let Toml::Table(below) = below {
        put(below, rest, key, value);
    }
}

fn merge(target: &mut Table, from: Table) {
    for (key, value) in from {
        match (target.get_mut(&key), value) {
            (Some(Toml::Table(known)), Toml::Table(more)) => merge(known, more),
            (_, value) => drop(target.insert(key, value)),
        }
    }
}

/// Takes the table at a path out.
fn take(table: &mut Table, path: &[&str]) -> Option<Table> {
    let (last, parents) = path.split_last()?;
    let mut table = table;
    for parent in parents {
        table = table.get_mut(*parent)?.as_table_mut()?;
    }
    match table.remove(*last)? {
        Toml::Table(found) => Some(found),
        _ => None,
    }
}

/// Removes tables in which nothing is left.
fn drop_empty(table: &mut Table) {
    for (_, value) in table.iter_mut() {
        if let Toml::Table(below) = value {
            drop_empty(below);
        }
    }
    table.retain(|_, value| !value.as_table().is_some_and(Table::is_empty));
}

fn registries(reader: &mut Reader<'_>, mark: Mark, table: Table, known: &mut BTreeMap<String, Known>) {
    for (key, value) in table {
        match (key.as_str(), value) {
            ("config_path", Toml::String(path)) if path == CERTS => {}
            ("config_path", Toml::String(path)) => {
                let message = format!("`config_path` is {}, but nodes have it at `{CERTS}`", quoted(&path));
                reader.problem(mark, message);
            }
            ("mirrors", Toml::Table(mirrors)) => {
                for (host, mirror) in mirrors {
                    let endpoints = mirror.get("endpoint").and_then(Toml::as_array).cloned().unwrap_or_default();
                    let registry = known.entry(host).or_default();
                    registry.mark = Some(mark);
                    registry.mirrors = endpoints.iter().filter_map(Toml::as_str).map(str::to_owned).collect();
                }
            }
            ("configs", Toml::Table(configs)) => {
                for (host, config) in configs {
                    let registry = known.entry(host.clone()).or_default();
                    registry.mark = Some(mark);
                    config_of(reader, mark, &host, &config, registry);
                }
            }
            (name, _) => reader.problem(mark, format!("containerd 2 has no {} of registries", quoted(name))),
        }
    }
}

fn config_of(reader: &mut Reader<'_>, mark: Mark, host: &str, config: &Toml, registry: &mut Known) {
    let text = |of: &str, name: &str| config.get(of)?.get(name)?.as_str().map(str::to_owned);
    registry.insecure |=
        config.get("tls").and_then(|tls| tls.get("insecure_skip_verify")).and_then(Toml::as_bool).unwrap_or_default();
    for name in ["ca_file", "cert_file", "key_file"] {
        if text("tls", name).is_some_and(|path| !path.is_empty()) && !registry.insecure {
            let message =
                format!("coracle cannot honour `{name}` of {}; write a `hosts.toml` into `{CERTS}`", quoted(host));
            reader.problem(mark, message);
        }
    }
    if let (Some(user), Some(password)) = (text("auth", "username"), text("auth", "password")) {
        registry.account = Some(Account::new(user, password));
    } else if let Some(packed) = text("auth", "auth") {
        registry.account = Account::from_base64(&packed);
        if registry.account.is_none() {
            reader.problem(mark, format!("`auth` of {} is not `NAME:PASSWORD` in base64", quoted(host)));
        }
    } else if config.get("auth").is_some() {
        reader.problem(mark, format!("`auth` of {} has neither `username` and `password` nor `auth`", quoted(host)));
    }
}

fn entry(mark: Mark, name: &str, value: &Toml) -> Entry {
    Entry { key: name.to_owned(), mark, node: node(mark, value) }
}

fn node(mark: Mark, value: &Toml) -> Node {
    let value = match value {
        Toml::String(text) => Value::Text(text.clone(), false),
        Toml::Integer(number) => Value::Number(Some(*number), number.to_string()),
        Toml::Float(number) => Value::Number(None, number.to_string()),
        Toml::Boolean(value) => Value::Bool(*value),
        Toml::Datetime(time) => Value::Text(time.to_string(), false),
        Toml::Array(items) => Value::List(items.iter().map(|item| node(mark, item)).collect()),
        Toml::Table(table) => Value::Map(table.iter().map(|(name, value)| entry(mark, name, value)).collect()),
    };
    Node { mark, value }
}
