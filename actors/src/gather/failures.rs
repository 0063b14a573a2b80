//! What is said of sessions, and of frames that do not get into theirs.

use super::core::{NotJoined, SessionKey};
use super::judge::Seat;
use super::rules::{GatherRules, Receivers};
use crate::account::admission::Refused;
use crate::frame::{FrameInfo, ModelId};
use crate::outcome::{Failure, FailureCode, LeftOut, LeftOutReason, SessionSummary, ShedReason};

/// The longest id of a session, bytes: closed ones are remembered.
const LONGEST_ID: usize = 256;

/// The failure of a frame that does not get into its session.
pub(super) fn not_joined(why: NotJoined, key: &SessionKey, source: &str, max_sessions: usize) -> Failure {
    let id = &key.id;
    match why {
        NotJoined::Closed => {
            let message = format!("session {id:?} was closed before this frame came");
            Failure::new(FailureCode::Late, message)
        }
        NotJoined::Repeated => {
            let message = format!("session {id:?} has a frame of source {source:?} already");
            Failure::new(FailureCode::Late, message)
        }
        NotJoined::OtherSize { before, now } => {
            let message =
                format!("`session_size` is {now}, an earlier frame of session {id:?} has said {before}");
            Failure::new(FailureCode::InvalidFrame, message)
        }
        NotJoined::TooSmall { there, now } => {
            let message = format!("`session_size` is {now}, session {id:?} has {there} frames already");
            Failure::new(FailureCode::InvalidFrame, message)
        }
        NotJoined::TooMany => {
            let message = format!("{max_sessions} sessions are open, as many as gather.max_sessions allows");
            Failure::overloaded(ShedReason::Sessions, message)
        }
    }
}

/// The failure of a frame that the version which answers its session does not take.
pub(super) fn not_taken(pinned: &ModelId, key: &SessionKey, why: &str) -> Failure {
    let message =
        format!("session {:?} is answered by {pinned}, to which its first frame went: {why}", key.id);
    Failure::new(FailureCode::InvalidFrame, message)
}

/// The failure of a frame that there is no room for.
pub(super) fn no_room(refused: &Refused, limit: usize) -> Failure {
    match *refused {
        Refused::NeverFits { bytes, .. } => {
            let message = format!("a frame of {bytes} bytes is over gather.max_bytes, {limit}");
            Failure::new(FailureCode::FrameTooLarge, message)
        }
        Refused::Bytes { bytes, in_flight, .. } => {
            let message = format!(
                "{in_flight} of {limit} bytes wait in sessions and this frame has {bytes}; gather.max_bytes"
            );
            Failure::overloaded(ShedReason::SessionBytes, message)
        }
        Refused::Frames { limit } | Refused::Source { limit, .. } => {
            let message = format!("{limit} frames wait in sessions");
            Failure::overloaded(ShedReason::Sessions, message)
        }
    }
}

/// Checks what a frame says of its session; returns the size it states.
pub(super) fn check(
    rules: &GatherRules,
    source: &str,
    info: &FrameInfo,
    size: Option<u64>,
) -> Result<Option<usize>, String> {
    match info.session_id.as_deref() {
        None | Some("") => {
            return Err(
                "the model gathers the frames of a session, and this one has no `session_id`".to_owned()
            );
        }
        Some(id) if id.len() > LONGEST_ID => {
            return Err(format!("`session_id` has {} bytes, must have at most {LONGEST_ID}", id.len()));
        }
        Some(_) => {}
    }
    if let (false, Receivers::Listed(listed)) = (rules.takes(source), &rules.receivers) {
        let most = 16;
        let more =
            if listed.len() > most { format!(" and {} more", listed.len() - most) } else { String::new() };
        let listed = listed[..listed.len().min(most)].join(", ");
        return Err(format!("source {source:?} is none of the model's receivers: {listed}{more}"));
    }
    let slots = rules.slots();
    match size.map(|size| usize::try_from(size).unwrap_or(usize::MAX)) {
        Some(size) if size == 0 || size > slots => {
            let size = if size == usize::MAX { "too large".to_owned() } else { size.to_string() };
            Err(format!("`session_size` is {size}, must be 1 to {slots}, the receivers of the model"))
        }
        size => Ok(size),
    }
}

/// Which receivers of a session are used, in the order of their slots.
pub(super) fn summary(
    id: &str,
    sources: &[&str],
    seats: &[Result<Seat, LeftOutReason>],
    slots: &[usize],
) -> SessionSummary {
    let mut order: Vec<usize> = (0..sources.len()).collect();
    order.sort_by_key(|&at| slots[at]);
    let used = order.iter().filter(|&&at| seats[at].is_ok()).map(|&at| sources[at].to_owned()).collect();
    let left_out = |&at: &usize| {
        let reason = *seats[at].as_ref().err()?;
        Some(LeftOut { source: sources[at].to_owned(), reason })
    };
    SessionSummary {
        id: id.to_owned(),
        size: sources.len(),
        used,
        left_out: order.iter().filter_map(left_out).collect(),
    }
}

/// The failure of the frames of a session with too few receivers.
pub(super) fn too_few(
    rules: &GatherRules,
    summary: &SessionSummary,
    used: usize,
    is_complete: bool,
) -> Failure {
    let SessionSummary { id, size, left_out, .. } = summary;
    let how = match is_complete {
        true => "complete".to_owned(),
        false => format!("over after {} ms", rules.window.as_millis()),
    };
    let out: Vec<_> =
        left_out.iter().map(|out| format!("{} ({})", out.source, out.reason.as_str())).collect();
    let out = if out.is_empty() { String::new() } else { format!("; left out: {}", out.join(", ")) };
    let apart = if used + left_out.len() < *size { " at places of their own" } else { "" };
    let message = format!(
        "session {id:?} is {how} with {size} frames, of {used} usable receivers{apart}; the model \
         needs {}{out}",
        rules.min_receivers
    );
    Failure::new(FailureCode::TooFewReceivers, message)
}
