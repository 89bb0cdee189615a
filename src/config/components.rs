//! Settings of the components: flags, merge patches and feature gates.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value as Json};

use super::flags::{FlagValue, Flags};
use super::reader::{Field, Reader, is_old_boolean};
use super::syntax;
use super::value::{Value, quoted};

const SUBNET: &str = "use `networking.serviceSubnet`";
const POD_SUBNET: &str = "use `networking.podSubnet`";
const GATES: &str = "use `featureGates`";
const OURS: &str = "";

/// A flag or setting that coracle sets itself, and what to use instead; [`OURS`] if there is nothing.
type Owned = (&'static str, &'static str);

/// Flags of kube-apiserver that coracle sets.
pub(super) const API_SERVER: &[Owned] = &[
    ("advertise-address", OURS),
    ("bind-address", "use `networking.apiServerAddress`"),
    ("client-ca-file", OURS),
    ("etcd-cafile", OURS),
    ("etcd-certfile", OURS),
    ("etcd-keyfile", OURS),
    ("etcd-servers", OURS),
    ("feature-gates", GATES),
    ("kubelet-certificate-authority", OURS),
    ("kubelet-client-certificate", OURS),
    ("kubelet-client-key", OURS),
    ("proxy-client-cert-file", OURS),
    ("proxy-client-key-file", OURS),
    ("requestheader-client-ca-file", OURS),
    ("secure-port", "use `networking.apiServerPort`"),
    ("service-account-key-file", OURS),
    ("service-account-signing-key-file", OURS),
    ("service-cluster-ip-range", SUBNET),
    ("tls-cert-file", OURS),
    ("tls-private-key-file", OURS),
];

/// Flags of kube-controller-manager that coracle sets.
pub(super) const CONTROLLER_MANAGER: &[Owned] = &[
    ("allocate-node-cidrs", OURS),
    ("authentication-kubeconfig", OURS),
    ("authorization-kubeconfig", OURS),
    ("client-ca-file", OURS),
    ("cluster-cidr", POD_SUBNET),
    ("cluster-signing-cert-file", OURS),
    ("cluster-signing-key-file", OURS),
    ("feature-gates", GATES),
    ("kubeconfig", OURS),
    ("node-cidr-mask-size", OURS),
    ("node-cidr-mask-size-ipv4", OURS),
    ("node-cidr-mask-size-ipv6", OURS),
    ("requestheader-client-ca-file", OURS),
    ("root-ca-file", OURS),
    ("secure-port", OURS),
    ("service-account-private-key-file", OURS),
    ("service-cluster-ip-range", SUBNET),
];

/// Flags of kube-scheduler that coracle sets.
pub(super) const SCHEDULER: &[Owned] = &[
    ("authentication-kubeconfig", OURS),
    ("authorization-kubeconfig", OURS),
    ("feature-gates", GATES),
    ("kubeconfig", OURS),
    ("secure-port", OURS),
];

/// Flags of etcd that coracle sets.
pub(super) const ETCD: &[Owned] = &[
    ("advertise-client-urls", OURS),
    ("cert-file", OURS),
    ("client-cert-auth", OURS),
    ("config-file", "write its settings as flags here"),
    ("initial-advertise-peer-urls", OURS),
    ("initial-cluster", OURS),
    ("initial-cluster-state", OURS),
    ("initial-cluster-token", OURS),
    ("key-file", OURS),
    ("listen-client-urls", OURS),
    ("listen-peer-urls", OURS),
    ("name", OURS),
    ("peer-cert-file", OURS),
    ("peer-client-cert-auth", OURS),
    ("peer-key-file", OURS),
    ("peer-trusted-ca-file", OURS),
    ("trusted-ca-file", OURS),
];

/// Flags of the kubelet that coracle sets.
pub(super) const KUBELET_FLAGS: &[Owned] = &[
    ("bootstrap-kubeconfig", OURS),
    ("cgroup-driver", OURS),
    ("config", "use `kubelet`"),
    ("container-runtime-endpoint", OURS),
    ("feature-gates", GATES),
    ("hostname-override", OURS),
    ("image-credential-provider-bin-dir", "use `login` of `registries`"),
    ("image-credential-provider-config", "use `login` of `registries`"),
    ("kubeconfig", OURS),
    ("node-labels", "use `labels` of the node"),
    ("pod-manifest-path", OURS),
    ("register-with-taints", "use `taints` of the node"),
];

/// Settings of the kubelet that coracle sets.
const KUBELET: &[Owned] = &[
    ("cgroupDriver", OURS),
    ("clusterDNS", SUBNET),
    ("containerRuntimeEndpoint", OURS),
    ("featureGates", GATES),
    ("staticPodPath", OURS),
];

/// Settings of kube-proxy that coracle sets.
const KUBE_PROXY: &[Owned] = &[
    ("clientConnection", OURS),
    ("clusterCIDR", POD_SUBNET),
    ("featureGates", GATES),
    ("hostnameOverride", OURS),
    ("mode", "use `networking.kubeProxyMode`"),
];

/// A component whose configuration file takes a merge patch.
pub(super) struct Patched {
    api_version: &'static str,
    kind: &'static str,
    owned: &'static [Owned],
}

