//! The decoder: wire format and limits together.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use sferic_actors::frame::{Content, Envelope, FrameInfo, IqSamples};
use sferic_actors::outcome::{Failure, FailureCode};
use sferic_actors::ports::{Decoded, Decoder, Rejected};
use sferic_models::frame_failure;
use sferic_samples::{Datatype, Number, Samples, datetime};
use sferic_settings::Settings;
use sferic_wire::{self as wire, Body, Text};

use super::tensors::tensors;

/// Decodes frames.
#[derive(Debug)]
pub struct FrameDecoder {
    frame_samples: usize,
    timeout: Duration,
    max_timeout: Duration,
    cache_enabled: bool,
}

impl FrameDecoder {
    /// Decodes frames within the limits of `settings`.
    pub fn new(settings: &Settings) -> Self {
        Self {
            frame_samples: settings.limits.frame_samples,
            timeout: settings.limits.timeout,
            max_timeout: settings.limits.max_timeout,
            cache_enabled: settings.cache.enabled,
        }
    }

    fn read(&self, payload: &Bytes, envelope: &Envelope) -> Result<Decoded, Rejected> {
        let mut body = wire::read(payload, envelope.encoding).map_err(|error| Rejected {
            info: self.identify(payload, envelope),
            failure: invalid(error.to_string()),
        })?;
        let info = FrameInfo {
            frame_id: id(
                body.frame_id.as_ref().map(Text::as_str).filter(|id| wire::frame_id_is_valid(id)),
                envelope,
            ),
            session_id: body.session_id.take().or_else(|| envelope.session_id.clone()),
            seq: body.seq,
            datetime: body.datetime.take().map(wire::to_nanoseconds),
            frequency: body.frequency,
            geolocation: body.geolocation.take().map(wire::Geolocation::into_place),
        };
        // Only sessions are about instants.
        let datetime = info.datetime.as_deref().filter(|_| info.session_id.is_some());
        let begun_ns = datetime.and_then(datetime::parse).map(|time| time.as_nanosecond());
        match check(&body, &info).and_then(|()| self.accept(body, payload, envelope)) {
            Ok(mut accepted) => {
                accepted.content.begun_ns = begun_ns.and_then(|ns| i64::try_from(ns).ok());
                Ok(Decoded { info, ..accepted })
            }
            Err(failure) => Err(Rejected { info, failure }),
        }
    }

    fn accept(&self, mut body: Body<'_>, payload: &Bytes, envelope: &Envelope) -> Result<Decoded, Failure> {
        let budget = body.timeout_ms.map_or(self.timeout, Duration::from_millis).min(self.max_timeout);
        let (priority, wants_cache) = (body.priority.unwrap_or_default(), body.cache_enabled.unwrap_or(true));
        let (asked, session_size, arrival_ns) = (body.model.take(), body.session_size, body.arrival_ns);
        let tensors = tensors(body.tensors.take().unwrap_or_default(), payload, self.frame_samples)?;
        let samples = samples(body, payload)?;
        if let Some(samples) = &samples {
            self.check_samples(samples)?;
        } else if tensors.is_empty() && arrival_ns.is_none() {
            return Err(invalid("neither `samples` nor `iq_data` is given"));
        }
        Ok(Decoded {
            info: FrameInfo::default(),
            content: Content { samples, tensors, is_raw: envelope.is_raw, arrival_ns, ..Content::default() },
            model: asked.map(|asked| asked.as_str().to_owned()),
            budget,
            priority,
            is_cacheable: self.cache_enabled && wants_cache,
            session_size,
        })
    }

    fn check_samples(&self, samples: &IqSamples) -> Result<(), Failure> {
        let view = Samples::new(&samples.bytes, samples.datatype, samples.channels)
            .map_err(|error| frame_failure(&error.into()))?;
        let (count, limit) = (view.len(), self.frame_samples);
        if count > limit {
            let message =
                format!("the frame has {count} samples a channel, over limits.frame_samples, {limit}");
            return Err(Failure::new(FailureCode::FrameTooLarge, message));
        }
        Ok(())
    }
}

impl Decoder for FrameDecoder {
    fn decode(&self, payload: &Bytes, envelope: &Envelope) -> Result<Decoded, Rejected> {
        self.read(payload, envelope)
    }

    fn identify(&self, payload: &Bytes, envelope: &Envelope) -> FrameInfo {
        let info = wire::salvage(payload, envelope.encoding);
        let own = Some(info.frame_id.as_str()).filter(|id| !id.is_empty());
        let session_id = info.session_id.or_else(|| envelope.session_id.clone());
        FrameInfo { frame_id: id(own, envelope), session_id, ..info }
    }
}

