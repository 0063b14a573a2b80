//! The subscription frames come through.

use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber};
use futures::{StreamExt, stream};
use sferic_actors::frame::{Arrival, Encoding, Envelope, TraceHeaders};
use sferic_actors::ports::FrameSource;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::Connection;

/// How to end the reading of frames.
#[derive(Debug)]
pub struct Frames {
    connection: Connection,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl Frames {
    /// Ends the subscription and waits, at most `bound`, until all that had been sent to it is read. Without a connection there is
    /// nothing more to read.
    pub async fn stop(self, bound: Duration) {
        self.stop.send_replace(true);
        tokio::select! {
            _ = self.ended => {}
            () = self.connection.lost(Duration::ZERO) => {}
            () = tokio::time::sleep(bound) => tracing::warn!("the subscription did not end in time"),
        }
    }
}

/// Subscribes to `<prefix>.frames.>` in a queue group. Returns when the server has the subscription.
pub async fn subscribe(connection: &Connection, prefix: &str, queue_group: &str) -> anyhow::Result<(FrameSource, Frames)> {
    let client = &connection.client;
    let subject = format!("{prefix}.frames.>");
    let subscriber = client.queue_subscribe(subject, queue_group.to_owned()).await?;
    confirm(connection).await?;
    let (stop, stopping) = watch::channel(false);
    let (ending, ended) = oneshot::channel();
    let skip = prefix.len() + ".frames.".len();
    let reading = Reading { subscriber, stopping, draining: false, _ending: ending };
    let source = stream::unfold(reading, move |mut reading| async move {
        let message = reading.next().await?;
        Some((arrival(message, skip), reading))
    });
    Ok((source.boxed(), Frames { connection: connection.clone(), stop, ended }))
}

/// Commands of one connection are carried out in order: when a message to oneself is back, all before it is done.
async fn confirm(connection: &Connection) -> anyhow::Result<()> {
    let client = &connection.client;
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, Vec::new().into()).await?;
    tokio::time::timeout(Duration::from_secs(5), echo.next()).await?;
    Ok(())
}

struct Reading {
    subscriber: Subscriber,
    stopping: watch::Receiver<bool>,
    draining: bool,
    /// Dropped with the stream's end, which is how its end is told.
    _ending: oneshot::Sender<()>,
}

impl Reading {
    async fn next(&mut self) -> Option<Message> {
        loop {
            tokio::select! {
                message = self.subscriber.next() => return message,
                () = stopped(&mut self.stopping), if !self.draining => {
                    self.draining = true;
                    if let Err(error) = self.subscriber.drain().await {
                        tracing::warn!(%error, "the subscription could not be drained");
                        return None;
                    }
                }
            }
        }
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // A sender that is gone can't ask for a drain any more; reading goes on until the client closes.
    if stopping.wait_for(|&stop| stop).await.is_err() {
        std::future::pending().await
    }
}

fn arrival(message: Message, skip: usize) -> Arrival {
    let received_at = Instant::now();
    let envelope = Envelope {
        source: message.subject.get(skip..).unwrap_or_default().to_owned(),
        reply_to: message.reply.map(|subject| subject.to_string()),
        ..message.headers.as_ref().map(from_headers).unwrap_or_default()
    };
    Arrival { payload: message.payload, envelope, received_at }
}

fn from_headers(headers: &HeaderMap) -> Envelope {
    let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    // Header names are case-sensitive in NATS; publishers write both.
    let any = |names: [&str; 2]| names.into_iter().find_map(text);
    Envelope {
        message_id: text("Nats-Msg-Id"),
        encoding: encoding(any(["Content-Type", "content-type"]).as_deref()),
        trace: TraceHeaders {
            traceparent: any(["traceparent", "Traceparent"]),
            tracestate: any(["tracestate", "Tracestate"]),
            baggage: any(["baggage", "Baggage"]),
        },
        ..Envelope::default()
    }
}

/// MessagePack where nothing else is said; what is neither is read as MessagePack, and fails as that.
fn encoding(content_type: Option<&str>) -> Encoding {
    let kind = content_type.and_then(|text| text.split(';').next()).map(str::trim).unwrap_or_default();
    if kind.eq_ignore_ascii_case("application/json") { Encoding::Json } else { Encoding::MessagePack }
}
