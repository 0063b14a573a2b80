//! Values that several sections share.

/// The CPU cores this process may use, at least 1.
///
/// The standard library counts what the process is allowed, not what the host has: on Linux the scheduler's
/// affinity mask and the CPU quota of cgroup v1 or v2, so a container limited to two cores gets two.
pub fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// A count, or `"auto"` for one that follows the machine: `None`.
pub mod count_or_auto {
    use std::fmt;

    use serde::de::{Error, Unexpected, Visitor};
    use serde::{Deserializer, Serializer};

    const AUTO: &str = "auto";

    struct CountOrAuto;

    impl Visitor<'_> for CountOrAuto {
        type Value = Option<usize>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a count from 0, or \"{AUTO}\"")
        }

        fn visit_u64<E: Error>(self, count: u64) -> Result<Option<usize>, E> {
            let invalid = |_| E::invalid_value(Unexpected::Unsigned(count), &self);
            usize::try_from(count).map(Some).map_err(invalid)
        }

        fn visit_i64<E: Error>(self, count: i64) -> Result<Option<usize>, E> {
            let invalid = |_| E::invalid_value(Unexpected::Signed(count), &self);
            usize::try_from(count).map(Some).map_err(invalid)
        }

        /// From a variable of the environment, every value is text.
        fn visit_str<E: Error>(self, text: &str) -> Result<Option<usize>, E> {
            match text {
                AUTO => Ok(None),
                _ => text.parse().map(Some).map_err(|_| E::invalid_value(Unexpected::Str(text), &self)),
            }
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_any(CountOrAuto)
    }

    #[allow(clippy::ref_option)] // serde's signature
    pub fn serialize<S: Serializer>(count: &Option<usize>, serializer: S) -> Result<S::Ok, S::Error> {
        match *count {
            Some(count) => serializer.serialize_u64(count as u64),
            None => serializer.serialize_str(AUTO),
        }
    }
}

/// An optional text: empty means not given.
pub fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
