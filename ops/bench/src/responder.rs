//! A minimal async-nats responder, in a process of its own like the daemon.

use std::process::Stdio;

use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use tokio::process::{Child, Command};

/// As many bytes as a prediction has.
pub const ANSWER_BYTES: usize = 600;

/// What it answers.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Answer {
    /// The payload it was sent.
    Whole,
    /// As many bytes as a prediction has.
    Short,
}

impl Answer {
    /// Where it listens.
    pub fn subject(self) -> &'static str {
        match self {
            Self::Whole => "bare.whole",
            Self::Short => "bare.short",
        }
    }
}

/// Starts one, ended when this is dropped. The program that calls this calls [`respond`] where its first
/// argument is `respond`.
///
/// # Errors
/// It cannot be started.
pub fn start(url: &str, answer: Answer) -> anyhow::Result<Child> {
    let word = match answer {
        Answer::Whole => "whole",
        Answer::Short => "short",
    };
    Command::new(std::env::current_exe()?)
        .args(["respond", url, answer.subject(), word])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the responder")
}

/// Answers every message on the subject, until it is ended.
///
/// # Errors
/// The server is not there, or a message wants no answer.
pub async fn respond(url: &str, subject: &str, answer: Answer) -> anyhow::Result<()> {
    let client = async_nats::connect(url).await?;
    let mut messages = client.subscribe(subject.to_owned()).await?;
    let short = Bytes::from(vec![0; ANSWER_BYTES]);
    while let Some(message) = messages.next().await {
        let payload = match answer {
            Answer::Whole => message.payload,
            Answer::Short => short.clone(),
        };
        client.publish(message.reply.context("no reply subject")?, payload).await?;
    }
    Ok(())
}
