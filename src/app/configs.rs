//! The configurations of parts, from the settings.

use sferic_actors::pipeline::Config;
use sferic_actors::{breaker, cache, gather, queue};
use sferic_canary::Limits;
use sferic_samples::Geolocation;
use sferic_settings::{Canary, Gather, Mode, Receiver, ReceiverPosition, Reference, Settings, WhenFull};
use sferic_telemetry::{ExportOptions, TraceOptions};

/// The configuration of the pipeline.
pub fn pipeline_config(settings: &Settings) -> anyhow::Result<Config> {
    let (pool, cache, in_flight_frames) = (&settings.pool, &settings.cache, settings.limits.in_flight_frames);
    Ok(Config {
        in_flight_frames,
        in_flight_bytes: usize::try_from(settings.limits.in_flight_bytes)?,
        per_source_share: settings.limits.per_source_share,
        workers: settings.preprocess.feature_workers(pool),
        pool: queue::Config {
            sessions: pool.sessions,
            max_batch: pool.max_batch,
            max_batch_delay: pool.max_batch_delay,
            queue: match settings.nats.mode {
                Mode::Core => pool.queue,
                // As many are asked for as are admitted; to refuse some of them would only bring them back.
                Mode::Jetstream => pool.queue.max(in_flight_frames),
            },
            acquire_timeout: pool.acquire_timeout,
            shed_oldest: settings.limits.when_full == WhenFull::ShedOldest,
        },
        cache: cache::Config {
            ttl: cache.ttl,
            max_entries: cache.max_entries,
            max_bytes: usize::try_from(cache.max_bytes)?,
            admission: cache.admission,
            shared_timeout: cache.shared.timeout,
        },
        gather: gather_config(settings)?,
        supervision: settings.supervision.clone(),
    })
}

fn gather_config(settings: &Settings) -> anyhow::Result<gather::Config> {
    let place = |ReceiverPosition { latitude, longitude, altitude }: ReceiverPosition| {
        let coordinates = [longitude, latitude].into_iter().chain(altitude).collect();
        Geolocation::Point { coordinates }
    };
    let reference = |reference: &Reference| gather::Reference {
        place: place(reference.position),
        frequency_hz: reference.frequency,
        tolerance_hz: reference.tolerance,
    };
    let known = |receiver: &Receiver| {
        let place = receiver.position.map(place);
        let delay_ns = i64::try_from(receiver.delay.as_nanos()).unwrap_or(i64::MAX);
        let known = gather::KnownReceiver { place, delay_ns, sigma: receiver.sigma, moving: receiver.moving };
        (receiver.source.clone(), known)
    };
    let Gather { max_sessions, max_bytes, remember, max_speed, .. } = settings.gather;
    Ok(gather::Config {
        max_sessions,
        max_bytes: usize::try_from(max_bytes)?,
        remember,
        max_speed,
        receivers: settings.receivers.iter().map(known).collect(),
        references: settings.references.iter().map(reference).collect(),
    })
}

/// How much worse a canary may be.
pub fn canary_limits(settings: &Settings) -> Limits {
    let Canary { failures, latency, score, false_alarms } = settings.models.canary;
    Limits { failures, latency, score, false_alarms }
}

/// How telemetry is exported.
pub fn export_options(settings: &Settings) -> ExportOptions {
    let telemetry = &settings.telemetry;
    ExportOptions { protocol: telemetry.otlp_protocol, metrics_interval: telemetry.metrics_interval }
}

/// Which traces are kept.
pub fn trace_options(settings: &Settings) -> TraceOptions<'_> {
    let (telemetry, nats) = (&settings.telemetry, &settings.nats);
    TraceOptions {
        sample_ratio: telemetry.sample_ratio,
        slow_frame: telemetry.slow_frame,
        prefix: &nats.prefix,
        queue_group: &nats.queue_group,
    }
}

/// When circuits open.
pub fn breaker_config(settings: &Settings) -> breaker::Config {
    let breaker = &settings.breaker;
    breaker::Config {
        failure_threshold: breaker.failure_threshold,
        failure_share: breaker.failure_share,
        slow_share: breaker.slow_share,
        slow_call: breaker.slow_call,
        window: breaker.window,
        min_calls: breaker.min_calls,
        open_for: breaker.open_for,
        success_threshold: breaker.success_threshold,
    }
}
