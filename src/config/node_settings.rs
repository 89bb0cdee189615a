//! What the container of a node gets and how its kubelet differs from the others.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};

use super::components;
use super::node_syntax::{self, ULIMITS};
use super::quantities::scaled;
use super::reader::{Field, Fields, Reader};
use super::value::{Value, quoted};
use super::{Role, syntax};

/// The fields of a node that are read here.
pub(super) const FIELDS: &[&str] =
    &["memory", "cpus", "ulimits", "sysctls", "env", "devices", "hostAliases", "kubelet"];
const HOST_ALIAS: &[&str] = &["ip", "hostnames"];
const ULIMIT: &[&str] = &["soft", "hard"];

/// Memory without which a control plane does not get ready, and a worker, bytes (docs/decisions/0023).
const MIN_MEMORY: [(Role, u64); 2] = [(Role::ControlPlane, 768 << 20), (Role::Worker, 256 << 20)];
/// Processors without which the pods of the control plane and of DNS do not fit (they request 0.86), and those without which
/// a worker misses its own deadlines, in thousandths.
const MIN_CPUS: [(Role, u64); 2] = [(Role::ControlPlane, 1000), (Role::Worker, 100)];
/// More processors than any machine has.
const MAX_CPUS: u64 = 1_000_000;
/// Open files without which systemd and containerd do not work, and the largest number that every kernel allows.
const FILES: std::ops::RangeInclusive<i64> = 1024..=1_048_576;
/// The value of a limit that does not limit.
pub const UNLIMITED: i64 = -1;

/// What the container of a node gets, and what its kubelet has of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSettings {
    /// The most memory that the container may use, and the kubelet reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// The most processor time, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
    /// Limits of processes, of the node's and of those in pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Kernel parameters of the container's own namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Environment of the container and of all services in it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Devices of the host: paths below `/dev`, and CDI names such as `nvidia.com/gpu=all`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Names in the node's `/etc/hosts`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_aliases: Vec<HostAlias>,
    /// Merge patch (RFC 7386) of the kubelet's configuration, over that of the cluster.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub kubelet: Map<String, Json>,
}

/// An amount of memory, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory(pub u64);

impl std::fmt::Display for Memory {
    /// The shortest spelling that is exact: `1536Mi`.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [(30, "Gi"), (20, "Mi"), (10, "Ki"), (0, "")];
        let exact = units.iter().find(|(bits, _)| self.0.is_multiple_of(1 << bits));
        let (bits, unit) = exact.unwrap_or(&(0, ""));
        write!(formatter, "{}{unit}", self.0 >> bits)
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number of processors, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpus(pub u64);

impl Cpus {
    /// The processors that a program sees: the next whole number.
    pub const fn whole(self) -> u64 {
        self.0.div_ceil(1000)
    }
}

impl std::fmt::Display for Cpus {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, part) = (self.0 / 1000, format!("{:03}", self.0 % 1000));
        match part.trim_end_matches('0') {
            "" => write!(formatter, "{whole}"),
            part => write!(formatter, "{whole}.{part}"),
        }
    }
}

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // As text it is exact, and is read back like a number.
        serializer.collect_str(self)
    }
}

/// A limit of processes (`ulimit`); [`UNLIMITED`] for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ulimit {
    #[serde(serialize_with = "limit")]
    pub soft: i64,
    #[serde(serialize_with = "limit")]
    pub hard: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn limit<S: Serializer>(value: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    match *value {
        UNLIMITED => serializer.serialize_str("unlimited"),
        value => serializer.serialize_i64(value),
    }
}

/// Names for an address, as in a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostAlias {
    pub ip: IpAddr,
    pub hostnames: Vec<String>,
}

/// Whether a device is named as the Container Device Interface has it, and not by its path.
pub fn is_cdi(device: &str) -> bool {
    !device.starts_with('/')
}

