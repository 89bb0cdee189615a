//! A container that is made anew because the engine cannot change its ports: the same in everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use bollard::models::{
    ChangeType, ContainerCreateBody, ContainerInspectResponse, EndpointSettings, FilesystemChange,
    NetworkConnectRequest, NetworkingConfig, PortBinding as EnginePort, PortMap,
};
use bollard::query_parameters as query;
use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::engine::docker::Docker;
use crate::engine::docker::failure::failed;
use crate::engine::inside::Inside;
use crate::engine::spec::{Labels, PortBinding};
use crate::engine::{Engine, REPLACED};
use crate::error::{Code, Error, Result};

/// What is made anew with every start, and not copied.
const FLEETING: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// The paths at which something else is mounted: what is there is not the container's own, and is there again. The engine's
/// list of changes has such a path as it is without links, of which a Debian has those into `/usr`.
fn mounted(found: &ContainerInspectResponse) -> Vec<String> {
    let mounts = found.mounts.iter().flatten().filter_map(|mount| mount.destination.clone());
    let tmpfs = found.host_config.iter().flat_map(|host| host.tmpfs.iter().flatten()).map(|(path, _)| path.clone());
    let all = mounts.chain(tmpfs).chain(FLEETING.map(str::to_owned));
    all.flat_map(|path| [format!("/usr{path}"), path]).collect()
}

/// Whether a path is one of these, or below one.
fn is_below(path: &str, tops: &[String]) -> bool {
    tops.iter().any(|top| Path::new(path).starts_with(top))
}

impl Docker {
    /// See [`Inside::republish`].
    pub(super) async fn make_anew(&self, container: &str, ports: &[PortBinding], labels: &Labels) -> Result<String> {
        let what = format!("cannot recreate container `{container}`");
        let refused = |source: bollard::errors::Error| failed(&what, &source);
        let found = self.client.inspect_container(container, None::<query::InspectContainerOptions>).await;
        let found = found.map_err(refused)?;
        let is_same =
            async |image: &str| self.client.inspect_image(image).await.is_ok_and(|known| known.id == found.image);
        let named = found.config.as_ref().and_then(|config| config.image.clone()).unwrap_or_default();
        let image = if is_same(&named).await { Some(named) } else { found.image.clone() };
        let (body, others) = body(&found, image, ports, labels)
            .ok_or_else(|| Error::new(Code::EngineFailed, &what).because("the engine does not say how it was made"))?;
        let mounted = mounted(&found);
        let old = found.id.unwrap_or_default();
        let now = found.name.unwrap_or_default().trim_start_matches('/').to_owned();
        let name = now.trim_end_matches(REPLACED);
        if name == now {
            self.rename(&old, &format!("{name}{REPLACED}"), &what).await?;
        } else {
            // A command that was killed: what it had begun to make is not complete.
            self.remove_container(name).await?;
        }
        let made = self.create_again(name, body, &others, (&old, &mounted), &what).await;
        match made {
            Ok(id) => {
                // Without its volumes: they are the new one's.
                let options = query::RemoveContainerOptionsBuilder::default().force(true).v(false).build();
                self.client.remove_container(&old, Some(options)).await.map_err(refused)?;
                Ok(id)
            }
            Err(error) => {
                self.remove_container(name).await?;
                self.rename(&old, name, &what).await?;
                Err(error)
            }
        }
    }

    async fn rename(&self, container: &str, name: &str, what: &str) -> Result<()> {
        let options = query::RenameContainerOptionsBuilder::default().name(name).build();
        self.client.rename_container(container, options).await.map_err(|source| failed(what, &source))
    }

