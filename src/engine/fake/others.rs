//! What someone else has in the fake engine, and whether anything happened to it.

use std::fmt::Write as _;

use crate::engine::fake::FakeEngine;
use crate::engine::spec::{Container, ContainerSpec, Image, Labels, Mount, Network, State, Volume};

/// The path of the file that is in each container of someone else.
const FILE: &str = "etc/mine";

impl FakeEngine {
    /// The container's program ends with this code, and the engine starts it again.
    pub(crate) fn restarts_after(&self, container: &str, code: i64) {
        self.state.lock().unwrap().get_mut(container).unwrap().ends.push(code);
    }

    /// Adds an image.
    pub(crate) fn with_image(self, image: Image) -> Self {
        self.state.lock().unwrap().images.push(image);
        self
    }

    /// Everything that was ever made here: `container NAME`, `network NAME`, `volume NAME`; nothing that [`Self::put`] did.
    pub(crate) fn made(&self) -> Vec<String> {
        self.state.lock().unwrap().made.clone()
    }

    /// Puts something without a label here, in the words of [`Self::made`]. A container runs and has a volume and a file.
    pub(crate) fn put(&self, thing: &str) {
        let (kind, name) = thing.split_once(' ').unwrap();
        let mut state = self.state.lock().unwrap();
        let labels = Labels::from([("com.example.mine".to_owned(), "yes".to_owned())]);
        match kind {
            "container" => {
                let image = state.images[0].id.clone();
                let volume = Mount::Volume { name: format!("mine-of-{name}"), target: "/data".to_owned(), labels };
                let spec = ContainerSpec { mounts: vec![volume], ..ContainerSpec::new(name, image) };
                state.create_container(&spec).unwrap();
                let held = state.get_mut(name).unwrap();
                held.state = State::Running;
                held.files.insert(FILE.to_owned(), b"mine".to_vec());
            }
            "volume" => state.volumes.push(Volume { name: name.to_owned(), labels }),
            "network" => {
                let (id, subnets) = (state.id(), vec!["192.0.2.0/24".parse().unwrap()]);
                state.networks.push(Network { id, name: name.to_owned(), subnets, mtu: None, labels });
            }
            _ => panic!("what is `{thing}`?"),
        }
        state.made.clear();
    }

    /// All that coracle did not make, in full: its state, files and connections too.
    pub(crate) fn others(&self) -> String {
        let state = self.state.lock().unwrap();
        let is_other = |labels: &Labels| !labels.keys().any(|key| key.starts_with("dev.coracle."));
        let mut text = String::new();
        for held in state.containers.iter().filter(|held| is_other(&held.spec.labels)) {
            let container: Container = held.container(&state.networks);
            let _ = writeln!(text, "{container:?} {:?} {:?}", held.spec.mounts, held.files);
        }
        for network in state.networks.iter().filter(|network| is_other(&network.labels)) {
            let _ = writeln!(text, "{network:?}");
        }
        for volume in state.volumes.iter().filter(|volume| is_other(&volume.labels)) {
            let _ = writeln!(text, "{volume:?}");
        }
        text
    }
}
