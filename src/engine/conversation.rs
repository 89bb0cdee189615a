//! Both ends of a command that runs in a container: its input and its output.

use std::io::ErrorKind;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::engine::spec::ExecOutput;

/// A stream of bytes that the engine sends or takes.
pub type ByteStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// A command that runs in a container. When this is dropped, its input ends, which tells the command to end.
pub struct Conversation {
    /// Its standard input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Its standard output and error, as they come.
    pub output: Pin<Box<dyn Stream<Item = std::io::Result<Said>> + Send>>,
}

/// A piece of a command's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// On standard output.
    Output(Bytes),
    /// On standard error.
    Error(Bytes),
}

impl Conversation {
    /// Feeds an input and gathers the output, both at the same time.
    pub(super) async fn hold(mut self, input: Option<ByteStream>) -> std::io::Result<ExecOutput> {
        let mut output = ExecOutput::default();
        let feed = async {
            let Some(mut input) = input else { return Ok(()) };
            let written = async {
                while let Some(chunk) = input.try_next().await? {
                    self.input.write_all(&chunk).await?;
                }
                Ok::<_, std::io::Error>(())
            };
            let written = written.await;
            // Also when the input breaks off: otherwise the command waits for more, and we wait for the command.
            written.and(self.input.shutdown().await)
        };
        let gather = async {
            while let Some(part) = self.output.try_next().await? {
                match part {
                    Said::Error(bytes) => output.stderr.extend_from_slice(&bytes),
                    Said::Output(bytes) => output.stdout.extend_from_slice(&bytes),
                }
            }
            Ok::<_, std::io::Error>(())
        };
        // When the command has ended, no one reads what is left of the input.
        let wrote = {
            tokio::pin!(feed, gather);
            let mut wrote = Ok(());
            tokio::select! {
                gathered = &mut gather => gathered?,
                done = &mut feed => {
                    wrote = done;
                    gather.await?;
                }
            }
            wrote
        };
        // A command that ends before it has read all its input closes the pipe: its exit code then tells why.
        let closed = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset, ErrorKind::NotConnected];
        match wrote {
            Err(source) if !closed.contains(&source.kind()) => Err(source),
            _ => Ok(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_input_without_end_ends_with_the_command() {
        let said = [Ok(Said::Output(Bytes::from("out"))), Ok(Said::Error(Bytes::from("error")))];
        let conversation =
            Conversation { input: Box::pin(tokio::io::sink()), output: Box::pin(futures_util::stream::iter(said)) };
        let output = conversation.hold(Some(Box::pin(futures_util::stream::pending()))).await.unwrap();
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out"[..], &b"error"[..]));
    }
}
