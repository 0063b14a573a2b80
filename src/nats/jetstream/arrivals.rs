//! Makes arrivals of a stream's messages.

use async_nats::{HeaderMap, Message};
use sferic_actors::frame::Delivery;
use sferic_actors::outcome::{Failure, FailureCode};
use sferic_actors::ports::Arrival;
use tokio::time::Instant;

use super::acks::{Acks, Share};
use super::replies::Info;
use super::retry::RetryPolicy;
use super::streams::Streams;
use crate::nats::frames::{Tokens, envelope};
use crate::nats::reply::Replies;

/// What is the same for all frames of a consumer.
pub struct Arrivals {
    /// Makes replies.
    pub replies: Replies,
    /// Acknowledges.
    pub acks: Acks,
    /// Says which are not run.
    pub policy: RetryPolicy,
    /// Knows the subjects.
    pub streams: Streams,
    /// What the tokens of its subjects say.
    pub tokens: Tokens,
    /// Length of the subject before them.
    pub skip: usize,
}

impl Arrivals {
    /// The arrival of a message that is a frame.
    pub fn of(&self, message: Message) -> Arrival {
        let received_at = Instant::now();
        let (mut envelope, too_long) = envelope(&message, self.skip, self.tokens);
        let info = Info::of(&message);
        let Some(Info { stream, sequence, deliveries, published_ns }) = info else {
            return Arrival {
                payload: message.payload,
                envelope,
                origin: None,
                received_at,
                refused: too_long,
            };
        };
        let delivery = Delivery {
            id: format!("{stream}:{sequence}"),
            stream_seq: sequence,
            deliveries,
            // For the failure that ends its deliveries, which those of a first one are not.
            payload: (deliveries > 1 || self.policy.max_deliver == 1).then(|| message.payload.clone()),
            published_ns,
        };
        self.streams.saw(&delivery);
        let reply =
            header(message.headers.as_ref(), "Sferic-Reply").and_then(|subject| self.replies.on(subject));
        let subject = message.reply.as_ref().map(ToString::to_string).unwrap_or_default();
        let refused = too_long.or_else(|| self.refusal(&delivery));
        let is_gathered = self.tokens == Tokens::SessionAndSource;
        if is_gathered {
            self.streams.sessions().used();
        }
        let origin =
            self.acks.origin(subject, &delivery, reply, Share { is_run: refused.is_none(), is_gathered });
        envelope.delivery = Some(delivery);
        Arrival { payload: message.payload, envelope, origin: Some(origin), received_at, refused }
    }

    /// The failure of a frame that is not run.
    fn refusal(&self, delivery: &Delivery) -> Option<Failure> {
        if self.policy.is_exhausted(delivery) {
            let before = delivery.deliveries - 1;
            let message = format!("delivered {before} times, and no daemon lived to answer it");
            return Some(Failure::new(FailureCode::Internal, message));
        }
        let sent_back = self.acks.sent_back(delivery.stream_seq);
        // Apart from the others a frame of a session would come too late.
        let is_gathered = self.tokens == Tokens::SessionAndSource;
        if !sent_back && !is_gathered && self.policy.returns_alone(delivery) {
            let message = "its daemon ended, perhaps because of it: it is delivered again apart from others";
            return Some(Failure::new(FailureCode::Internal, message));
        }
        self.policy.is_too_old(delivery).then(|| {
            let (age, most) = (delivery.age(), self.policy.max_backlog_age);
            let message = format!(
                "it was in the stream for {age:.1?}, longer than jetstream.max_backlog_age, {most:?}"
            );
            Failure::new(FailureCode::DeadlineExceeded, message)
        })
    }
}

fn header(headers: Option<&HeaderMap>, name: &str) -> Option<String> {
    headers?.get(name).map(|value| value.as_str().to_owned())
}