    async fn create_again(
        &self,
        name: &str,
        body: ContainerCreateBody,
        others: &BTreeMap<String, EndpointSettings>,
        (old, mounted): (&str, &[String]),
        what: &str,
    ) -> Result<String> {
        let refused = |source: bollard::errors::Error| failed(what, &source);
        let options = query::CreateContainerOptionsBuilder::default().name(name).build();
        let id = self.client.create_container(Some(options), body).await.map_err(refused)?.id;
        for (network, settings) in others {
            let request = NetworkConnectRequest { container: id.clone(), endpoint_config: Some(settings.clone()) };
            self.client.connect_network(network, request).await.map_err(refused)?;
        }
        let changes = self.client.container_changes(old).await.map_err(refused)?.unwrap_or_default();
        for path in changed(&changes, mounted) {
            // Of directories that only have another date, nothing is to be copied.
            let is_new = changes.iter().any(|change| change.path == path && change.kind == ChangeType::_1);
            let info = self.find_path(old, &path).await?;
            if !is_new && info.is_none_or(|info| info.is_directory) {
                continue;
            }
            if let Some(tar) = self.download(old, &path).await? {
                let parent = path.rsplit_once('/').map(|(parent, _)| parent).unwrap_or_default();
                let broken = |source: io::Error| Error::new(Code::EngineFailed, what).with_cause(&source);
                let bytes: Vec<Bytes> = tar.try_collect().await.map_err(broken)?;
                self.upload(&id, below(parent, &bytes.concat(), mounted).map_err(broken)?.into()).await?;
            }
        }
        Ok(id)
    }
}

/// A tar with everything of this one below a directory, without what is mounted there. Unpacked in that directory itself, a link that leads out of it would
/// be refused.
fn below(parent: &str, tar: &[u8], mounted: &[String]) -> io::Result<Vec<u8>> {
    let parent = Path::new(parent.trim_start_matches('/'));
    let mut all = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let mut header = entry.header().clone();
        let path = parent.join(entry.path()?);
        if is_below(format!("/{}", path.display()).trim_end_matches('/'), mounted) {
            continue;
        }
        let mut more = Vec::new();
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let extension = extension?;
            let key = extension.key().map_err(io::Error::other)?.to_owned();
            // Long names are written as such by what follows.
            if !["path", "linkpath", "size"].contains(&key.as_str()) {
                more.push((key, extension.value_bytes().to_vec()));
            }
        }
        all.append_pax_extensions(more.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
        let link = entry.link_name()?.map(|link| match header.entry_type() {
            tar::EntryType::Link => parent.join(link),
            _ => link.into_owned(),
        });
        match link {
            Some(link) => all.append_link(&mut header, path, link)?,
            None => all.append_data(&mut header, path, &mut entry)?,
        }
    }
    all.into_inner()
}

/// The body of a request that makes the same container with other ports and labels, and the networks that it is connected
/// with beside its own.
fn body(
    found: &ContainerInspectResponse,
    image: Option<String>,
    ports: &[PortBinding],
    labels: &Labels,
) -> Option<(ContainerCreateBody, BTreeMap<String, EndpointSettings>)> {
    // Both are the same to the engine, and two types to the client.
    let config = serde_json::to_value(found.config.as_ref()?).ok()?;
    let mut body: ContainerCreateBody = serde_json::from_value(config).ok()?;
    let mut host = found.host_config.clone()?;
    let mut map = PortMap::new();
    for port in ports {
        let key = format!("{}/{}", port.container_port, port.protocol);
        map.entry(key).or_default().get_or_insert_with(Vec::new).push(EnginePort {
            host_ip: Some(port.host_address.to_string()),
            host_port: Some(port.host_port.to_string()),
        });
    }
    // A port that the container did not have before is published only if it is exposed.
    let mut exposed = body.exposed_ports.take().unwrap_or_default();
    exposed.extend(map.keys().filter(|port| !exposed.contains(port)).cloned().collect::<Vec<_>>());
    body.exposed_ports = Some(exposed);
    host.port_bindings = Some(map);
    let own = host.network_mode.clone().unwrap_or_default();
    let networks = found.network_settings.clone().unwrap_or_default().networks.unwrap_or_default();
    let id = found.id.clone().unwrap_or_default();
    let settings = |settings: EndpointSettings| EndpointSettings {
        ipam_config: settings.ipam_config,
        // Old engines list the beginning of the container's ID among them.
        aliases: settings.aliases.map(|names| names.into_iter().filter(|name| !id.starts_with(name)).collect()),
        links: settings.links,
        driver_opts: settings.driver_opts,
        ..EndpointSettings::default()
    };
    // The mode is its name or its ID; the engine wants the settings under the same word.
    // One that was connected anew while it was stopped has no ID yet.
    let is_only = networks.len() == 1;
    let (first, others): (Vec<_>, Vec<_>) = networks.into_iter().partition(|(name, found)| {
        let id = found.network_id.as_deref().unwrap_or_default();
        *name == own || id == own || (is_only && id.is_empty())
    });
    let first = first.into_iter().next().map(|(_, found)| [(own, settings(found))].into());
    let networks: BTreeMap<String, EndpointSettings> =
        others.into_iter().map(|(name, found)| (name, settings(found))).collect();
    (body.image, body.labels) = (image, Some(labels.clone().into_iter().collect()));
    body.host_config = Some(host);
    body.networking_config = Some(NetworkingConfig { endpoints_config: first });
    Some((body, networks))
}

