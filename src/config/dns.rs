//! DNS: search domains, and additions to CoreDNS' configuration.

use serde::Serialize;

use super::reader::{Field, Reader};
use super::syntax;

/// With the three search domains of the cluster, a pod then has the 32 that Kubernetes allows.
const MAX_SEARCH_DOMAINS: usize = 29;
const CORE_DNS: &[&str] = &["plugins", "servers"];

/// Additions to CoreDNS' configuration, which are copied into it unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CoreDns {
    /// Plugins for the server that answers for all names.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub plugins: String,
    /// Additional servers, for the zones that they name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub servers: String,
}

impl CoreDns {
    /// Whether nothing is added.
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty() && self.servers.is_empty()
    }
}

impl Reader<'_> {
    /// `coreDNS`.
    pub(super) fn core_dns(&mut self, field: &Field<'_>) -> CoreDns {
        let mut additions = CoreDns::default();
        let Some(fields) = self.fields(field, CORE_DNS, &[]) else { return additions };
        for (name, text) in [("plugins", &mut additions.plugins), ("servers", &mut additions.servers)] {
            if let Some(found) = fields.get(name).and_then(|value| self.string(value)) {
                found.trim_end().clone_into(text);
            }
        }
        additions
    }

    /// `networking.dnsSearch`.
    pub(super) fn dns_search(&mut self, field: &Field<'_>) -> Option<Vec<String>> {
        let items = self.items(field)?;
        if items.len() > MAX_SEARCH_DOMAINS {
            let message = format!("{} search domains are too many; the maximum is {MAX_SEARCH_DOMAINS}", items.len());
            self.problem(field.node.mark, message);
        }
        let domains: Vec<_> = items.iter().map(|item| self.parsed(item, syntax::search_domain)).collect();
        domains.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{ClusterConfig, Overrides, load};

    fn read(fields: &str) -> Result<ClusterConfig, Vec<String>> {
        let text = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n{fields}\n");
        load(&text, "c.yaml", &Overrides::default())
            .map_err(|error| error.problems().iter().map(|problem| problem.message.clone()).collect())
    }

    #[test]
    fn search_domains_come_from_the_file() {
        let search = |text: &str| read(&format!("networking: {text}")).unwrap().networking.dns_search;
        assert_eq!(search("{}"), None, "the engine's own are kept");
        assert_eq!(search("{dnsSearch: []}"), Some(Vec::new()));
        assert_eq!(search("{dnsSearch: [corp.example, example]}").unwrap(), ["corp.example", "example"]);
        let odd = "{dnsSearch: [lab.example., Corp.Example, _sites.corp_1.example, 10.in-addr.arpa]}";
        assert_eq!(search(odd).unwrap(), ["lab.example.", "Corp.Example", "_sites.corp_1.example", "10.in-addr.arpa"]);
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        let problems = |text: &str| read(&format!("networking: {text}")).unwrap_err();
        assert_eq!(problems("{dnsSearch: corp.example}").len(), 1);
        assert_eq!(
            problems("{dnsSearch: ['corp example', '', a..b, -a]}"),
            [
                "`corp example` is not a domain such as `corp.example`",
                "`` must have 1 to 253 characters",
                "`a..b` is not a domain such as `corp.example`",
                "`-a` is not a domain such as `corp.example`",
            ]
        );
        assert!(problems("{dnsSearch: [.]}")[0].contains("`dnsSearch: []`"));
        let many = vec!["a.example"; 30].join(", ");
        assert_eq!(
            problems(&format!("{{dnsSearch: [{many}]}}")),
            ["30 search domains are too many; the maximum is 29"]
        );
    }

    #[test]
    fn additions_to_coredns_read_back_the_same() {
        let cluster =
            read("coreDNS:\n  plugins: |\n    log\n  servers: |\n    a.example {\n      whoami\n    }\n").unwrap();
        assert_eq!(
            (cluster.core_dns.plugins.as_str(), cluster.core_dns.servers.as_str()),
            ("log", "a.example {\n  whoami\n}")
        );
        assert_eq!(load(&cluster.to_text().unwrap(), "c.yaml", &Overrides::default()).unwrap(), cluster);
        assert!(read("coreDNS: {plugin: log}").unwrap_err()[0].contains("did you mean `plugins`"));
    }
}
