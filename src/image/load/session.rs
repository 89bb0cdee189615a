//! Talking to the program in a node that takes images into the node's store.

use std::collections::VecDeque;

use coracle_shared::wire;
use coracle_shared::wire::{Answer, Failure, ImageRequest, ImageState, Message, Reason, Request, Stored, VERSION};
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;

use crate::engine::{ByteStream, Conversation, Engine, Said};
use crate::error::{Code, Error, Result};
use crate::image::load::install::{self, RECEIVER};
use crate::image::nodes::tools::stopped;

/// What a shell or engine says that did not find the program.
const NO_PROGRAM: &[&str] = &["no such file or directory", "executable file not found"];
/// What could not be done.
const FAILED: &str = "cannot load images";
/// Lines of what a node says besides its answers that are shown.
const LINES: usize = 5;
/// The longest answer, bytes.
const MAX_ANSWER: usize = 16 << 20;

/// A node that is asked, and then sent what it lacks.
pub(crate) struct Session {
    node: String,
    conversation: Conversation,
    said: Vec<u8>,
    talk: VecDeque<String>,
}

impl Session {
    /// Starts the program in a node.
    pub(crate) async fn open(engine: &dyn Engine, node: &str) -> Result<Self> {
        let conversation = engine.converse(node, &[RECEIVER, "images", "receive"]).await;
        let conversation = conversation.map_err(|error| stopped(error, node, Code::LoadFailed, FAILED))?;
        Ok(Self { node: node.to_owned(), conversation, said: Vec::new(), talk: VecDeque::new() })
    }

    /// Asks what is there of some images. A node that does not have the program, or another one, gets it first.
    pub(crate) async fn ask(mut self, engine: &dyn Engine, images: &[ImageRequest]) -> Result<(Self, Vec<ImageState>)> {
        match self.question(images).await? {
            Answer::State(had) => return Ok((self, had)),
            Answer::Failed(Failure { reason: Reason::Version, .. }) => {}
            Answer::Failed(failure) => return Err(of_node(&failure, &self.node)),
            Answer::Done(_) | Answer::Found(_) => return Err(self.wrong("it answered before it was asked")),
        }
        install::agent(engine, &self.node).await?;
        let mut anew = Self::open(engine, &self.node).await?;
        match anew.question(images).await? {
            Answer::State(had) => Ok((anew, had)),
            Answer::Failed(failure) => Err(of_node(&failure, &anew.node)),
            Answer::Done(_) | Answer::Found(_) => Err(anew.wrong("it answered before it was asked")),
        }
    }

    async fn question(&mut self, images: &[ImageRequest]) -> Result<Answer> {
        let mut line = Vec::new();
        let request = Message::Request(Request { version: VERSION, images: images.to_vec() });
        wire::send(&mut line, &request).map_err(|source| self.wrong("it cannot be asked").cause(&source))?;
        // A program that is not there does not listen; its answer tells.
        let written = self.conversation.input.write_all(&line).await;
        match self.answer().await {
            Ok(answer) => Ok(answer),
            Err(_) if self.has_no_program() => {
                let message = "the program is not there".to_owned();
                Ok(Answer::Failed(Failure { reason: Reason::Version, message }))
            }
            Err(error) => Err(written.err().map_or(error, |source| self.wrong("it cannot be asked").cause(&source))),
        }
    }

    fn has_no_program(&self) -> bool {
        let rest = String::from_utf8_lossy(&self.said);
        let said = |words: &str| rest.contains(words) || self.talk.iter().any(|line| line.contains(words));
        NO_PROGRAM.iter().any(|words| said(words))
    }

    /// Sends everything and waits for what the node makes of it.
    pub(crate) async fn send(mut self, mut orders: ByteStream) -> Result<Vec<Stored>> {
        let mut input = std::mem::replace(&mut self.conversation.input, Box::pin(tokio::io::sink()));
        let write = async {
            while let Some(chunk) = orders.try_next().await? {
                input.write_all(&chunk).await?;
            }
            // Whoever stopped before the end gets the node to forget it all.
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
            (Err(error), Some(Err(source))) => Err(error.cause(&source)),
            (Err(error), _) => Err(error),
        }
    }

    /// Reads the next answer.
    async fn answer(&mut self) -> Result<Answer> {
        loop {
            if let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.said.drain(..=end).collect();
                if let Ok(answer) = serde_json::from_slice(&line) {
                    return Ok(answer);
                }
                self.note(&line);
                continue;
            }
            match self.conversation.output.next().await {
                Some(Ok(Said::Output(bytes))) => self.said.extend_from_slice(&bytes),
                Some(Ok(Said::Error(bytes))) => self.note(&bytes),
                Some(Err(source)) => return Err(self.wrong("the connection to it broke").cause(&source)),
                None => return Err(self.wrong("it ended without an answer")),
            }
            if self.said.len() > MAX_ANSWER {
                return Err(self.wrong("its answer is too long"));
            }
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        self.talk.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
        self.talk.drain(..self.talk.len().saturating_sub(LINES));
    }

    fn wrong(&self, why: &str) -> Error {
        let rest = String::from_utf8_lossy(&self.said);
        let rest = rest.lines().take(LINES).map(str::to_owned);
        Error::new(Code::LoadFailed, FAILED)
            .on_node(&self.node)
            .because(why)
            .lines(self.talk.iter().cloned().chain(rest))
    }
}

/// What a node says of its failure.
fn of_node(failure: &Failure, node: &str) -> Error {
    match failure.reason {
        Reason::DiskFull => Error::new(Code::DiskFull, FAILED)
            .on_node(node)
            .because("no space left on device; what was sent is removed again")
            .hint("`docker system df` shows what takes space, `docker system prune` frees some"),
        Reason::Damaged => Error::new(Code::LoadFailed, FAILED)
            .on_node(node)
            .because(&failure.message)
            .hint("pull or build the image again"),
        Reason::Version | Reason::Unreadable | Reason::Other => {
            Error::new(Code::LoadFailed, FAILED).on_node(node).because(&failure.message)
        }
    }
}
