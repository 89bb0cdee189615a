//! Rules of this host's firewall that drop what is forwarded. Only root may read them.

use std::process::Command;

use crate::error::Error;
use crate::host::check::odd;

/// The tables of `iptables`, in which the engine drops what it does not forward, and lets its own pass.
const OF_THE_ENGINE: [&str; 2] = ["ip filter", "ip6 filter"];

/// A warning about a chain that drops what no rule accepts; none if the rules cannot be read.
pub(super) fn check() -> Option<Error> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let output = Command::new("nft").args(["list", "chains"]).output().ok()?;
    let chain = dropping(&String::from_utf8_lossy(&output.stdout))?;
    let (table, _) = chain.rsplit_once(' ')?;
    let hint = format!("`sudo nft list table {table}` shows its rules: let packets of the engine's networks pass");
    Some(
        odd("nftables drops what this host forwards", hint).because(format!("the policy of chain `{chain}` is `drop`")),
    )
}

/// The first chain for forwarded packets, with its table, whose policy is to drop.
fn dropping(chains: &str) -> Option<String> {
    let (mut table, mut chain) = ("", "");
    for line in chains.lines().map(str::trim) {
        let named = |word: &str| line.strip_prefix(word).and_then(|rest| rest.strip_suffix('{')).map(str::trim);
        if let Some(name) = named("table ") {
            table = name;
        } else if let Some(name) = named("chain ") {
            chain = name;
        } else if line.contains("hook forward") && line.contains("policy drop") && !OF_THE_ENGINE.contains(&table) {
            return Some(format!("{table} {chain}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_drops_is_found_beside_those_of_the_engine() {
        let engine = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n";
        assert_eq!(dropping(engine), None);
        let own = "table inet guard {\n\tchain in {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n\
                   \tchain fwd {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n";
        assert_eq!(dropping(&format!("{engine}{own}")).as_deref(), Some("inet guard fwd"));
    }
}