/// Reads the settings among the fields of a node.
pub(super) fn read(reader: &mut Reader<'_>, fields: &Fields<'_>, role: Option<Role>) -> NodeSettings {
    let mut settings = NodeSettings {
        memory: fields.get("memory").and_then(|field| memory(reader, field, role)),
        cpus: fields.get("cpus").and_then(|field| cpus(reader, field, role)),
        ..NodeSettings::default()
    };
    if let Some(field) = fields.get("ulimits") {
        settings.ulimits = ulimits(reader, field);
    }
    if let Some(field) = fields.get("sysctls") {
        settings.sysctls = named(reader, field, node_syntax::sysctl, scalar);
    }
    if let Some(field) = fields.get("env") {
        let text = |reader: &mut Reader<'_>, field: &Field<'_>| reader.parsed(field, node_syntax::line);
        settings.env = named(reader, field, node_syntax::variable, text);
    }
    if let Some(field) = fields.get("devices") {
        settings.devices = devices(reader, field);
    }
    if let Some(field) = fields.get("hostAliases") {
        settings.host_aliases = host_aliases(reader, field);
    }
    if let Some(field) = fields.get("kubelet")
        && let Json::Object(patch) = reader.patch(field, &components::KUBELET_PATCH)
    {
        settings.kubelet = patch;
    }
    settings
}

/// A quantity, times `factor`; `None` after a problem.
fn quantity(reader: &mut Reader<'_>, field: &Field<'_>, factor: u64, wanted: &str) -> Option<u64> {
    let value = match &field.node.value {
        Value::Number(_, text) | Value::Text(text, _) => scaled(text, factor),
        _ => None,
    };
    if value.is_none() {
        reader.wrong_type(field, wanted);
    }
    value
}

fn memory(reader: &mut Reader<'_>, field: &Field<'_>, role: Option<Role>) -> Option<Memory> {
    let memory = Memory(quantity(reader, field, 1, "a quantity such as `2Gi` or `1500M`")?);
    let least = Memory(least(&MIN_MEMORY, role));
    if memory < least {
        let role = words(role);
        reader.problem(field.node.mark, format!("a {role} needs at least {least} of memory, not {memory}"));
        return None;
    }
    Some(memory)
}

fn cpus(reader: &mut Reader<'_>, field: &Field<'_>, role: Option<Role>) -> Option<Cpus> {
    let cpus = Cpus(quantity(reader, field, 1000, "a number of processors such as `2` or `1.5`")?);
    let least = Cpus(least(&MIN_CPUS, role));
    if cpus < least || cpus.0 > MAX_CPUS {
        let (role, most) = (words(role), Cpus(MAX_CPUS));
        let message = format!("the `cpus` of a {role} must be between {least} and {most}, not {cpus}");
        reader.problem(field.node.mark, message);
        return None;
    }
    Some(cpus)
}

/// What sentences call a node of this role.
fn words(role: Option<Role>) -> &'static str {
    match role {
        Some(Role::ControlPlane) => "control plane",
        Some(Role::Worker) => "worker",
        None => "node",
    }
}

/// What a node of this role needs; what the smallest node needs if the role is not known.
fn least(of_roles: &[(Role, u64)], role: Option<Role>) -> u64 {
    let known = of_roles.iter().filter(|(of, _)| role.is_none_or(|role| role == *of));
    known.map(|(_, least)| *least).min().unwrap_or_default()
}

/// The entries of a mapping whose keys follow a rule, and whose values are read one by one.
fn named<T>(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    check: impl Fn(&str) -> Result<(), String>,
    read: impl Fn(&mut Reader<'_>, &Field<'_>) -> Option<T>,
) -> BTreeMap<String, T> {
    let mut all = BTreeMap::new();
    for (name, value) in reader.entries(field).unwrap_or_default() {
        if let Err(message) = check(name) {
            reader.problem_at_key(&value, message);
        } else if let Some(value) = read(reader, &value) {
            all.insert(name.to_owned(), value);
        }
    }
    all
}

