//! W3C trace context: what a `traceparent` header says, and the numbers of new traces and spans.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A span's place in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// Never 0.
    pub trace_id: u128,
    /// Never 0.
    pub span_id: u64,
    /// Whether it may have been recorded.
    pub sampled: bool,
}

impl SpanContext {
    /// Reads a `traceparent` header; `None` where it is none, as the standard has it.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |text: &str, digits| {
            let good = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            good.then(|| u128::from_str_radix(text, 16).ok()).flatten()
        };
        let version = hex(version, 2)?;
        // Of a version to come, what is known is read and the rest is passed over; this one has no rest.
        if version == 0xff || version == 0 && parts.next().is_some() {
            return None;
        }
        let (trace_id, span_id) = (hex(trace_id, 32)?, hex(span_id, 16)? as u64);
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, sampled: hex(flags, 2)? & 1 == 1 })
    }

    /// The header.
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// Gives out ids, as good as random, and without a lock (SplitMix64 from a random start).
#[derive(Debug)]
pub struct Ids(AtomicU64);

impl Default for Ids {
    fn default() -> Self {
        Self(AtomicU64::new(RandomState::new().build_hasher().finish()))
    }
}

impl Ids {
    /// A new span's.
    pub fn span(&self) -> u64 {
        let mut bits = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)).max(1)
    }

    /// A new trace's.
    pub fn trace(&self) -> u128 {
        u128::from(self.span()) << 64 | u128::from(self.span())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_the_standard_has_it() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = SpanContext::parse(header).unwrap();
        assert_eq!(context, SpanContext { trace_id: 0x0af7651916cd43dd8448eb211c80319c, span_id: 0xb7ad6b7169203331, sampled: true });
        assert_eq!(context.traceparent(), header);
        assert!(SpanContext::parse(&header.replace("00-", "cc-").replace("-01", "-01-more")).is_some(), "a version to come");
        assert!(!SpanContext::parse(&header.replace("-01", "-02")).unwrap().sampled);
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920é-01",
        ] {
            assert_eq!(SpanContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ids_differ() {
        let ids = Ids::default();
        let given: std::collections::HashSet<_> = (0..10_000).map(|_| ids.span()).collect();
        assert_eq!(given.len(), 10_000);
    }
}