/// The id of the frame, else of the message, else a new one.
fn id(own: Option<&str>, envelope: &Envelope) -> String {
    let message_id = || envelope.message_id.as_deref().filter(|id| wire::frame_id_is_valid(id));
    own.or_else(message_id).map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::InvalidFrame, message)
}

fn check(body: &Body<'_>, info: &FrameInfo) -> Result<(), Failure> {
    if let Some(id) = body.frame_id.as_ref().map(Text::as_str).filter(|id| !wire::frame_id_is_valid(id)) {
        let length = id.chars().count();
        return Err(invalid(format!(
            "`frame_id` has {length} characters, must be 1 to 256 printable ASCII characters"
        )));
    }
    if let Some(text) = info.datetime.as_deref().filter(|text| datetime::parse(text).is_none()) {
        return Err(invalid(format!(
            "`datetime` is {:?}, must be an RFC 3339 time in UTC",
            wire::shortened(text, 64)
        )));
    }
    if let Some(rate) = body.sample_rate.filter(|rate| !rate.is_finite() || *rate <= 0.0) {
        return Err(invalid(format!(
            "`sample_rate` is {}, must be a finite number of Hz above 0",
            Number(rate)
        )));
    }
    if let Some(frequency) = body.frequency.filter(|frequency| !frequency.is_finite()) {
        return Err(invalid(format!("`frequency` is {frequency}, must be a finite number of Hz")));
    }
    Ok(())
}

/// The samples; `None` where the frame has none, which its tensors may make up for.
fn samples(body: Body<'_>, payload: &Bytes) -> Result<Option<IqSamples>, Failure> {
    let channels = match body.num_channels.map(usize::try_from) {
        None => 1,
        Some(Ok(channels)) if channels >= 1 => channels,
        Some(_) => {
            return Err(invalid(format!(
                "`num_channels` is {}, must be at least 1",
                body.num_channels.unwrap_or_default()
            )));
        }
    };
    let (bytes, datatype) = match (body.samples, body.iq_data) {
        (Some(_), Some(_)) => {
            return Err(invalid("both `samples` and `iq_data` are given, must be one of the two"));
        }
        (None, None) => return Ok(None),
        (None, Some(_)) if channels != 1 => {
            return Err(invalid(format!("`num_channels` is {channels}, but `iq_data` holds one channel")));
        }
        (None, Some(iq_data)) => (Bytes::from(iq_data.0), Datatype::Cf32Le),
        (Some(binary), None) => {
            let datatype = body.datatype.ok_or_else(|| invalid("`samples` without `datatype`"))?;
            let datatype = datatype.as_str().parse().map_err(|error| {
                Failure::new(FailureCode::UnsupportedDatatype, format!("`datatype`: {error}"))
            })?;
            let bytes = match binary.0 {
                Cow::Borrowed(bytes) => payload.slice_ref(bytes),
                Cow::Owned(bytes) => bytes.into(),
            };
            (bytes, datatype)
        }
    };
    Ok(Some(IqSamples { bytes, datatype, channels, sample_rate: body.sample_rate }))
}

#[cfg(test)]
mod tests {
    use sferic_actors::tensor::Dtype;

    use super::*;

    fn decoded(frame: &'static str, envelope: &Envelope) -> Decoded {
        let envelope = Envelope { encoding: sferic_actors::frame::Encoding::Json, ..envelope.clone() };
        let decoder = FrameDecoder::new(&Settings::default());
        decoder.decode(&Bytes::from_static(frame.as_bytes()), &envelope).unwrap()
    }

    const FRAME: &str = r#"{"is_raw": true,
        "tensors": {"x": {"shape": [2], "dtype": "int16", "data": "AQACAA=="}}}"#;

    #[test]
    fn who_puts_a_frame_in_asks_for_raw_access_and_no_message_does() {
        assert!(!decoded(FRAME, &Envelope::default()).content.is_raw);
        let content = decoded(FRAME, &Envelope { is_raw: true, ..Envelope::default() }).content;
        let tensor = &content.tensors[0];
        assert!(content.is_raw && content.samples.is_none());
        assert_eq!((&*tensor.name, tensor.dtype, &*tensor.shape), ("x", Dtype::Int16, &[2][..]));
        assert_eq!(tensor.data, [1, 0, 2, 0][..]);
    }
}
