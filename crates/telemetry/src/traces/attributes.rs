//! Names of attributes: those of OpenTelemetry for messaging, and our own under `sferic.`.

macro_rules! names {
    ($($constant:ident = $name:literal $of:literal $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*
        /// All of them, each with the spans it is on and its meaning.
        pub const ALL: &[(&str, &str, &str)] = &[$(($name, $of, $help)),*];
    };
}

names! {
    MESSAGING_SYSTEM = "messaging.system" "frame, publish" "`nats`";
    OPERATION_NAME = "messaging.operation.name" "frame, publish" "`process` or `publish`";
    OPERATION_TYPE = "messaging.operation.type" "frame, publish" "`process` or `send`";
    DESTINATION = "messaging.destination.name" "frame, publish" "the subject";
    DESTINATION_TEMPLATE = "messaging.destination.template" "frame, publish"
        "the subject with `{source}` for the source";
    CONSUMER_GROUP = "messaging.consumer.group.name" "frame" "`nats.queue_group`";
    MESSAGE_ID = "messaging.message.id" "frame, publish" "the frame's id";
    BODY_SIZE = "messaging.message.body.size" "frame" "bytes of the frame's message";
    SOURCE = "sferic.source" "frame" "the frame's source";
    OUTCOME = "sferic.outcome" "frame" "`prediction`, a failure's code, or `lost`";
    KEPT = "sferic.kept" "frame"
        "why the spans are kept: `sampled`, or of a trace that is not, `failed`, `slow` or `lost`";
    MODEL = "sferic.model" "frame, run" "the model's name";
    MODEL_VERSION = "sferic.model.version" "frame, run" "its version";
    DATATYPE = "sferic.datatype" "frame" "how the samples were written";
    SAMPLES = "sferic.samples" "frame" "samples a channel";
    BATCH_SIZE = "sferic.batch.size" "frame, inference, run" "frames in the run";
    CACHE_HIT = "sferic.cache.hit" "frame, cache" "answered without a run of its own";
    SESSION = "sferic.session" "inference, run" "the session's number";
    ERROR_TYPE = "error.type" "frame, publish" "a failure's code, or why the outcome is lost";
    EXCEPTION_TYPE = "exception.type" "the event on a failed frame" "the failure's code";
    EXCEPTION_MESSAGE = "exception.message" "the event on a failed frame" "the failure's message";
}
