//! What a viewer wants to see.

use std::fmt;

use crate::source_pattern::{is_pattern, matches};

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A frame has ended.
    Outcome,
    /// A spectrum of a frame.
    Waterfall,
    /// How the daemon is.
    Health,
    /// The models in service.
    Models,
    /// This viewer was too slow.
    Dropped,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Outcome, Self::Waterfall, Self::Health, Self::Models, Self::Dropped];

    /// The kind as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Outcome => "outcome",
            Self::Waterfall => "waterfall",
            Self::Health => "health",
            Self::Models => "models",
            Self::Dropped => "dropped",
        }
    }
}

/// What a viewer wants to see.
#[derive(Clone, Debug, PartialEq)]
pub struct Interest {
    kinds: Vec<Kind>,
    /// Outcomes and spectra of these sources alone, with the wildcards of NATS.
    source: Option<String>,
    /// Spectra of these sources, too.
    waterfall: Option<String>,
}

/// A query that means nothing.
#[derive(Debug, PartialEq)]
pub struct InvalidInterest(String);

impl fmt::Display for InvalidInterest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Interest {
    /// Reads the parameters `types`, kinds with commas between them (all but `waterfall` where it is absent),
    /// `source`, and `waterfall`, sources whose spectra are wanted whatever the others say.
    ///
    /// # Errors
    /// An unknown kind, or a source that is none.
    pub fn read(
        types: Option<&str>,
        source: Option<&str>,
        waterfall: Option<&str>,
    ) -> Result<Self, InvalidInterest> {
        let kind = |name: &str| {
            Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
                let all: Vec<_> = Kind::ALL.into_iter().map(Kind::name).collect();
                let name = sferic_wire::shortened(name, 64);
                InvalidInterest(format!("`types` has {name:?}, must be of {}", all.join(", ")))
            })
        };
        let kinds = match types {
            Some(types) => types.split(',').map(|name| kind(name.trim())).collect::<Result<_, _>>()?,
            None => Kind::ALL.into_iter().filter(|kind| *kind != Kind::Waterfall).collect(),
        };
        for (key, source) in [("source", source), ("waterfall", waterfall)] {
            if let Some(source) = source.filter(|source| !is_pattern(source)) {
                let source = sferic_wire::shortened(source, 100);
                return Err(InvalidInterest(format!(
                    "`{key}` is {source:?}, must be tokens with single dots between them, `*` for one, `>` \
                     for the rest"
                )));
            }
        }
        Ok(Self { kinds, source: source.map(str::to_owned), waterfall: waterfall.map(str::to_owned) })
    }

    /// Whether events of this kind are wanted.
    pub fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Whether an event is wanted, which may be of a source.
    pub fn takes(&self, kind: Kind, source: Option<&str>) -> bool {
        let is_of_source = match (&self.source, source) {
            (Some(pattern), Some(source)) => matches(pattern, source),
            _ => true,
        };
        let is_watched = || {
            kind == Kind::Waterfall
                && self
                    .waterfall
                    .as_deref()
                    .zip(source)
                    .is_some_and(|(pattern, source)| matches(pattern, source))
        };
        is_of_source && self.has(kind) || is_watched()
    }

    /// Whether spectra of any source are wanted.
    pub fn has_spectra(&self) -> bool {
        self.has(Kind::Waterfall) || self.waterfall.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_waterfall_are_wanted_where_nothing_is_said() {
        let interest = Interest::read(None, None, None).unwrap();
        let wanted: Vec<_> = Kind::ALL.into_iter().filter(|kind| interest.has(*kind)).collect();
        assert_eq!(wanted, [Kind::Outcome, Kind::Health, Kind::Models, Kind::Dropped]);
        let interest = Interest::read(Some("waterfall, outcome"), Some("north.*"), None).unwrap();
        assert!(interest.takes(Kind::Waterfall, Some("north.rx2")) && interest.has(Kind::Outcome));
        assert!(!interest.takes(Kind::Outcome, Some("south.rx2")) && !interest.takes(Kind::Health, None));
        // Spectra of one source beside everything else.
        let interest = Interest::read(None, None, Some("north.rx2")).unwrap();
        assert!(interest.has_spectra() && interest.takes(Kind::Waterfall, Some("north.rx2")));
        assert!(!interest.takes(Kind::Waterfall, Some("south.rx2")));
        assert!(interest.takes(Kind::Outcome, Some("south.rx2")));
    }

    #[test]
    fn a_query_that_means_nothing_says_what_may_be() {
        let error = Interest::read(Some("outcome,helth"), None, None).unwrap_err().to_string();
        assert!(error.contains("\"helth\"") && error.contains("outcome, waterfall, health"), "{error}");
        for source in ["", "a..b", ">.a", "a b"] {
            assert!(Interest::read(None, Some(source), None).is_err(), "{source}");
            assert!(Interest::read(None, None, Some(source)).is_err(), "{source}");
        }
    }
}