pub(super) const KUBELET_PATCH: Patched =
    Patched { api_version: "kubelet.config.k8s.io/v1beta1", kind: "KubeletConfiguration", owned: KUBELET };
pub(super) const KUBE_PROXY_PATCH: Patched =
    Patched { api_version: "kubeproxy.config.k8s.io/v1alpha1", kind: "KubeProxyConfiguration", owned: KUBE_PROXY };

/// Whether a patch changes nothing.
pub(super) fn is_empty(patch: &Json) -> bool {
    patch.as_object().is_none_or(Map::is_empty)
}

impl Reader<'_> {
    /// Reports a setting that coracle sets itself, and returns whether it is one.
    fn owned(&mut self, field: &Field<'_>, name: &str, owned: &[Owned]) -> bool {
        let Some((_, instead)) = owned.iter().find(|(owned, _)| *owned == name) else { return false };
        let message = if instead.is_empty() {
            format!("`{name}` is set by coracle and cannot be changed")
        } else {
            format!("`{name}` is set by coracle; {instead}")
        };
        self.problem_at_key(field, message);
        true
    }

    /// Flags of a component: scalars, or lists.
    pub(super) fn flags(&mut self, field: &Field<'_>, owned: &[Owned]) -> Flags {
        let mut flags = Flags::new();
        for (name, value) in self.entries(field).unwrap_or_default() {
            if let Err(message) = syntax::flag_name(name) {
                self.problem_at_key(&value, message);
            } else if !self.owned(&value, name, owned)
                && let Some(value) = self.flag_value(&value)
            {
                flags.insert(name.to_owned(), value);
            }
        }
        flags
    }

    fn flag_value(&mut self, field: &Field<'_>) -> Option<FlagValue> {
        if let Value::List(_) = field.node.value {
            let items = self.items(field)?;
            let texts: Vec<_> = items.iter().map(|item| self.flag_scalar(item)).collect();
            return texts.into_iter().collect::<Option<Vec<_>>>().map(FlagValue::List);
        }
        self.flag_scalar(field).map(FlagValue::One)
    }

    fn flag_scalar(&mut self, field: &Field<'_>) -> Option<String> {
        match &field.node.value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Number(_, text) => Some(text.clone()),
            Value::Text(text, _) if text.chars().any(char::is_control) => {
                self.problem(field.node.mark, format!("{} contains a control character", quoted(text)));
                None
            }
            Value::Text(..) => self.string(field).map(str::to_owned),
            _ => {
                self.wrong_type(field, "a string, a number, a boolean or a list of these");
                None
            }
        }
    }

    /// Feature gates: each a name and a boolean.
    pub(super) fn feature_gates(&mut self, field: &Field<'_>) -> BTreeMap<String, bool> {
        let mut gates = BTreeMap::new();
        for (name, value) in self.entries(field).unwrap_or_default() {
            if let Err(message) = syntax::feature_gate(name) {
                self.problem_at_key(&value, message);
            } else if let Some(on) = self.boolean(&value) {
                gates.insert(name.to_owned(), on);
            }
        }
        gates
    }

    /// A merge patch of a component's configuration, without `apiVersion` and `kind`.
    pub(super) fn patch(&mut self, field: &Field<'_>, component: &Patched) -> Json {
        let mut patch = Map::new();
        for (name, value) in self.entries(field).unwrap_or_default() {
            match name {
                "apiVersion" => self.constant(&value, component.api_version),
                "kind" => self.constant(&value, component.kind),
                _ if self.owned(&value, name, component.owned) => {}
                _ => {
                    let json = self.json(&value);
                    patch.insert(name.to_owned(), json);
                }
            }
        }
        Json::Object(patch)
    }

    /// Reports any value but the only one that is allowed.
    pub(super) fn constant(&mut self, field: &Field<'_>, wanted: &str) {
        if !matches!(&field.node.value, Value::Text(text, _) if text == wanted) {
            self.problem(field.node.mark, format!("this must be `{wanted}`, not {}", field.node.value.describe()));
        }
    }

    /// The JSON value of a tree; duplicate keys and ambiguous words in it are problems.
    pub(super) fn json(&mut self, field: &Field<'_>) -> Json {
        match &field.node.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(Some(number), _) => Json::Number((*number).into()),
            Value::Number(None, text) => {
                if let Some(number) = text.parse().ok().and_then(Number::from_f64) {
                    return Json::Number(number);
                }
                let message = format!("`{text}` is not a number in JSON; put it in quotes");
                self.problem(field.node.mark, message);
                Json::Null
            }
            Value::Text(text, plain) => {
                if *plain && is_old_boolean(text) {
                    // The reader's rule for strings reports it.
                    self.string(field);
                }
                Json::String(text.clone())
            }
            Value::List(_) => {
                let items = self.items(field).unwrap_or_default();
                Json::Array(items.iter().map(|item| self.json(item)).collect())
            }
            Value::Map(_) => {
                let entries = self.entries(field).unwrap_or_default();
                let object = entries.iter().map(|(key, value)| ((*key).to_owned(), self.json(value)));
                Json::Object(object.collect())
            }
        }
    }
}
