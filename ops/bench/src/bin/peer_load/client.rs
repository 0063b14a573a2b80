//! The client of all sides: one request after the other, over NATS or a kept HTTP/1.1 connection.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::Client;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::answer::{Answer, Reading};
use crate::frames::{Encoding, Frame, PATTERNS};

/// The longest time for an answer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where a side is asked, and how it answers.
#[derive(Clone)]
pub struct Door {
    way: Way,
    frames: Arc<[Frame]>,
    reading: Reading,
}

#[derive(Clone)]
enum Way {
    Nats { client: Client, subject: String },
    Http { address: String },
}

impl Door {
    /// Requests on a subject.
    ///
    /// # Errors
    /// A defect.
    pub fn nats(client: &Client, subject: &str, reading: Reading) -> anyhow::Result<Self> {
        let way = Way::Nats { client: client.clone(), subject: subject.to_owned() };
        let frame = |pattern| Frame::new(Encoding::MessagePack, pattern, |_| String::new());
        Ok(Self { way, frames: (0..PATTERNS).map(frame).collect::<Result<_, _>>()?, reading })
    }

    /// POST requests to a path of a port of the loopback address.
    ///
    /// # Errors
    /// A defect.
    pub fn http(port: u16, path: &str, encoding: Encoding) -> anyhow::Result<Self> {
        let address = format!("127.0.0.1:{port}");
        let content_type = encoding.content_type();
        let head = |length| {
            format!(
                "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {content_type}\r\n\
                 Accept: {content_type}\r\nContent-Length: {length}\r\n\r\n"
            )
        };
        let frames = (0..PATTERNS).map(|pattern| Frame::new(encoding, pattern, head));
        let frames = frames.collect::<Result<_, _>>()?;
        let reading = if encoding == Encoding::MessagePack { Reading::MessagePack } else { Reading::Json };
        Ok(Self { way: Way::Http { address }, frames, reading })
    }

    /// A user, with a connection of its own where the side speaks HTTP. Users `n` and `n + PATTERNS` send the
    /// same frame but for its numbers.
    ///
    /// # Errors
    /// It cannot connect.
    pub async fn user(&self, n: u64) -> anyhow::Result<User> {
        let frame = self.frames[(n % PATTERNS) as usize].clone();
        let line = match &self.way {
            Way::Nats { client, subject } => Line::Nats { client: client.clone(), subject: subject.clone() },
            Way::Http { address } => Line::Http(Connection::open(address).await?),
        };
        Ok(User { line, frame, reading: self.reading })
    }
}

/// Who sends a frame and waits for its answer.
pub struct User {
    line: Line,
    frame: Frame,
    reading: Reading,
}

enum Line {
    Nats { client: Client, subject: String },
    Http(Connection),
}

impl User {
    /// Sends its frame with this number; without one as it is.
    ///
    /// # Errors
    /// There is no answer, or it is no prediction.
    pub async fn ask(&mut self, number: Option<u64>) -> anyhow::Result<Option<Answer>> {
        if let Some(number) = number {
            self.frame.number(number);
        }
        match &mut self.line {
            Line::Nats { client, subject } => {
                let message =
                    client.request(subject.clone(), Bytes::copy_from_slice(self.frame.bytes())).await?;
                self.reading.read(&message.payload)
            }
            Line::Http(connection) => self.reading.read(connection.call(self.frame.bytes()).await?),
        }
    }
}

/// A connection that is kept. Answers need a `Content-Length`, which all sides send.
struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

/// The longest answer.
const MOST: usize = 1 << 20;

impl Connection {
    async fn open(address: &str) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("nothing listens at {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(4096) })
    }

    /// The body of the answer to a whole request; an error unless its status is 200.
    async fn call(&mut self, request: &[u8]) -> anyhow::Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await?;
            ensure!(read > 0, "the connection was closed before the answer had come");
            ensure!(self.answer.len() < MOST, "an answer of more than {MOST} bytes");
            if let Some((status, body)) = answer(&self.answer)? {
                let text = || String::from_utf8_lossy(&self.answer[body.clone()]).into_owned();
                ensure!(status == "200", "status {status}: {}", text());
                return Ok(&self.answer[body]);
            }
        }
    }
}

/// Status and place of the body, once all of the answer is there.
fn answer(bytes: &[u8]) -> anyhow::Result<Option<(&str, std::ops::Range<usize>)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let status = head.split(' ').nth(1).context("no status")?;
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let body = end + 4;
    let (_, length) = length.with_context(|| format!("an answer without a length: {head}"))?;
    let length: usize = length.trim().parse()?;
    Ok((bytes.len() - body >= length).then(|| (status, body..body + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let whole = b"HTTP/1.1 200 OK\r\nserver: x\r\nContent-Length: 3\r\n\r\nabc";
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end]).unwrap(), None, "{end} bytes");
        }
        assert_eq!(answer(whole).unwrap(), Some(("200", whole.len() - 3..whole.len())));
        assert!(answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}
