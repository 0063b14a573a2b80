//! The subscription frames come through: a place in a queue group, which can be given up for a while.

use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use serde::{Deserialize, Serialize};
use sferic_actors::frame::{Arrival, Encoding, Envelope, TraceHeaders};
use sferic_actors::ports::FrameSource;
use tokio::sync::{oneshot, watch};
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::Connection;

/// What the daemon does about the frames of its queue group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// It takes its share.
    Reading,
    /// It leaves them to the other members.
    Paused,
    /// It takes no more.
    Stopped,
}

/// Says what is wanted of the input, and sees what it does.
#[derive(Debug, Clone)]
pub struct InputSwitch {
    wanted: watch::Sender<Input>,
    is: watch::Receiver<Input>,
}

impl InputSwitch {
    /// Leaves the queue group, or joins it again. What had been sent to this member is still read.
    pub fn pause(&self, pause: bool) {
        self.want(if pause { Input::Paused } else { Input::Reading });
    }

    /// What the input does now: `Reading` only while the server has the subscription.
    pub fn is(&self) -> Input {
        *self.is.borrow()
    }

    fn want(&self, input: Input) {
        self.wanted.send_if_modified(|wanted| {
            let change = *wanted != input && *wanted != Input::Stopped;
            if change {
                *wanted = input;
            }
            change
        });
    }
}

/// How to end the reading of frames.
#[derive(Debug)]
pub struct Frames {
    connection: Connection,
    switch: InputSwitch,
    ended: oneshot::Receiver<()>,
}

impl Frames {
    /// What pauses the reading.
    pub fn switch(&self) -> &InputSwitch {
        &self.switch
    }

    /// Ends the subscription and waits, at most `bound`, until all that had been sent to it is read. Without a connection there is
    /// nothing more to read.
    pub async fn stop(self, bound: Duration) {
        self.switch.want(Input::Stopped);
        tokio::select! {
            _ = self.ended => {}
            () = self.connection.lost(Duration::ZERO) => {}
            () = tokio::time::sleep(bound) => tracing::warn!("the subscription did not end in time"),
        }
    }
}

/// Subscribes to `<prefix>.frames.>` in a queue group. Returns when the server has the subscription.
pub async fn subscribe(connection: &Connection, prefix: &str, queue_group: &str) -> anyhow::Result<(FrameSource, Frames)> {
    let subject = format!("{prefix}.frames.>");
    let subscriber = connection.client.queue_subscribe(subject.clone(), queue_group.to_owned()).await?;
    confirm(connection.clone()).await?;
    let (wanted, wanting) = watch::channel(Input::Reading);
    let (is, being) = watch::channel(Input::Reading);
    let (ending, ended) = oneshot::channel();
    let skip = prefix.len() + ".frames.".len();
    let reading = Reading {
        connection: connection.clone(),
        subject,
        queue_group: queue_group.to_owned(),
        place: Place::Joined(subscriber, None),
        wanted: wanting,
        is,
        _ending: ending,
    };
    let source = stream::unfold(reading, move |mut reading| async move {
        let message = reading.next().await?;
        Some((arrival(message, skip), reading))
    });
    let switch = InputSwitch { wanted, is: being };
    Ok((source.boxed(), Frames { connection: connection.clone(), switch, ended }))
}

/// Commands of one connection are carried out in order: when a message to oneself is back, all before it is done, and all that the
/// server had sent before it has been received.
async fn confirm(connection: Connection) -> anyhow::Result<()> {
    let client = &connection.client;
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, Vec::new().into()).await?;
    tokio::time::timeout(Duration::from_secs(5), echo.next()).await?;
    Ok(())
}

/// [`confirm`] under way.
type Echo = BoxFuture<'static, ()>;

fn echo(connection: &Connection) -> Echo {
    let told = confirm(connection.clone());
    Box::pin(async { told.await.unwrap_or_else(|error| tracing::warn!(%error, "the server does not confirm the subscription")) })
}

/// Where this member stands in its queue group. It reads in all places but the last.
enum Place {
    /// In it; with the echo that is to confirm it.
    Joined(Subscriber, Option<Echo>),
    /// Going; with the echo behind which nothing more comes.
    Leaving(Subscriber, Option<Echo>),
    Left,
}

struct Reading {
    connection: Connection,
    subject: String,
    queue_group: String,
    place: Place,
    wanted: watch::Receiver<Input>,
    is: watch::Sender<Input>,
    /// Dropped with the stream's end, which is how its end is told.
    _ending: oneshot::Sender<()>,
}

impl Reading {
    /// The next message; `None` once it is stopped and all is read, or the client is closed.
    async fn next(&mut self) -> Option<Message> {
        loop {
            let wanted = *self.wanted.borrow_and_update();
            match &mut self.place {
                Place::Joined(..) if wanted != Input::Reading => self.leave(wanted).await?,
                Place::Joined(subscriber, echo) => tokio::select! {
                    message = subscriber.next() => return message,
                    () = come_back(echo) => self.is(Input::Reading),
                    () = changed(&mut self.wanted) => {}
                },
                Place::Leaving(subscriber, echo @ Some(_)) => tokio::select! {
                    message = subscriber.next() => return message,
                    () = come_back(echo) => {}
                },
                // What has come is read to its end; a budget of the runtime that is used up would look like the end.
                Place::Leaving(subscriber, None) => match unconstrained(subscriber.next()).now_or_never() {
                    Some(Some(message)) => return Some(message),
                    Some(None) | None => self.place = Place::Left,
                },
                Place::Left if wanted == Input::Stopped => return None,
                Place::Left if wanted == Input::Reading => self.join().await?,
                Place::Left => changed(&mut self.wanted).await,
            }
        }
    }

    /// The library's own drain forgets the subscription as soon as the socket is looked at again, and what the server sends until it
    /// has heard of it is lost. So the server is told of an end after more messages than it can count (of more than nine digits, which
    /// ends the subscription there at once), for which the library waits for ever.
    async fn leave(&mut self, wanted: Input) -> Option<()> {
        self.is(wanted);
        if let Place::Joined(mut subscriber, _) = std::mem::replace(&mut self.place, Place::Left) {
            subscriber.unsubscribe_after(u64::MAX).await.ok()?;
            self.place = Place::Leaving(subscriber, Some(echo(&self.connection)));
        }
        Some(())
    }

    async fn join(&mut self) -> Option<()> {
        let subscribed = self.connection.client.queue_subscribe(self.subject.clone(), self.queue_group.clone()).await;
        self.place = Place::Joined(subscribed.ok()?, Some(echo(&self.connection)));
        Some(())
    }

    fn is(&self, input: Input) {
        self.is.send_replace(input);
    }
}

/// Waits for the echo and forgets it; for ever where there is none.
async fn come_back(echo: &mut Option<Echo>) {
    match echo {
        Some(back) => back.await,
        None => std::future::pending().await,
    }
    *echo = None;
}

async fn changed(wanted: &mut watch::Receiver<Input>) {
    // Senders that are gone can't want anything else any more; reading goes on until the client closes.
    if wanted.changed().await.is_err() {
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
