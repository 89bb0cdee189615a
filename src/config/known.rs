//! What can be set in the Kubernetes version of a node image: the list that `coracle build node-image` has made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use base64::Engine as _;
use serde::Deserialize;

/// No list is longer; what is in a label of someone else's image may unpack to anything.
const MAX_SIZE: u64 = 4 << 20;

/// The types of flags that are given once per value, because each value may contain commas: pflag's words for them.
const REPEATED_TYPES: &[&str] = &["stringArray", "namedCertKey"];
/// The flags that are repeated in every version so far, for images that do not say it.
const ALWAYS_REPEATED: &[&str] = &["service-account-issuer", "service-account-key-file", "tls-sni-cert-key"];

/// A type by the names of its fields, or a component by the names of its flags, and the type of each.
pub(super) type Names = BTreeMap<String, String>;

/// The fields of the configuration files, the flags of the control plane and the feature gates of one version.
///
/// `node-image/kubernetes/settings/main.go` makes it and describes the types.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// The version, such as `v1.36.3`.
    pub kubernetes: String,
    /// The type of each configuration file by its kind.
    pub(super) documents: Names,
    pub(super) types: BTreeMap<String, Names>,
    pub(super) flags: BTreeMap<String, Names>,
    pub(super) feature_gates: BTreeSet<String>,
}

impl Known {
    /// Reads the label of a node image: JSON, compressed by gzip, in base64. `None` if this is something else.
    pub fn from_label(label: &str) -> Option<Self> {
        let packed = base64::engine::general_purpose::STANDARD.decode(label).ok()?;
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).take(MAX_SIZE).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The path in a configuration file of the only field with this name, in whatever case and wherever it is.
    pub(super) fn find(&self, of_type: &str, name: &str) -> Option<String> {
        let mut found = Vec::new();
        self.collect(of_type, "", name, &mut found);
        if found.len() == 1 { found.pop() } else { None }
    }

    fn collect(&self, of_type: &str, above: &str, name: &str, found: &mut Vec<String>) {
        let Some(fields) = of_type.strip_prefix('#').and_then(|name| self.types.get(name)) else { return };
        // No type of Kubernetes contains itself; this is for labels that someone has made.
        if above.matches('.').count() > 8 {
            return;
        }
        for (field, of_type) in fields {
            let path = if above.is_empty() { field.clone() } else { format!("{above}.{field}") };
            if field.eq_ignore_ascii_case(name) {
                found.push(path.clone());
            }
            self.collect(of_type, &path, name, found);
        }
    }
}

/// Whether a flag with several values is given once per value; otherwise they are joined with commas.
pub fn is_repeated(known: Option<&Known>, component: &str, flag: &str) -> bool {
    match known.and_then(|known| known.flags.get(component)) {
        Some(flags) => flags.get(flag).is_some_and(|of_type| REPEATED_TYPES.contains(&of_type.as_str())),
        None => ALWAYS_REPEATED.contains(&flag),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use serde_json::json;

    use super::*;

    /// The label of an image that knows a little of everything.
    pub(crate) fn label(version: &str) -> String {
        let list = json!({
            "kubernetes": version,
            "documents": {"KubeletConfiguration": "#KubeletConfiguration", "KubeProxyConfiguration": "#KubeProxyConfiguration"},
            "types": {
                "KubeletConfiguration": {
                    "apiVersion": "string", "kind": "string", "maxPods": "int32", "podPidsLimit": "int64",
                    "failSwapOn": "boolean", "authentication": "#KubeletAuthentication", "evictionHard": "{}string",
                    "clusterDomain": "string", "clusterDNS": "[]string", "syncFrequency": "duration",
                    "memoryThrottlingFactor": "number", "reservedMemory": "[]#MemoryReservation",
                    "containerLogMaxSize": "string", "logging": "any",
                },
                "KubeletAuthentication": {"x509": "#KubeletX509Authentication"},
                "KubeletX509Authentication": {"clientCAFile": "string"},
                "MemoryReservation": {"numaNode": "int32", "limits": "{}quantity"},
                "KubeProxyConfiguration": {"conntrack": "#Conntrack", "oomScoreAdj": "int32"},
                "Conntrack": {"min": "int32", "tcpCloseWaitTimeout": "duration"},
            },
            "flags": {
                "kube-apiserver": {
                    "v": "Level", "profiling": "bool", "max-requests-inflight": "int", "event-ttl": "duration",
                    "service-account-issuer": "stringArray", "tls-sni-cert-key": "namedCertKey",
                    "enable-admission-plugins": "strings", "runtime-config": "mapStringString", "help": "bool",
                    "apiserver-count": "",
                },
                "kube-controller-manager": {"concurrent-gc-syncs": "int32", "v": "Level"},
                "kube-scheduler": {"kube-api-qps": "float32"},
                "etcd": {"quota-backend-bytes": "int64", "snapshot-count": "uint64"},
            },
            "featureGates": ["ContextualLogging", "NodeSwap"],
        });
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(list.to_string().as_bytes()).unwrap();
        base64::engine::general_purpose::STANDARD.encode(packed.finish().unwrap())
    }

    pub(crate) fn known(version: &str) -> Known {
        Known::from_label(&label(version)).unwrap()
    }

    #[test]
    fn a_label_of_something_else_is_no_list() {
        for label in ["", "x", "e30=", "H4sIAAAAAAAA"] {
            assert_eq!(Known::from_label(label), None, "{label}");
        }
        assert_eq!(known("v1.36.3").kubernetes, "v1.36.3");
    }

    #[test]
    fn a_flag_is_repeated_as_its_version_says() {
        let mut known = known("v1.36.3");
        let repeated = |known: Option<&Known>, flag: &str| is_repeated(known, "kube-apiserver", flag);
        for flag in ["service-account-issuer", "tls-sni-cert-key"] {
            assert!(repeated(Some(&known), flag) && repeated(None, flag), "{flag}");
        }
        assert!(!repeated(Some(&known), "enable-admission-plugins") && !repeated(None, "enable-admission-plugins"));
        let flags = known.flags.get_mut("kube-apiserver").unwrap();
        flags.insert("service-account-issuer".to_owned(), "strings".to_owned());
        assert!(!repeated(Some(&known), "service-account-issuer"));
    }
}
