//! The scenarios, by the cluster they share.

use crate::Group;

mod addons;
mod at_rest;
mod basics;
mod by_hand;
mod command_line;
mod course;
mod daily;
mod doctor;
mod doctor_host;
mod early;
mod engine;
mod explain;
mod failures;
mod grow;
mod guarded;
mod health;
mod hello;
mod ids;
mod image_commands;
mod images;
mod ip_family;
mod ip_policy;
mod join;
mod kind_files;
mod kind_link;
mod lifecycle;
mod lifetime;
mod links;
mod load_balancer;
mod loading;
mod mistakes;
mod names;
mod node_commands;
mod nodes;
mod older;
mod other_cni;
mod ownership;
mod planes;
mod platforms;
mod policy;
mod policy_page;
mod ports;
mod power;
mod previous;
mod published;
mod reading;
mod readme;
mod registry;
mod registry_pages;
mod releases;
mod reports;
mod resources;
mod run;
mod security;
mod settings;
mod storage;
mod trees;
mod unreliable;
mod workloads;

pub(crate) use loading::{STORE, changes};

/// Every group, the quickest one first.
pub(crate) fn groups() -> Vec<Group> {
    vec![
        failures::FAILURES,
        explain::EXPLAIN,
        doctor::DOCTOR,
        ONE,
        SETTINGS,
        BARE,
        other_cni::OTHER_CNI,
        NO_PROXY,
        failures::RACE,
        kind_files::KIND_FILES,
        kind_link::KIND_LINK,
        run::RUN,
        published::PUBLISHED,
        engine::ENGINE,
        NAMES,
        DUAL,
        IPV6,
        POLICY,
        node_commands::THREE,
        load_balancer::LOAD_BALANCER,
        PLANES,
        grow::GROW,
        course::COURSE,
        course::SETUP,
        older::OLDER,
        releases::RELEASES,
        previous::PREVIOUS,
        readme::README,
        lifetime::LIFETIME,
        ADDONS,
        STORAGE,
        CONTENTS,
        REGISTRY,
        unreliable::UNRELIABLE,
    ]
}

/// One node, with a port mapping.
const ONE: Group = Group {
    name: "one",
    environment: &[],
    create: basics::create,
    together: &[],
    scenarios: &[
        ("counts", early::counts),
        ("context", basics::context),
        ("types", reading::types),
        ("wrong-manifests", reading::manifests),
        ("pods-and-node", basics::pods_and_node),
        ("first-calls", early::first_calls),
        ("readable", early::readable),
        ("head-start", basics::head_start),
        ("head-start-daemons", early::daemons),
        ("kubeadm", basics::kubeadm),
        ("dry-run", reports::dry_run),
        ("name-taken", mistakes::name_taken),
        ("status", reports::status),
        ("get", reports::get),
        ("labels", reports::labels),
        ("export-kubeconfig", reports::export_kubeconfig),
        ("coracle-kubectl", reports::coracle_kubectl),
        ("kubectl-context", command_line::kubectl),
        ("kubectl-damaged", command_line::damaged_kubectl),
        ("api-address", security::api_address),
        ("anonymous", security::anonymous),
        ("kubelet", security::kubelet),
        ("keys", security::keys),
        ("secrets-stay", security::secrets_stay),
        ("certificates", security::certificates),
        ("hello-load", hello::load),
        ("hello-page", hello::page),
        ("load-archives", images::archives),
        ("load-interrupted", loading::interrupted),
        ("load-helper-killed", loading::helper_killed),
        ("loads-at-once", loading::at_once),
        ("image-commands", image_commands::manage),
        ("image-prune", image_commands::prune),
        ("image-other-platform", command_line::other_platform),
        ("image-of-deleted-pod", command_line::image_of_deleted_pod),
        ("image-restart", image_commands::restart),
        ("trees", trees::equal),
        ("deployment", workloads::deployment),
        ("rollout", workloads::rollout),
        ("logs-exec-forward", workloads::logs_exec_forward),
        ("pod-comes-back", workloads::pod_comes_back),
        ("storage", workloads::storage),
        ("export-logs", reports::export_logs),
        ("logs", daily::logs),
        ("logs-follow", daily::logs_follow),
        ("shell", daily::shell),
        ("cp", daily::cp),
        ("events", daily::events),
        ("top", daily::top),
        ("completion", daily::completion),
        ("paused-node", daily::paused_node),
        ("accounts", early::accounts),
        ("roles", early::roles),
        ("service", early::service),
        ("stop-start", power::stop_start),
        ("first-calls-again", early::first_calls),
        ("rest", power::rest),
        ("restart", lifecycle::restart),
        ("crash", lifecycle::crash),
        ("seldom-woken", at_rest::seldom_woken),
        ("patient-controllers", guarded::patient_controllers),
        ("error-ids", ids::of_cluster),
        ("doctor-astray", doctor_host::astray),
        ("doctor-kubeconfig", doctor::kubeconfig),
        ("delete", lifecycle::delete),
    ],
};

/// One node with settings of components, nftables and proxy variables.
const SETTINGS: Group = Group {
    name: "settings",
    environment: settings::ENVIRONMENT,
    create: settings::create,
    together: &[],
    scenarios: &[
        ("kubelet-patch", settings::kubelet_patch),
        ("resources", resources::all),
        ("feature-gate", settings::feature_gate),
        ("roles", early::roles_by_upstream),
        ("flags", settings::flags),
        ("nftables", settings::nftables),
        ("exhausted-pool", settings::exhausted_pool),
        ("image-garbage", image_commands::garbage),
        ("mounts", settings::mounts),
        ("labels-and-taints", settings::labels_and_taints),
        ("proxy", settings::proxy),
        ("unknown-settings", mistakes::unknown_settings),
        ("wrong-flag", mistakes::wrong_flag),
        ("wrong-config", mistakes::wrong_config),
        ("etcd-metrics", reading::metrics_and_search),
        ("wait", reading::wait),
        ("doctor-stopped", doctor::stopped),
    ],
};

