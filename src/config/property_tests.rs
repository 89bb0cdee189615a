use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

use super::{ClusterConfig, ClusterName, Overrides, load};

/// Lines as they stand in configurations, in any order and indentation.
fn likely_text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        prop::sample::select(vec![
            "apiVersion: coracle.dev/v1alpha1",
            "kind: Cluster",
            "name: a",
            "nodes:",
            "- role: worker",
            "- role: control-plane",
            "role: [",
            "labels: {a: b",
            "taints:",
            "extraMounts:",
            "- hostPath: ..",
            "containerPath: /",
            "extraPortMappings:",
            "- containerPort: 1",
            "hostPort: 99999999999999999999",
            "networking:",
            "podSubnet: 10.0.0.0/31",
            "nodeSubnet: 0.0.0.0/0",
            "serviceSubnet: 255.255.255.255/32",
            "kubelet:",
            "&a x: *a",
            "<<: *a",
            "- - -",
            "? !!int x",
            "!!map [",
            "'\"",
            "|",
            ">-",
            "---",
            "...",
            "\u{feff}",
            "\t",
            "%YAML 1.1",
            "ä: 😀",
            "featureGates: {A: .nan}",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    prop::collection::vec((0..4_usize, word), 0..30).prop_map(|lines| {
        lines.iter().map(|(indent, word)| format!("{}{word}", "  ".repeat(*indent))).collect::<Vec<_>>().join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_loader_panic(text in prop_oneof![any::<String>(), likely_text()], workers in any::<Option<usize>>()) {
        let _ = load(&text, "c.yaml", &Overrides { workers, ..Overrides::default() });
    }

    #[test]
    fn problems_stay_inside_the_text(text in likely_text()) {
        if let Err(error) = load(&text, "c.yaml", &Overrides::default()) {
            assert!(!error.problems().is_empty());
        }
    }

    /// What is stored with a cluster is read again by later commands.
    #[test]
    fn what_is_written_out_is_read_back_the_same(
        key in "[a-zA-Z]{1,9}",
        text in prop_oneof![any::<String>(), likely_text()],
        number in any::<i64>(),
        float in -1e9..1e9_f64,
    ) {
        let mut cluster = ClusterConfig::new(ClusterName::default());
        cluster.kubelet = serde_json::json!({ format!("x{key}"): [text, number, float, null, true, [], {}, { "k": text }] });
        let written = cluster.to_text().unwrap();
        let read = load(&written, "c.yaml", &Overrides::default());
        assert_eq!(read.unwrap_or_else(|error| panic!("{error:?} in {written:?}")), cluster);
    }
}