/// The text of a number or a string.
fn scalar(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<String> {
    match &field.node.value {
        Value::Number(_, text) => Some(text.clone()),
        Value::Text(..) => reader.parsed(field, node_syntax::line),
        _ => {
            reader.wrong_type(field, "a number or a string");
            None
        }
    }
}

fn ulimits(reader: &mut Reader<'_>, field: &Field<'_>) -> BTreeMap<String, Ulimit> {
    let known = |name: &str| {
        let is_known = ULIMITS.iter().any(|(known, _)| *known == name);
        if is_known { Ok(()) } else { Err(node_syntax::unknown_ulimit(name)) }
    };
    let limits = named(reader, field, known, |reader, field| {
        let Value::Map(_) = field.node.value else {
            return number(reader, field).map(|both| Ulimit { soft: both, hard: both });
        };
        let fields = reader.fields(field, ULIMIT, &[])?;
        let both = [fields.get("soft"), fields.get("hard")];
        let [Some(soft), Some(hard)] = both else {
            reader.problem(fields.mark, format!("{} needs both `soft` and `hard`", field.name));
            return None;
        };
        let (soft, hard) = (number(reader, soft), number(reader, hard));
        let limit = Ulimit { soft: soft?, hard: hard? };
        if limit.hard != UNLIMITED && (limit.soft == UNLIMITED || limit.soft > limit.hard) {
            reader.problem(fields.mark, format!("the soft limit of {} is above the hard one", field.name));
            return None;
        }
        Some(limit)
    });
    for (name, limit) in limits.iter().filter(|(name, _)| *name == "nofile") {
        if !FILES.contains(&limit.soft) || !FILES.contains(&limit.hard) {
            let (least, most) = (FILES.start(), FILES.end());
            reader
                .problem_at(&format!("{}.{name}", field.path), format!("`nofile` must be between {least} and {most}"));
        }
    }
    limits
}

/// A number from 0 on, or `unlimited`.
fn number(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<i64> {
    match &field.node.value {
        Value::Number(Some(number), _) if *number >= 0 => Some(*number),
        Value::Text(text, _) if text == "unlimited" => Some(UNLIMITED),
        _ => {
            reader.wrong_type(field, "a number, `unlimited`, or `soft` and `hard`");
            None
        }
    }
}

fn devices(reader: &mut Reader<'_>, field: &Field<'_>) -> Vec<String> {
    let mut devices: Vec<String> = Vec::new();
    for item in reader.items(field).unwrap_or_default() {
        let Some(device) = reader.parsed(&item, node_syntax::device) else { continue };
        if devices.contains(&device) {
            reader.problem(item.node.mark, format!("{} is already listed", quoted(&device)));
        }
        devices.push(device);
    }
    devices
}

fn host_aliases(reader: &mut Reader<'_>, field: &Field<'_>) -> Vec<HostAlias> {
    let mut aliases = Vec::new();
    for item in reader.items(field).unwrap_or_default() {
        let Some(fields) = reader.fields(&item, HOST_ALIAS, &[]) else { continue };
        let [Some(ip), Some(names)] = [fields.get("ip"), fields.get("hostnames")] else {
            reader.problem(fields.mark, "an alias needs both `ip` and `hostnames`");
            continue;
        };
        let ip = reader.parsed(ip, syntax::address);
        let items = reader.items(names).unwrap_or_default();
        if items.is_empty() {
            reader.problem(names.node.mark, "an alias needs at least one name in `hostnames`");
        }
        let hostnames: Vec<String> =
            items.iter().filter_map(|item| reader.parsed(item, node_syntax::host_name)).collect();
        aliases.extend(ip.map(|ip| HostAlias { ip, hostnames }));
    }
    aliases
}

#[cfg(test)]
#[path = "node_settings_tests.rs"]
mod tests;