/// Neither CNI plugin nor kube-proxy.
const BARE: Group = Group {
    name: "bare",
    environment: &[],
    create: settings::create_bare,
    together: &[],
    scenarios: &[("bare", settings::bare), ("client-proxy", settings::client_proxy)],
};

/// One control plane and one worker, with network policies.
const POLICY: Group = Group {
    name: "policy",
    environment: &[],
    create: policy::create,
    together: &[],
    scenarios: &[
        ("ingress", policy::ingress),
        ("egress", policy::egress),
        ("ports-and-blocks", policy::ports_and_blocks),
        ("within-a-second", policy::within_a_second),
        ("probes", policy::probes),
        ("from-the-first-packet", policy::from_the_first_packet),
        ("without-the-agent", policy::without_the_agent),
        ("memory", policy::memory),
        ("page", policy_page::page),
    ],
};

/// A control plane and a worker without kube-proxy.
const NO_PROXY: Group = Group {
    name: "no-proxy",
    environment: &[],
    create: other_cni::create_without_proxy,
    together: &[],
    scenarios: &[("no-services", other_cni::no_services)],
};

/// One node, with what the file can say about names.
const NAMES: Group = Group {
    name: "names",
    environment: &[],
    create: names::create,
    together: &[],
    scenarios: &[
        ("host", names::host),
        ("search", names::search),
        ("plugins", names::plugins),
        ("restart", names::restart),
        ("wrong", names::wrong),
    ],
};

/// What works the same with IPv6 beside IPv4 and alone, and then some.
macro_rules! with_ipv6 {
    ($($more:expr),+ $(,)?) => {
        &[
            ("addresses", ip_family::addresses_of_all),
            ("pods", ip_family::pods_reach_pods),
            ("service", ip_family::service),
            ("load-balancer", ip_family::load_balancer),
            ("names", ip_family::names),
            ("outside-names", ip_family::outside_names),
            ("node-ports", ip_family::node_ports),
            ("masquerading", ip_family::masquerading),
            ("pod-start", ip_policy::pod_start),
            ("local", ip_policy::local),
            ("policies", ip_policy::policies),
            $($more),+
        ]
    };
}

/// A control plane and a worker with both address families.
const DUAL: Group = Group {
    name: "dual",
    environment: &[],
    create: ip_family::create_dual,
    together: &[],
    scenarios: with_ipv6![("documentation", ip_family::documentation), ("delete", ip_family::delete)],
};

/// The same with IPv6 only.
const IPV6: Group = Group {
    name: "ipv6",
    environment: &[],
    create: ip_family::create_ipv6,
    together: &[],
    scenarios: with_ipv6![
        ("logs-exec-forward", ip_family::logs_exec_forward),
        ("restart-worker", ip_family::restart_worker),
        ("delete", ip_family::delete),
    ],
};

/// Three control planes.
const PLANES: Group = Group {
    name: "planes",
    environment: &[],
    create: nodes::create_planes,
    together: &[],
    scenarios: &[
        ("ready", nodes::planes_ready),
        ("roles", early::roles_of_several),
        ("health", health::every_component),
        ("one-etcd", planes::one_etcd),
        ("faults", planes::faults),
        ("stop-start", planes::stop_start),
        ("first-packets", early::first_packets),
        ("balancer", nodes::balancer),
        ("delete", nodes::delete),
    ],
};

/// One node whose ports 80 and 443 are published, as the page about Ingress has it.
const ADDONS: Group = Group {
    name: "addons",
    environment: &[],
    create: addons::create,
    together: &[],
    scenarios: &[
        ("object-of-others", by_hand::object_of_an_add_on),
        ("page", addons::page),
        ("enable-ingress", addons::enable_ingress),
        ("status", addons::status),
        ("ingress-page", addons::ingress_page),
        ("in-use", addons::in_use),
        ("nothing-left", addons::nothing_left),
        ("delete", nodes::delete),
    ],
};

/// One control plane and two workers that share their volumes.
const STORAGE: Group = Group {
    name: "storage",
    environment: &[],
    create: storage::create,
    together: &[],
    scenarios: &[
        ("page", storage::page),
        ("reclaim", storage::reclaim),
        ("other-node", storage::other_node),
        ("node-restart", storage::node_restart),
        ("delete", nodes::delete),
    ],
};

/// One node that is created with images, add-ons, manifests and volumes that outlive it.
const CONTENTS: Group = Group {
    name: "contents",
    environment: &[],
    create: storage::create_with_contents,
    together: &[],
    scenarios: &[
        ("there-at-once", storage::there_at_once),
        ("no-balancer", storage::no_balancer),
        ("joined", join::joined),
        ("problems", storage::problems),
        ("persist", storage::persist),
        ("delete", nodes::delete),
    ],
};

/// A control plane and a worker with a local registry, and others behind a CA and a login.
const REGISTRY: Group = Group {
    name: "registry",
    environment: &[],
    create: registry::create,
    together: &[],
    scenarios: &[
        ("push", registry::push),
        ("prune", registry::prune),
        ("hosting", registry::hosting),
        ("mirrored", registry::mirrored),
        ("image-pull", registry::image_pull),
        ("login", registry::login),
        ("page", registry_pages::page),
        ("image-page", registry_pages::image_page),
        ("port-taken", registry_pages::port_taken),
        ("kind-file", registry_pages::kind_file),
        ("another-cluster", registry::another_cluster),
        ("delete", registry::delete),
    ],
};