/// The paths to copy, of what a container has changed of its image: new ones as a whole, and files that are others. What was
/// removed cannot be removed in a container that has not begun.
fn changed(changes: &[FilesystemChange], mounted: &[String]) -> Vec<String> {
    let new: BTreeSet<&str> =
        changes.iter().filter(|change| change.kind == ChangeType::_1).map(|change| change.path.as_str()).collect();
    let above = |path: &str| {
        let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0).collect();
        ends.into_iter().map(|at| path[..at].to_owned()).collect::<Vec<_>>()
    };
    let inner: BTreeSet<String> = changes.iter().flat_map(|change| above(&change.path)).collect();
    let is_wanted = |change: &&FilesystemChange| {
        let path = change.path.as_str();
        let within = above(path).iter().any(|parent| new.contains(parent.as_str()));
        let has_own = change.kind == ChangeType::_1 || !inner.contains(path);
        !is_below(path, mounted) && !within && has_own && change.kind != ChangeType::_2
    };
    changes.iter().filter(is_wanted).map(|change| change.path.clone()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_new_is_copied_as_a_whole_and_of_the_rest_only_what_differs() {
        let change = |kind, path: &str| FilesystemChange { path: path.to_owned(), kind };
        let changes = [
            change(ChangeType::_0, "/etc"),
            change(ChangeType::_1, "/etc/kubernetes"),
            change(ChangeType::_1, "/etc/kubernetes/pki"),
            change(ChangeType::_0, "/etc/fstab"),
            change(ChangeType::_2, "/etc/old"),
            change(ChangeType::_0, "/run"),
            change(ChangeType::_1, "/run/systemd"),
            change(ChangeType::_1, "/usr/lib/modules"),
            change(ChangeType::_1, "/top"),
        ];
        let found = json!({"Mounts": [{"Destination": "/lib/modules"}], "HostConfig": {"Tmpfs": {"/run": ""}}});
        let mounted = mounted(&serde_json::from_value(found).unwrap());
        assert_eq!(changed(&changes, &mounted), ["/etc/kubernetes", "/etc/fstab", "/top"]);
        assert!(is_below("/run/a", &mounted) && !is_below("/runs", &mounted));
    }

    #[test]
    fn a_container_that_was_connected_anew_keeps_its_address() {
        let found = json!({
            "Id": "0123", "Config": {}, "HostConfig": {"NetworkMode": "818ca2"},
            "NetworkSettings": {"Networks": {
                "coracle-dev": {"NetworkID": "", "IPAMConfig": {"IPv4Address": "172.18.0.3"}, "Aliases": ["dev", "0123"]},
            }},
        });
        let (body, others) = body(&serde_json::from_value(found).unwrap(), None, &[], &Labels::new()).unwrap();
        let own = body.networking_config.unwrap().endpoints_config.unwrap().remove("818ca2").unwrap();
        assert_eq!(own.ipam_config.unwrap().ipv4_address.as_deref(), Some("172.18.0.3"));
        assert_eq!(own.aliases.unwrap(), ["dev"]);
        assert!(others.is_empty());
    }

    #[test]
    fn a_tar_goes_below_a_directory_with_its_links() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o640);
        header.set_size(4);
        tar.append_pax_extensions([("SCHILY.xattr.user.kept", &b"1"[..])]).unwrap();
        tar.append_data(&mut header, "kept", &b"text"[..]).unwrap();
        header.set_size(0);
        for (kind, name, target) in [
            (tar::EntryType::Symlink, "mtab", "../proc/self/mounts"),
            (tar::EntryType::Link, "twin", "kept"),
            (tar::EntryType::Link, "other/mounted", "kept"),
        ] {
            header.set_entry_type(kind);
            tar.append_link(&mut header, name, target).unwrap();
        }
        let moved = below("/etc/own", &tar.into_inner().unwrap(), &["/etc/own/other".to_owned()]).unwrap();
        let mut found = Vec::new();
        for entry in tar::Archive::new(moved.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let extensions = entry.pax_extensions().unwrap().map_or(0, Iterator::count);
            let link = entry.link_name().unwrap().map(|link| link.display().to_string()).unwrap_or_default();
            found.push((entry.path().unwrap().display().to_string(), link, entry.header().mode().unwrap(), extensions));
        }
        let entry = |path: &str, link: &str, extensions| (path.to_owned(), link.to_owned(), 0o640, extensions);
        assert_eq!(
            found,
            [
                entry("etc/own/kept", "", 1),
                entry("etc/own/mtab", "../proc/self/mounts", 0),
                entry("etc/own/twin", "etc/own/kept", 0)
            ]
        );
    }

    #[test]
    fn a_container_is_the_same_but_for_its_ports_and_labels() {
        let found: Value = json!({
            "Id": "0123456789abcdef",
            "Config": {"Hostname": "dev", "Image": "coracle/node:1", "Env": ["A=b"], "Labels": {"old": "1"}},
            "HostConfig": {
                "NetworkMode": "4711", "Privileged": true,
                "PortBindings": {"6443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "1"}]},
            },
            "NetworkSettings": {"Networks": {
                "coracle-dev": {"IPAMConfig": {"IPv4Address": "172.18.0.3"}, "Aliases": ["0123456789ab", "dev"], "NetworkID": "4711"},
                "kind": {"Aliases": ["dev"]},
            }},
        });
        let found = serde_json::from_value(found).unwrap();
        let port = PortBinding {
            host_address: "127.0.0.1".parse().unwrap(),
            host_port: 2,
            container_port: 6443,
            protocol: crate::engine::spec::Protocol::Tcp,
        };
        let labels = Labels::from([("new".to_owned(), "2".to_owned())]);
        let (body, others) = body(&found, Some("sha256:1".to_owned()), &[port], &labels).unwrap();
        let body = serde_json::to_value(body).unwrap();
        assert_eq!((&body["Hostname"], &body["Env"]), (&json!("dev"), &json!(["A=b"])));
        assert_eq!((&body["Image"], &body["Labels"]), (&json!("sha256:1"), &json!({"new": "2"})));
        assert_eq!(body["HostConfig"]["Privileged"], true);
        let published = json!({"6443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "2"}]});
        assert_eq!(body["HostConfig"]["PortBindings"], published);
        let own = &body["NetworkingConfig"]["EndpointsConfig"]["4711"];
        assert_eq!(*own, json!({"IPAMConfig": {"IPv4Address": "172.18.0.3"}, "Aliases": ["dev"]}));
        assert_eq!(others.keys().collect::<Vec<_>>(), ["kind"]);
    }
}
