//! Durations as `"500ms"`, sizes as `"64MiB"`, in both directions without loss; frequencies as `433.92M`.

/// A [`std::time::Duration`] as text with a unit.
pub mod duration {
    use std::fmt;
    use std::time::Duration;

    use humantime_serde::re::humantime;
    pub use humantime_serde::serialize;
    use serde::Deserializer;
    use serde::de::{Error, Unexpected, Visitor};

    /// What can be added to any instant: 100 years of 365.25 days.
    const LONGEST: Duration = Duration::from_secs(3_155_760_000);

    struct DurationText;

    impl Visitor<'_> for DurationText {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration of at most 100 years with its unit, such as \"500ms\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            let duration = humantime::parse_duration(text).ok().filter(|duration| *duration <= LONGEST);
            duration.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    /// Reads a text such as `500ms`.
    ///
    /// # Errors
    /// It is no text, has no unit, is negative or longer than 100 years.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_str(DurationText)
    }
}

/// A number of bytes as text with a unit; a bare number is bytes.
pub mod size {
    use std::fmt;

    use bytesize::ByteSize;
    use serde::de::{Error, Unexpected, Visitor};
    use serde::{Deserializer, Serializer};

    struct SizeText;

    impl Visitor<'_> for SizeText {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size below 16EiB such as \"64MiB\", or a number of bytes")
        }

        fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
            Ok(bytes)
        }

        fn visit_i64<E: Error>(self, bytes: i64) -> Result<u64, E> {
            u64::try_from(bytes).map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            // What is too large is parsed as the largest.
            let size = text.parse().ok().map(|size: ByteSize| size.as_u64()).filter(|size| *size < u64::MAX);
            size.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    /// Reads a text such as `64MiB`, or a number of bytes.
    ///
    /// # Errors
    /// It is neither, or too large.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(SizeText)
    }

    /// Writes it without loss.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(*bytes))
    }

    /// In the largest unit that is exact; `ByteSize` would write one decimal.
    pub fn text(bytes: u64) -> String {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let exact = units.into_iter().find(|&(_, bits)| bytes > 0 && bytes.is_multiple_of(1 << bits));
        exact.map_or_else(|| format!("{bytes}B"), |(unit, bits)| format!("{}{unit}", bytes >> bits))
    }
}

/// Frequencies and sample rates as people write them.
pub mod hertz {
    /// Reads a number of hertz with or without `k`, `M` or `G`, and with or without `Hz` behind it, to the
    /// nearest float64. `None` for what is no finite number.
    ///
    /// ```
    /// use sferic_samples::units::hertz;
    /// assert_eq!(hertz::parse("433.92M"), Some(433_920_000.0));
    /// assert_eq!(hertz::parse("77.5 kHz"), Some(77_500.0));
    /// assert_eq!(hertz::parse("2.4e6"), Some(2_400_000.0));
    /// assert_eq!(hertz::parse("2.4e3k"), None);
    /// ```
    pub fn parse(text: &str) -> Option<f64> {
        let text = text.trim();
        let text = text.strip_suffix("Hz").unwrap_or(text).trim_end();
        let power = match text.as_bytes().last()? {
            b'k' | b'K' => 3,
            b'M' => 6,
            b'G' => 9,
            _ => 0,
        };
        let value = if power == 0 {
            text.parse::<f64>()
        } else {
            // As one decimal number, since 433.92 times a million is not 433920000.
            format!("{}e{power}", text[..text.len() - 1].trim_end()).parse()
        };
        value.ok().filter(|value| value.is_finite())
    }

    #[cfg(test)]
    mod tests {
        use super::parse;

        #[test]
        fn units_are_exact_and_what_is_no_number_is_none() {
            for (text, hertz) in [
                ("1.024M", 1_024_000.0),
                ("1090MHz", 1.09e9),
                ("250K", 250e3),
                ("2.4 GHz", 2.4e9),
                ("-30k", -30e3),
                ("48000", 48e3),
                ("0", 0.0),
            ] {
                assert_eq!(parse(text), Some(hertz), "{text}");
            }
            for text in ["", "M", "Hz", "2.4m", "1e5M", "nan", "inf", "1,5M", "0x1M", "1MM", "infk"] {
                assert_eq!(parse(text), None, "{text}");
            }
        }
    }
}
