//! Sessions, files, output and usage of containers.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bollard::exec::{ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerMemoryStats, ContainerStatsResponse, ExecConfig};
use bollard::query_parameters as query;
use futures_util::TryStreamExt;
use tokio::time::{Instant, sleep};

use crate::engine::conversation::{ByteStream, Conversation};
use crate::engine::docker::answer::pieces;
use crate::engine::docker::failure::{absent_is_none, failed};
use crate::engine::docker::{Docker, OUTPUT_BUFFER, raw};
use crate::engine::inside::{Inside, OutputOptions, PathInfo, Sample, Session, SessionSpec, TerminalSize};
use crate::engine::spec::{Labels, PortBinding};
use crate::error::{Code, Error, Result};

/// Keys that take a person out of a session and leave it running. The default begins with Ctrl-P, which is the previous command
/// in a shell, and would arrive only with the next key.
const DETACH_KEYS: &str = "ctrl-^,ctrl-@,ctrl-^,ctrl-@";
/// How long the engine may take to notice that a command has ended, and the pause between two looks.
const END_TIMEOUT: Duration = Duration::from_secs(5);
const END_INTERVAL: Duration = Duration::from_millis(10);
/// Bits of a path's mode, as Go has them.
const DIRECTORY: u32 = 1 << 31;
const LINK: u32 = 1 << 27;

fn config(spec: &SessionSpec) -> ExecConfig {
    let has_terminal = spec.terminal.is_some();
    ExecConfig {
        attach_stdin: Some(spec.input),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(has_terminal),
        console_size: spec.terminal.map(|size| vec![usize::from(size.rows), usize::from(size.columns)]),
        detach_keys: has_terminal.then(|| DETACH_KEYS.to_owned()),
        env: Some(spec.environment.clone()),
        cmd: Some(spec.command.clone()),
        working_dir: spec.directory.clone(),
        ..ExecConfig::default()
    }
}

#[async_trait]
impl Inside for Docker {
    async fn open(&self, container: &str, spec: &SessionSpec) -> Result<Session> {
        let what = format!("cannot run `{}` in container `{container}`", spec.command.join(" "));
        let exec = self.client.create_exec(container, config(spec)).await.map_err(|source| failed(&what, &source))?;
        if let Some(size) = spec.terminal {
            let ends = raw::start(&self.address, &exec.id, size, &what).await?;
            return Ok(Session { id: exec.id, ends });
        }
        let options = StartExecOptions { output_capacity: Some(OUTPUT_BUFFER), ..StartExecOptions::default() };
        let started = self.client.start_exec(&exec.id, Some(options)).await;
        match started.map_err(|source| failed(&what, &source))? {
            StartExecResults::Attached { output, input } => {
                Ok(Session { id: exec.id, ends: Conversation { input, output: pieces(output) } })
            }
            StartExecResults::Detached => {
                Err(Error::new(Code::EngineFailed, what).because("the engine did not attach its output"))
            }
        }
    }

    async fn resize(&self, session: &str, size: TerminalSize) -> Result<()> {
        let options = ResizeExecOptions { height: size.rows, width: size.columns };
        let resized = self.client.resize_exec(session, options).await;
        resized.map_err(|source| failed("cannot change the size of the terminal", &source))
    }

    async fn exit_code(&self, session: &str) -> Result<i64> {
        let deadline = Instant::now() + END_TIMEOUT;
        loop {
            let ended = self.client.inspect_exec(session).await;
            let ended = ended.map_err(|source| failed("cannot read the exit code of a command", &source))?;
            // The end of the output comes before the engine knows of the command's end.
            match ended.exit_code {
                Some(code) if ended.running != Some(true) => return Ok(code),
                _ if Instant::now() >= deadline => return Ok(-1),
                _ => sleep(END_INTERVAL).await,
            }
        }
    }

