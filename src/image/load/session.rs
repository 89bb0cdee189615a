//! The conversation with the program in a node that takes images into the node's store.

use std::collections::VecDeque;

use coracle_shared::wire;
use coracle_shared::wire::{Answer, Failure, ImageRequest, ImageState, Message, Reason, Request, Stored, VERSION};
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;

use crate::engine::{ByteStream, Conversation, Engine, Said};
use crate::error::{Code, Error, FREE_DISK, Result};
use crate::image::load::install::{self, RECEIVER};
use crate::image::nodes::tools::stopped;

/// The words of a shell or an engine that did not find the program.
const NO_PROGRAM: &[&str] = &["no such file or directory", "executable file not found"];
const FAILED: &str = "cannot load images";
/// The largest number of lines beside the answers of a node that are shown.
const MAX_LINES: usize = 5;
/// The longest answer, bytes.
const MAX_ANSWER: usize = 16 << 20;

/// A node that is asked what it has, and then gets what it lacks.
pub(crate) struct Session {
    node: String,
    conversation: Conversation,
    /// Output that was received and not read yet.
    output: Vec<u8>,
    /// The last lines beside the answers.
    notes: VecDeque<String>,
}

impl Session {
    /// Starts the program in a node.
    pub(crate) async fn open(engine: &dyn Engine, node: &str) -> Result<Self> {
        let conversation = engine.converse(node, &[RECEIVER, "images", "receive"]).await;
        let conversation = conversation.map_err(|error| stopped(error, node, Code::LoadFailed, FAILED))?;
        Ok(Self { node: node.to_owned(), conversation, output: Vec::new(), notes: VecDeque::new() })
    }

    /// Asks what the node has of some images. A node without the program, or with another version of it, gets it first.
    pub(crate) async fn ask(mut self, engine: &dyn Engine, images: &[ImageRequest]) -> Result<(Self, Vec<ImageState>)> {
        match self.question(images).await? {
            Answer::State(states) => return Ok((self, states)),
            Answer::Failed(Failure { reason: Reason::Version, .. }) => {}
            Answer::Failed(failure) => return Err(of_node(&failure, &self.node)),
            Answer::Done(_) | Answer::Found(_) => return Err(self.wrong("it answered before it was asked")),
        }
        install::agent(engine, &self.node).await?;
        let mut second = Self::open(engine, &self.node).await?;
        match second.question(images).await? {
            Answer::State(states) => Ok((second, states)),
            Answer::Failed(failure) => Err(of_node(&failure, &second.node)),
            Answer::Done(_) | Answer::Found(_) => Err(second.wrong("it answered before it was asked")),
        }
    }

    async fn question(&mut self, images: &[ImageRequest]) -> Result<Answer> {
        let mut line = Vec::new();
        let request = Message::Request(Request { version: VERSION, images: images.to_vec() });
        wire::send(&mut line, &request).map_err(|source| self.wrong("it cannot be asked").with_cause(&source))?;
        // A missing program reads nothing; what the engine writes instead of an answer shows that it is missing.
        let written = self.conversation.input.write_all(&line).await;
        match self.answer().await {
            Ok(answer) => Ok(answer),
            Err(_) if self.has_no_program() => {
                let message = "the program is missing".to_owned();
                Ok(Answer::Failed(Failure { reason: Reason::Version, message }))
            }
            Err(error) => {
                Err(written.err().map_or(error, |source| self.wrong("it cannot be asked").with_cause(&source)))
            }
        }
    }

    fn has_no_program(&self) -> bool {
        let rest = String::from_utf8_lossy(&self.output);
        let is_noted = |words: &str| rest.contains(words) || self.notes.iter().any(|line| line.contains(words));
        NO_PROGRAM.iter().any(|words| is_noted(words))
    }

    /// Sends everything and waits for the result.
    pub(crate) async fn send(mut self, mut messages: ByteStream) -> Result<Vec<Stored>> {
        let mut input = std::mem::replace(&mut self.conversation.input, Box::pin(tokio::io::sink()));
        let write = async {
            while let Some(chunk) = messages.try_next().await? {
                input.write_all(&chunk).await?;
            }
            // If the messages end before the commit, the node discards all of them.
            input.shutdown().await
        };
        let mut written = None;
        let answered = {
            let answer = self.answer();
            tokio::pin!(write, answer);
            loop {
                tokio::select! {
                    answered = &mut answer => break answered,
                    done = &mut write, if written.is_none() => written = Some(done),
                }
            }
        };
        match (answered, written) {
            (Ok(Answer::Done(stored)), _) => Ok(stored),
            (Ok(Answer::Failed(failure)), _) => Err(of_node(&failure, &self.node)),
            (Ok(Answer::State(_) | Answer::Found(_)), _) => Err(self.wrong("it answered twice")),
            (Err(error), Some(Err(source))) => Err(error.with_cause(&source)),
            (Err(error), _) => Err(error),
        }
    }

    async fn answer(&mut self) -> Result<Answer> {
        loop {
            if let Some(end) = self.output.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.output.drain(..=end).collect();
                if let Ok(answer) = serde_json::from_slice(&line) {
                    return Ok(answer);
                }
                self.note(&line);
                continue;
            }
            match self.conversation.output.next().await {
                Some(Ok(Said::Output(bytes))) => self.output.extend_from_slice(&bytes),
                Some(Ok(Said::Error(bytes))) => self.note(&bytes),
                Some(Err(source)) => return Err(self.wrong("the connection to it broke").with_cause(&source)),
                None => return Err(self.wrong("it ended without an answer")),
            }
            if self.output.len() > MAX_ANSWER {
                return Err(self.wrong("its answer is too long"));
            }
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        self.notes.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
        self.notes.drain(..self.notes.len().saturating_sub(MAX_LINES));
    }

    fn wrong(&self, why: &str) -> Error {
        let rest = String::from_utf8_lossy(&self.output);
        let rest = rest.lines().take(MAX_LINES).map(str::to_owned);
        Error::new(Code::LoadFailed, FAILED)
            .on_node(&self.node)
            .because(why)
            .with_lines(self.notes.iter().cloned().chain(rest))
    }
}

/// The error for a failure that a node reports.
fn of_node(failure: &Failure, node: &str) -> Error {
    match failure.reason {
        Reason::DiskFull => Error::new(Code::DiskFull, FAILED)
            .on_node(node)
            .because("no space left on device; what was sent was removed again")
            .hint(FREE_DISK),
        Reason::Damaged => Error::new(Code::LoadFailed, FAILED)
            .on_node(node)
            .because(&failure.message)
            .hint("pull or build the image again"),
        Reason::Version | Reason::Unreadable | Reason::Other => {
            Error::new(Code::LoadFailed, FAILED).on_node(node).because(&failure.message)
        }
    }
}
