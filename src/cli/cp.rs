//! `coracle cp`.

use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use futures_util::{StreamExt, TryStreamExt};

use crate::cli::command::Run;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::input;
use crate::cli::options::parse_name;
use crate::cli::output::size;
use crate::cluster::copy::{self, Copied, Place};
use crate::cluster::target;
use crate::engine::{ByteStream, Engine};
use crate::error::{Code, Error, Result, counted};
use crate::ui::terminal;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  coracle cp dev-control-plane:/etc/kubernetes/admin.conf .    a file of a node
  coracle cp certs/. dev-worker:/etc/containerd/certs.d        what is in a directory, to a node
  coracle cp dev-worker:/var/log/pods - | tar -t               a directory as a tar archive")]
pub(crate) struct Cp {
    /// Source: NODE:PATH, a path of this host, or `-` for a tar archive on standard input
    #[arg(value_name = "SOURCE", add = complete::places())]
    source: String,
    /// Destination: a path of this host, NODE:PATH, or `-` for a tar archive on standard output
    #[arg(value_name = "TARGET", add = complete::places())]
    target: String,
    /// Name of the node's cluster [default: the one that has a node of this name]
    #[arg(long, short, value_name = "NAME", add = complete::clusters())]
    name: Option<String>,
}

impl Run for Cp {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let name = self.name.as_deref().map(parse_name).transpose()?;
        match (Place::read(&self.source), Place::read(&self.target)) {
            (Place::In { container, path }, to @ (Place::Here(_) | Place::Stream)) => {
                let (engine, _) = context.engine().await?;
                let node = target::find(&*engine, name.as_ref(), &container).await?;
                if let Place::Here(to) = to {
                    let step = context.ui.step(format!("Copying {} to {to}", self.source));
                    let copied = copy::out(&*engine, (&node, &path), Path::new(&to)).await?;
                    step.finish();
                    report(context, copied);
                } else {
                    print(context, &*engine, copy::archive(&*engine, (&node, &path)).await?).await?;
                }
            }
            (from @ (Place::Here(_) | Place::Stream), Place::In { container, path }) => {
                let (engine, _) = context.engine().await?;
                let node = target::find(&*engine, name.as_ref(), &container).await?;
                let step = context.ui.step(format!("Copying {} to {}", self.source, self.target));
                if let Place::Here(from) = from {
                    let copied = copy::into(&*engine, Path::new(&from), (&node, &path)).await?;
                    step.finish();
                    report(context, copied);
                } else {
                    copy::unpack(&*engine, standard_input(), (&node, &path)).await?;
                    step.finish();
                }
            }
            (from, _) => return Err(wrong(matches!(from, Place::In { .. }))),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn sweeps(&self) -> bool {
        false
    }
}

fn wrong(both: bool) -> Error {
    let what = if both { "cannot copy from one node to another" } else { "neither path is one of a node" };
    let error = Error::new(Code::UsageInvalid, what);
    if both {
        error.hint("in two steps, `coracle cp NODE:PATH - | coracle cp - NODE:DIRECTORY`")
    } else {
        error.hint("name the node: `coracle cp NODE:PATH PATH`, or `coracle cp PATH NODE:PATH`")
    }
}

fn report(context: &Context, copied: Copied) {
    context.ui.note(format!("Copied {}, {}", counted(copied.files, "file"), size(copied.bytes)));
    if copied.skipped > 0 {
        context.ui.warn(format!(
            "left out {}: only files, directories and links can be copied",
            counted(copied.skipped, "special file")
        ));
    }
}

/// Writes an archive to standard output.
async fn print(context: &Context, engine: &dyn Engine, archive: copy::Archive) -> Result<()> {
    if terminal::draws() {
        return Err(Error::new(Code::UsageInvalid, "cannot write a tar archive to a terminal")
            .hint("pass it on: `coracle cp NODE:PATH - | tar -x`"));
    }
    let copy::Archive { mut stream, rest } = archive;
    let broken =
        |source: std::io::Error| Error::new(Code::EngineFailed, "the archive ended unexpectedly").with_cause(&source);
    while let Some(bytes) = stream.try_next().await.map_err(broken)? {
        if !context.ui.bytes(&bytes)? {
            return Ok(());
        }
    }
    rest.check(engine).await
}

fn standard_input() -> ByteStream {
    let next = async |mut pieces: tokio::sync::mpsc::Receiver<Vec<u8>>| {
        let piece = pieces.recv().await?;
        Some((Ok(Bytes::from(piece)), pieces))
    };
    futures_util::stream::unfold(input::pieces(), next).boxed()
}
