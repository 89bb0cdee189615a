//! Writes the node's CNI configuration where there is none.

use std::io::ErrorKind;
use std::path::Path;
use std::{fs, io};

pub(crate) use coracle_shared::cni::FILE;
use coracle_shared::cni::PodNetwork;
use ipnet::IpNet;

/// containerd reads only `.conf`, `.conflist` and `.json`, so it never sees a half-written file under this name.
const TEMPORARY: &str = ".10-coracle.conflist.new";

/// The configuration for a node with these pod subnets; `mtu` in bytes. The node image that has this agent has its plugins.
pub(crate) fn render(pod_cidrs: &[IpNet], mtu: u32) -> String {
    PodNetwork { subnets: pod_cidrs, mtu, policy_plugin: true, ipv6_plugin: true }.render()
}

/// Whether the directory has a configuration that containerd would use, ours or another's.
pub(crate) fn is_configured(directory: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("conf" | "conflist" | "json")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether our own file has other pod subnets than the node: it was written before the cluster assigned them.
pub(crate) fn is_stale(directory: &Path, pod_cidrs: &[IpNet]) -> bool {
    let Ok(text) = fs::read_to_string(directory.join(FILE)) else { return false };
    let Ok(config) = serde_json::from_str::<serde_json::Value>(&text) else { return true };
    let plugins = config["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ranges = plugins.iter().find_map(|plugin| plugin["ipam"]["ranges"].as_array()).cloned().unwrap_or_default();
    let present: Vec<IpNet> = ranges.iter().filter_map(|range| range[0]["subnet"].as_str()?.parse().ok()).collect();
    present != pod_cidrs
}

/// Writes the configuration; the complete file appears at once.
pub(crate) fn write(directory: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let temporary = directory.join(TEMPORARY);
    fs::write(&temporary, text)?;
    fs::rename(&temporary, directory.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_configuration_counts_and_a_left_over_temporary_file_does_not() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(TEMPORARY), "{").unwrap();
        fs::write(directory.path().join("README"), "").unwrap();
        assert!(!is_configured(directory.path()).unwrap());
        fs::write(directory.path().join("05-cilium.conf"), "{}").unwrap();
        assert!(is_configured(directory.path()).unwrap());
        assert!(!is_configured(&directory.path().join("absent")).unwrap());
    }

    #[test]
    fn only_our_own_file_with_other_addresses_is_stale() {
        let directory = tempfile::tempdir().unwrap();
        let one: IpNet = "10.244.1.0/24".parse().unwrap();
        fs::write(directory.path().join("05-cilium.conf"), "{}").unwrap();
        assert!(!is_stale(directory.path(), &[one]));
        write(directory.path(), &render(&[one], 1500)).unwrap();
        assert!(!is_stale(directory.path(), &[one]));
        assert!(is_stale(directory.path(), &["10.244.2.0/24".parse().unwrap()]));
        let both = [one, "fd00::/64".parse().unwrap()];
        write(directory.path(), &render(&both, 1500)).unwrap();
        assert!(!is_stale(directory.path(), &both));
        assert!(is_stale(directory.path(), &[one]));
    }

    #[test]
    fn writing_leaves_the_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("net.d");
        write(&below, "{}\n").unwrap();
        let names: Vec<_> = fs::read_dir(&below).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE]);
        assert!(is_configured(&below).unwrap());
    }
}