    async fn find_path(&self, container: &str, path: &str) -> Result<Option<PathInfo>> {
        let options = query::ContainerArchiveInfoOptionsBuilder::default().path(path).build();
        let found = self.client.get_container_archive_info(container, Some(options)).await;
        let found = absent_is_none(found, &format!("cannot look at `{path}` in container `{container}`"))?;
        Ok(found.map(|stat| PathInfo {
            is_directory: stat.file_mode & DIRECTORY != 0,
            link: (stat.file_mode & LINK != 0).then_some(stat.link_target),
        }))
    }

    async fn unpack(&self, container: &str, directory: &str, tar: ByteStream) -> Result<()> {
        let options = query::UploadToContainerOptionsBuilder::default().path(directory).build();
        let sent = self.transfer.upload_to_container(container, Some(options), bollard::body_try_stream(tar)).await;
        sent.map_err(|source| failed(&format!("cannot write into `{directory}` in container `{container}`"), &source))
    }

    async fn republish(&self, container: &str, ports: &[PortBinding], labels: &Labels) -> Result<String> {
        self.make_anew(container, ports, labels).await
    }

    async fn sample(&self, container: &str) -> Result<Sample> {
        let what = format!("cannot read what container `{container}` uses");
        let options = query::StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let mut answer = Box::pin(self.client.stats(container, Some(options)));
        let stats = answer.try_next().await.map_err(|source| failed(&what, &source))?;
        stats.map(sample).ok_or_else(|| Error::new(Code::EngineFailed, what).because("the engine gave no answer"))
    }

    async fn output(&self, container: &str, options: OutputOptions) -> Result<Conversation> {
        let tail = options.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let since = options.since.and_then(|second| i32::try_from(second).ok()).unwrap_or_default();
        let options = query::LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .follow(options.follow)
            .since(since)
            .tail(&tail)
            .build();
        let output = pieces(self.transfer.logs(container, Some(options)));
        Ok(Conversation { input: Box::pin(tokio::io::sink()), output })
    }
}

fn sample(stats: ContainerStatsResponse) -> Sample {
    let cpu = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|usage| usage.total_usage).unwrap_or_default();
    let memory = stats.memory_stats.unwrap_or_default();
    Sample { cpu: Duration::from_nanos(cpu), memory: used(&memory), memory_limit: memory.limit.unwrap_or_default() }
}

/// Without the part of the page cache that the kernel gives back first, as the docker command shows it.
fn used(memory: &ContainerMemoryStats) -> u64 {
    let none = HashMap::new();
    let details = memory.stats.as_ref().unwrap_or(&none);
    // With one hierarchy per controller, and with the unified one.
    let inactive = details.get("total_inactive_file").or_else(|| details.get("inactive_file"));
    memory.usage.unwrap_or_default().saturating_sub(inactive.copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_cache_is_no_use_of_memory() {
        let text = r#"{"cpu_stats": {"cpu_usage": {"total_usage": 1500000000}},
            "memory_stats": {"usage": 1000, "limit": 5000, "stats": {"inactive_file": 400, "file": 600}}}"#;
        let found = sample(serde_json::from_str(text).unwrap());
        assert_eq!(found, Sample { cpu: Duration::from_millis(1500), memory: 600, memory_limit: 5000 });
        let old = r#"{"memory_stats": {"usage": 1000, "stats": {"inactive_file": 1, "total_inactive_file": 300}}}"#;
        assert_eq!(sample(serde_json::from_str(old).unwrap()).memory, 700);
        assert_eq!(sample(serde_json::from_str("{}").unwrap()), Sample::default());
    }

    #[test]
    fn only_a_terminal_has_a_size_and_keys() {
        let spec = SessionSpec { command: vec!["bash".to_owned()], ..SessionSpec::default() };
        let plain = config(&spec);
        assert_eq!((plain.tty, plain.console_size, plain.detach_keys), (Some(false), None, None));
        let size = TerminalSize { rows: 24, columns: 80 };
        let with = config(&SessionSpec { terminal: Some(size), ..spec });
        assert_eq!((with.tty, with.console_size), (Some(true), Some(vec![24, 80])));
    }
}
