//! Outcomes and messages of bounded length.

use std::borrow::Cow;

use sferic_actors::frame::{FrameInfo, TraceHeaders};
use sferic_actors::outcome::{Failure, FailureCode, Outcome};

use super::EncodeError;

/// Maximum length of the echoes of an outcome that is too large, bytes; tried in turn.
const ECHOES: [usize; 4] = [usize::MAX, 256, 64, 0];

/// Returns the message that `make` creates from an outcome. An outcome whose message exceeds the `limit` of
/// the server becomes a failure with both sizes, and its echoes are cut as far as needed.
///
/// # Errors
/// Those of `make`.
pub fn within<T>(
    outcome: &mut Outcome,
    limit: usize,
    make: impl Fn(&Outcome) -> Result<(T, usize), EncodeError>,
) -> Result<T, EncodeError> {
    let (mut message, mut size) = make(outcome)?;
    if size <= limit {
        return Ok(message);
    }
    outcome.result = Err(too_large(outcome.result.as_ref().err(), size, limit));
    for bound in ECHOES {
        cut_echoes(&mut outcome.info, &mut outcome.envelope.trace, bound);
        (message, size) = make(outcome)?;
        if size <= limit {
            break;
        }
    }
    Ok(message)
}

fn too_large(failure: Option<&Failure>, size: usize, limit: usize) -> Failure {
    let what =
        failure.map_or("prediction".to_owned(), |failure| format!("failure ({})", failure.code.as_str()));
    let message = format!(
        "the {what} has {size} bytes with its headers and echoes, over the server's max_payload of {limit}"
    );
    Failure::new(FailureCode::Internal, message)
}

/// Shortens the session id, and drops longer fields that mean nothing in part.
fn cut_echoes(info: &mut FrameInfo, trace: &mut TraceHeaders, bound: usize) {
    if bound == 0 {
        info.session_id = None;
    } else if let Some(session) = &mut info.session_id {
        *session = shortened(session, bound).into_owned();
    }
    for text in [&mut info.datetime, &mut trace.traceparent, &mut trace.tracestate, &mut trace.baggage] {
        text.take_if(|text| text.len() > bound);
    }
}

/// A text of at most this many bytes; a cut is marked by `…`.
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        text.into()
    } else {
        format!("{}…", &text[..text.floor_char_boundary(most)]).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_only_where_it_is_long() {
        for (text, most, expected) in
            [("abc", 3, "abc"), ("abcd", 3, "abc…"), ("a☃b", 3, "a…"), ("☃", 2, "…")]
        {
            assert_eq!(shortened(text, most), expected);
        }
    }

    #[test]
    fn echoes_shrink_until_none_is_left() {
        let text = |length| Some("x".repeat(length));
        let mut info = FrameInfo {
            frame_id: "f".repeat(256),
            session_id: text(1000),
            datetime: text(20),
            ..FrameInfo::default()
        };
        let mut trace = TraceHeaders { traceparent: text(55), tracestate: text(300), baggage: text(100) };
        let lengths = [usize::MAX, 256, 64, 0].map(|bound| {
            cut_echoes(&mut info, &mut trace, bound);
            let texts =
                [&info.session_id, &info.datetime, &trace.traceparent, &trace.tracestate, &trace.baggage];
            texts.map(|text| text.as_ref().map(|text| text.chars().count()))
        });
        let [whole, cut, short, none] = lengths;
        assert_eq!(whole, [Some(1000), Some(20), Some(55), Some(300), Some(100)]);
        assert_eq!(cut, [Some(257), Some(20), Some(55), None, Some(100)]);
        assert_eq!(short, [Some(65), Some(20), Some(55), None, None]);
        assert_eq!(none, [None; 5]);
        assert_eq!(info.frame_id.len(), 256, "what the sender knows its frame by stays");
    }

    #[test]
    fn the_failure_states_both_sizes_and_what_it_would_have_been() {
        let failure = Failure::new(FailureCode::InvalidFrame, "…");
        let failure = too_large(Some(&failure), 2000, 1024);
        assert_eq!(failure.code, FailureCode::Internal);
        for part in ["failure (invalid_frame)", "2000", "max_payload of 1024"] {
            assert!(failure.message.contains(part), "{}", failure.message);
        }
        assert!(too_large(None, 2000, 1024).message.contains("the prediction has"));
    }
}
