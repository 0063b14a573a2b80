//! NATS over a bare socket, for messages that no library sends.

use async_nats::ServerAddr;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::PATIENCE;

/// A publisher that sends what it is given.
pub struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    pub async fn connect(url: &str) -> Self {
        let address: ServerAddr = url.parse().unwrap();
        let stream = TcpStream::connect((address.host(), address.port())).await.unwrap();
        let mut wire = Self { stream: BufReader::new(stream) };
        wire.send(
            b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n",
        )
        .await;
        wire.ping().await;
        wire
    }

    /// A message with a header block as it is, or without one.
    pub fn message(subject: &[u8], reply: &[u8], header: Option<&[u8]>, payload: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(payload.len() + 128);
        match header {
            None => message.extend(
                [b"PUB ", subject, b" ", reply, b" ", payload.len().to_string().as_bytes(), b"\r\n"].concat(),
            ),
            Some(header) => {
                let (head, all) = (header.len().to_string(), (header.len() + payload.len()).to_string());
                message.extend(
                    [
                        b"HPUB ",
                        subject,
                        b" ",
                        reply,
                        b" ",
                        head.as_bytes(),
                        b" ",
                        all.as_bytes(),
                        b"\r\n",
                        header,
                    ]
                    .concat(),
                );
            }
        }
        message.extend_from_slice(payload);
        message.extend_from_slice(b"\r\n");
        message
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        tokio::time::timeout(PATIENCE, self.stream.get_mut().write_all(bytes))
            .await
            .expect("the server takes nothing")
            .unwrap();
    }

    /// Returns once the server has taken everything before.
    pub async fn ping(&mut self) {
        self.send(b"PING\r\n").await;
        let pong = async {
            let mut line = Vec::new();
            while line != b"PONG\r\n" {
                line.clear();
                assert!(
                    self.stream.read_until(b'\n', &mut line).await.unwrap() > 0,
                    "the server has closed the connection"
                );
            }
        };
        tokio::time::timeout(PATIENCE, pong).await.expect("the server does not answer");
    }
}
