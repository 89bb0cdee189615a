//! Sessions, files and usage of the fake engine.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};

use crate::engine::REPLACED;
use crate::engine::conversation::{ByteStream, Conversation, Said};
use crate::engine::fake::state::refused;
use crate::engine::fake::{FakeEngine, files};
use crate::engine::inside::{Inside, OutputOptions, PathInfo, Sample, Session, SessionSpec, TerminalSize};
use crate::engine::spec::{Labels, PortBinding, State};
use crate::error::Result;

#[async_trait]
impl Inside for FakeEngine {
    async fn open(&self, container: &str, spec: &SessionSpec) -> Result<Session> {
        self.call(format!("open {container} {}", spec.command.join(" ")), |state| state.running(container))?;
        let command: Vec<&str> = spec.command.iter().map(String::as_str).collect();
        let ends = files::conversation(container, &command, &self.on_converse);
        Ok(Session { id: format!("session of {container}"), ends })
    }

    async fn resize(&self, session: &str, size: TerminalSize) -> Result<()> {
        self.call(format!("resize {session} {}x{}", size.rows, size.columns), |_| Ok(()))
    }

    async fn exit_code(&self, session: &str) -> Result<i64> {
        self.call(format!("exit_code {session}"), |_| Ok(0))
    }

    async fn find_path(&self, container: &str, path: &str) -> Result<Option<PathInfo>> {
        self.call(format!("find_path {container} {path}"), |state| {
            let files = &state.get_mut(container)?.files;
            let below = format!("{}/", path.trim_end_matches('/'));
            let is_directory = files.keys().any(|name| name.starts_with(&below));
            let found = is_directory || files.contains_key(path);
            Ok(found.then_some(PathInfo { is_directory, link: None }))
        })
    }

    async fn unpack(&self, container: &str, directory: &str, mut tar: ByteStream) -> Result<()> {
        let mut bytes = Vec::new();
        while let Some(chunk) =
            tar.try_next().await.map_err(|source| refused("the input broke off").with_cause(&source))?
        {
            bytes.extend_from_slice(&chunk);
        }
        self.call(format!("unpack {container} {directory}"), |state| {
            let unpacked = files::unpack(&bytes)?;
            let below = directory.trim_end_matches('/');
            let files = unpacked.into_iter().map(|(name, content)| (format!("{below}{name}"), content));
            state.get_mut(container)?.files.extend(files);
            Ok(())
        })
    }

    async fn republish(&self, container: &str, ports: &[PortBinding], labels: &Labels) -> Result<String> {
        self.call(format!("republish {container}"), |state| {
            let held = state.get_mut(container)?;
            (held.spec.ports, held.spec.labels, held.state) = (ports.to_vec(), labels.clone(), State::Created);
            held.spec.name = held.spec.name.trim_end_matches(REPLACED).to_owned();
            Ok(held.id.clone())
        })
    }

    async fn sample(&self, container: &str) -> Result<Sample> {
        self.call(format!("sample {container}"), |state| {
            state.running(container)?;
            Ok(Sample { cpu: Duration::from_secs(1), memory: 1 << 20, memory_limit: 1 << 30 })
        })
    }

    async fn output(&self, container: &str, _options: OutputOptions) -> Result<Conversation> {
        let said =
            self.call(format!("output {container}"), |state| state.get_mut(container).map(|held| held.id.clone()))?;
        let output = futures_util::stream::iter([Ok(Said::Output(said.into()))]).boxed();
        Ok(Conversation { input: Box::pin(tokio::io::sink()), output })
    }
}
