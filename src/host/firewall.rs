//! Rules of this host's firewall that drop what is forwarded. Only root may read them.

use std::process::Command;

use crate::error::Error;
use crate::host::check::odd;

/// The tables of `iptables`, in which the engine drops what it does not forward, and lets its own pass.
const OF_THE_ENGINE: [&str; 2] = ["ip filter", "ip6 filter"];
/// How the names of the engine's links begin in rules.
const LINKS: [&str; 2] = ["\"docker", "\"br-"];
/// The table of firewalld, which engines tell of their networks.
const FIREWALLD: &str = "inet firewalld";

/// A warning about a chain that drops what no rule accepts; none if the rules cannot be read.
pub(super) fn check() -> Option<Error> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let output = Command::new("nft").args(["list", "ruleset"]).output().ok()?;
    Some(dropping(&String::from_utf8_lossy(&output.stdout))?.warning())
}

/// A chain for forwarded packets, and its table.
#[derive(Debug, PartialEq, Eq)]
struct Dropping<'a> {
    table: &'a str,
    chain: &'a str,
    /// The rule that drops, if that is not the chain's policy.
    rule: Option<&'a str>,
}

impl Dropping<'_> {
    fn warning(&self) -> Error {
        let Self { table, chain, .. } = self;
        let cause = match self.rule {
            None => format!("the policy of chain `{table} {chain}` is `drop`"),
            Some(rule) => {
                format!("chain `{table} {chain}` ends with `{rule}`, and its table names no network of the engine")
            }
        };
        let hint = if *table == FIREWALLD {
            "an engine tells firewalld of its networks when it starts: `sudo systemctl restart docker`".to_owned()
        } else {
            format!("`sudo nft list table {table}` shows its rules: let packets of the engine's networks pass")
        };
        odd("nftables drops what this host forwards", hint).because(cause)
    }
}

/// The first chain for forwarded packets whose policy is to drop, or which ends with a rule that drops everything in a table
/// without a rule for the engine's links.
fn dropping(ruleset: &str) -> Option<Dropping<'_>> {
    // A table begins at the start of a line.
    for text in ruleset.split("\ntable ").map(|text| text.trim_start_matches("table ")) {
        let Some((table, rules)) = text.split_once(" {") else { continue };
        if OF_THE_ENGINE.contains(&table) {
            continue;
        }
        let is_of_engine = LINKS.iter().any(|link| rules.contains(link));
        for chain in rules.split("\tchain ").skip(1) {
            let Some((chain, body)) = chain.split_once(" {") else { continue };
            let lines = || body.lines().map(str::trim).take_while(|line| *line != "}");
            let Some(head) = lines().find(|line| line.contains("hook forward")) else { continue };
            if head.contains("policy drop") {
                return Some(Dropping { table, chain, rule: None });
            }
            let last = lines().last().filter(|rule| !is_of_engine && is_end(rule));
            if last.is_some() {
                return Some(Dropping { table, chain, rule: last });
            }
        }
    }
    None
}

/// Whether a rule drops everything: it has no condition, at most a counter.
fn is_end(rule: &str) -> bool {
    let mut words = rule.split_whitespace().skip_while(|word| {
        matches!(*word, "counter" | "packets" | "bytes") || word.bytes().all(|byte| byte.is_ascii_digit())
    });
    matches!(words.next(), Some("drop" | "reject"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_drops_is_found_beside_those_of_the_engine() {
        let engine = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n";
        assert_eq!(dropping(engine), None);
        let own = "table inet guard {\n\tchain in {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n\n\
                   \tchain fwd {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n";
        let ruleset = format!("{engine}{own}");
        let found = dropping(&ruleset).unwrap();
        assert_eq!((found.table, found.chain, found.rule), ("inet guard", "fwd", None));
    }

    #[test]
    fn firewalld_rejects_what_no_zone_has_unless_an_engine_told_it_of_its_networks() {
        let with = |rule: &str| {
            format!(
                "table inet firewalld {{\n\tset trusted {{\n\t\ttype ifname\n\t}}\n\n\tchain filter_FORWARD {{\n\
                 \t\ttype filter hook forward priority filter + 10; policy accept;\n\t\tct state established,related accept\n\
                 \t\tjump filter_FORWARD_ZONES\n\t\tcounter packets 3 bytes 180 reject with icmpx admin-prohibited\n\t}}\n\n\
                 \tchain filter_FORWARD_ZONES {{\n\t\t{rule}\n\t}}\n}}\n"
            )
        };
        let apart = with("iifname \"eth0\" goto filter_FWD_public");
        let warning = dropping(&apart).unwrap().warning();
        assert!(warning.cause().unwrap().contains("`inet firewalld filter_FORWARD` ends with"), "{warning}");
        assert!(warning.hints()[0].contains("restart docker"));
        assert_eq!(dropping(&with("iifname \"docker0\" goto filter_FWD_docker")), None);
        assert_eq!(dropping(&with("iifname \"br-0123456789ab\" goto filter_FWD_docker")), None);
        let open = "table inet open {\n\tchain fwd {\n\t\ttype filter hook forward priority filter; policy accept;\n\
                    \t\tip saddr 192.0.2.1 drop\n\t}\n}\n";
        assert_eq!(dropping(open), None);
    }
}
