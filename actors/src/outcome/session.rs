//! The session that a frame was answered with.

use serde::Serialize;

/// A closed session: which of its receivers the answer used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionSummary {
    /// Its id.
    pub id: String,
    /// Frames in it.
    pub size: usize,
    /// The sources whose frames the model got, in the order of their slots.
    pub used: Vec<String>,
    /// The others, which stand masked.
    pub left_out: Vec<LeftOut>,
}

impl SessionSummary {
    /// The same without these.
    pub fn without(&self, left_out: &[LeftOut]) -> Self {
        let is_out = |source: &String| left_out.iter().any(|out| out.source == *source);
        Self {
            used: self.used.iter().filter(|source| !is_out(source)).cloned().collect(),
            left_out: self.left_out.iter().chain(left_out).cloned().collect(),
            ..self.clone()
        }
    }
}

/// A source whose frame was in the session but not in its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Which one.
    pub source: String,
    /// Why.
    pub reason: LeftOutReason,
}

/// Why a receiver is left out of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOutReason {
    /// Nobody knows where it is.
    NoPlace,
    /// It says a place where it cannot have come to.
    PlaceJumped,
    /// By an emitter of known place its clock has jumped.
    ClockJumped,
    /// Its arrival time differs from another's by more than the distance between them takes.
    ArrivalImplausible,
    /// Its samples were taken at another time than those of the others.
    NoOverlap,
    /// Its samples have another rate than those of the others.
    OtherRate,
    /// Without it the others agree.
    Inconsistent,
}

impl LeftOutReason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::NoPlace,
        Self::PlaceJumped,
        Self::ClockJumped,
        Self::ArrivalImplausible,
        Self::NoOverlap,
        Self::OtherRate,
        Self::Inconsistent,
    ];

    /// The reason as it is published, and as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoPlace => "no_place",
            Self::PlaceJumped => "place_jumped",
            Self::ClockJumped => "clock_jumped",
            Self::ArrivalImplausible => "arrival_implausible",
            Self::NoOverlap => "no_overlap",
            Self::OtherRate => "other_rate",
            Self::Inconsistent => "inconsistent",
        }
    }
}
