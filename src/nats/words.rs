//! Errors that the client library reports only in its log: why a connection ended, why an attempt failed, and
//! its panics.
//!
//! With several connections in a process the latest error is kept, so a reason may belong to another
//! connection that ended at the same moment.

use std::fmt;
use std::panic;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, Layer};
use tracing_subscriber::registry::LookupSpan;

static DISCONNECT: Last = Last(Mutex::new(None));
static ATTEMPT: Last = Last(Mutex::new(None));
static PANIC: Last = Last(Mutex::new(None));

struct Last(Mutex<Option<String>>);

impl Last {
    fn put(&self, words: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DisconnectReason {
    /// The library's words.
    pub text: String,
    /// The client could not read a message: the connection was good, and the publisher caused its end.
    pub is_about_a_message: bool,
}

/// Takes the reason why the last connection ended; `None` where the library reported none, or [`layer`] is
/// not installed.
pub(super) fn of_disconnect() -> Option<DisconnectReason> {
    DISCONNECT.take().map(|debug| reason(&debug))
}

/// Takes the reason why the last attempt to connect failed.
pub(super) fn of_attempt() -> Option<String> {
    ATTEMPT.take()
}

/// Takes the message of the last panic in the library; `None` where there was none, or [`catch_panics`] was
/// not called.
pub(super) fn of_panic() -> Option<String> {
    PANIC.take()
}

/// Keeps panics of the library for the connection that reports them; others go to the previous hook.
pub fn catch_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let is_the_librarys = info.location().is_some_and(|location| location.file().contains("async-nats"));
        if is_the_librarys {
            PANIC.put(format!("it panicked: {}", info.payload_as_str().unwrap_or("no message")));
        } else {
            before(info);
        }
    }));
}

/// A layer that keeps errors of the library. It enables only these few events, so others cost nothing.
pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    Words.with_filter(OnlyErrors)
}

struct Words;

/// `disconnected` and `connection attempt failed` are the library's only debug events of its root that have
/// an `error`.
struct OnlyErrors;

impl OnlyErrors {
    fn wants(metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target().starts_with("async_nats")
            && metadata.fields().field("error").is_some()
    }
}

impl<S> Filter<S> for OnlyErrors {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        Self::wants(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        if Self::wants(metadata) {
            tracing::subscriber::Interest::always()
        } else {
            tracing::subscriber::Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(Level::DEBUG.into())
    }
}

impl<S: Subscriber> Layer<S> for Words {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = EventText::default();
        event.record(&mut text);
        match text.message.as_str() {
            "disconnected" => DISCONNECT.put(text.error),
            _ => ATTEMPT.put(text.error),
        }
    }
}

/// The fields of a log event that are read.
#[derive(Default)]
struct EventText {
    message: String,
    error: String,
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "error" => self.error = format!("{value:?}"),
            _ => {}
        }
    }
}

/// Parses the `Debug` text of an `Option<io::Error>`. An error of the client itself is about a message; one
/// of the system or of TLS is not.
fn reason(debug: &str) -> DisconnectReason {
    let inner = debug.strip_prefix("Some(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(debug);
    let is_about_a_message =
        ["InvalidInput", "Other"].iter().any(|kind| inner.starts_with(&format!("Custom {{ kind: {kind},")));
    let quoted = inner
        .split_once("error: ")
        .map(|(_, error)| error.strip_suffix(" }").unwrap_or(error).trim_matches('"'));
    let message = inner
        .split_once("message: \"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(message, _)| message);
    let text = match inner {
        "None" => "the server closed the connection",
        _ => quoted.or(message).unwrap_or(inner),
    };
    DisconnectReason { text: text.to_owned(), is_about_a_message }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::prelude::*;

    use super::*;

    #[test]
    fn a_reason_is_the_text_of_the_library() {
        let custom = |text: &str| Some(io::Error::new(io::ErrorKind::InvalidInput, text));
        let reset = Some(io::Error::from_raw_os_error(104));
        for (error, text, is_about_a_message) in [
            (custom("header isn't valid utf-8"), "header isn't valid utf-8", true),
            (
                Some(io::Error::other("could not parse status parameter")),
                "could not parse status parameter",
                true,
            ),
            (reset, "Connection reset by peer", false),
            (None, "the server closed the connection", false),
        ] {
            assert_eq!(
                reason(&format!("{error:?}")),
                DisconnectReason { text: text.to_owned(), is_about_a_message }
            );
        }
    }

    #[test]
    fn the_layer_keeps_errors_of_the_library_and_nothing_else() {
        let subscriber = tracing_subscriber::registry().with(layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "async_nats", error = ?Some(io::Error::other("a word")), "disconnected");
            tracing::debug!(target: "async_nats", "received PING");
            tracing::debug!(target: "elsewhere", error = "none of ours", "disconnected");
            let error = "IO error: refused";
            tracing::debug!(target: "async_nats::connector", %error, "connection attempt failed");
        });
        assert_eq!(
            of_disconnect(),
            Some(DisconnectReason { text: "a word".to_owned(), is_about_a_message: true })
        );
        assert_eq!(of_disconnect(), None);
        assert_eq!(of_attempt().as_deref(), Some("IO error: refused"));
    }
}
