//! SigMF sample datatypes.

use std::fmt;
use std::str::FromStr;

/// How one I or Q component is stored; the names are SigMF's `core:datatype`.
///
/// Integers are scaled to ±1 full scale: `ci32 / 2^31`, `ci16 / 32768`, `ci8 / 128`, `(cu16 - 32767.5) /
/// 32767.5`, `(cu8 - 127.5) / 127.5`. `cf64_le` is narrowed to float32. One byte has no order: `ci8_le` and
/// `ci8_be` parse as `ci8`, `cu8_le` and `cu8_be` as `cu8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Datatype {
    /// `cf32_le`: little-endian float32.
    Cf32Le,
    /// `cf32_be`: big-endian float32.
    Cf32Be,
    /// `cf64_le`: little-endian float64.
    Cf64Le,
    /// `ci32_le`: little-endian signed 32-bit.
    Ci32Le,
    /// `ci16_le`: little-endian signed 16-bit.
    Ci16Le,
    /// `ci16_be`: big-endian signed 16-bit.
    Ci16Be,
    /// `cu16_le`: little-endian unsigned 16-bit.
    Cu16Le,
    /// `ci8`: signed 8-bit.
    Ci8,
    /// `cu8`: unsigned 8-bit.
    Cu8,
}

impl Datatype {
    /// Every supported datatype.
    pub const ALL: [Self; 9] = [
        Self::Cf32Le,
        Self::Cf32Be,
        Self::Cf64Le,
        Self::Ci32Le,
        Self::Ci16Le,
        Self::Ci16Be,
        Self::Cu16Le,
        Self::Ci8,
        Self::Cu8,
    ];

    /// SigMF's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cf32Le => "cf32_le",
            Self::Cf32Be => "cf32_be",
            Self::Cf64Le => "cf64_le",
            Self::Ci32Le => "ci32_le",
            Self::Ci16Le => "ci16_le",
            Self::Ci16Be => "ci16_be",
            Self::Cu16Le => "cu16_le",
            Self::Ci8 => "ci8",
            Self::Cu8 => "cu8",
        }
    }

    /// Bytes of one I or one Q.
    pub const fn bytes_per_component(self) -> usize {
        match self {
            Self::Cf64Le => 8,
            Self::Cf32Le | Self::Cf32Be | Self::Ci32Le => 4,
            Self::Ci16Le | Self::Ci16Be | Self::Cu16Le => 2,
            Self::Ci8 | Self::Cu8 => 1,
        }
    }

    /// Bytes of one I and Q of one channel.
    pub const fn bytes_per_sample(self) -> usize {
        2 * self.bytes_per_component()
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A datatype name outside the list (`unsupported_datatype`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsupported datatype {0:?}, supported: {all}", all = Datatype::ALL.map(Datatype::name).join(", "))]
pub struct UnknownDatatype(pub String);

impl FromStr for Datatype {
    type Err = UnknownDatatype;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = match name {
            "ci8_le" | "ci8_be" => Some(Self::Ci8),
            "cu8_le" | "cu8_be" => Some(Self::Cu8),
            _ => Self::ALL.into_iter().find(|datatype| datatype.name() == name),
        };
        known.ok_or_else(|| UnknownDatatype(name.chars().take(32).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_a_wrong_one_gets_the_list() {
        for datatype in Datatype::ALL {
            assert_eq!(datatype.to_string().parse(), Ok(datatype));
        }
        let message = "ci32_be".parse::<Datatype>().unwrap_err().to_string();
        assert!(message.contains("\"ci32_be\""), "{message}");
        for datatype in Datatype::ALL {
            assert!(message.contains(datatype.name()), "{message}");
        }
    }

    #[test]
    fn one_byte_has_no_order() {
        for order in ["_le", "_be"] {
            assert_eq!(format!("ci8{order}").parse(), Ok(Datatype::Ci8));
            assert_eq!(format!("cu8{order}").parse(), Ok(Datatype::Cu8));
        }
        for wrong in ["ci8_", "cu8_me", "ci16", "_le", ""] {
            wrong.parse::<Datatype>().unwrap_err();
        }
    }
}
