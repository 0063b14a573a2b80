//! JSON and MessagePack: what a call is written in, and what its answer shall be.

use axum::http::{HeaderMap, StatusCode, header};
use sferic_actors::frame::Encoding;
use sferic_wire as wire;

use super::errors::Refusal;

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::MessagePack];

/// The encoding of a request's body; without a content type it is JSON.
pub(super) fn of_body(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    check_uncompressed(headers)?;
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, second) = (given.next(), given.next());
    let Some(value) = first else { return Ok(Encoding::Json) };
    let text = value.to_str().ok().filter(|_| second.is_none());
    let media_type = text.and_then(|text| text.split(';').next()).map(str::trim).unwrap_or_default();
    BOTH.into_iter()
        .find(|encoding| media_type.eq_ignore_ascii_case(wire::content_type(*encoding)))
        .ok_or_else(|| {
            let shown = String::from_utf8_lossy(value.as_bytes());
            let shown = wire::shortened(&shown, 100);
            Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                format!("the content type is {shown:?}, must be application/json or application/msgpack"),
            )
        })
}

/// Bodies are not unpacked: a small one could become a very large one.
pub(super) fn check_uncompressed(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(coding) = codings.find(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) else {
        return Ok(());
    };
    let shown = String::from_utf8_lossy(coding.as_bytes());
    let message = format!("the content encoding is {:?}, must be none", wire::shortened(&shown, 100));
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

/// The encoding of the answer: the one that `Accept` prefers, else that of the request.
pub(super) fn of_answer(headers: &HeaderMap, of_body: Encoding) -> Encoding {
    let accepted: Vec<_> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let weight = |encoding: Encoding| {
        let ranges = accepted.iter().flat_map(|text| text.split(','));
        ranges
            .filter_map(|range| matched(range, wire::content_type(encoding)))
            .max_by(|a, b| a.0.cmp(&b.0))
            .map_or(if accepted.is_empty() { 1.0 } else { 0.0 }, |(_, weight)| weight)
    };
    let other = if of_body == Encoding::Json { Encoding::MessagePack } else { Encoding::Json };
    if weight(other) > weight(of_body) { other } else { of_body }
}

/// How exactly a range of media types matches, and its weight; `None` where it does not.
fn matched(range: &str, media_type: &str) -> Option<(u8, f64)> {
    let mut parts = range.split(';').map(str::trim);
    let exactness = match parts.next()? {
        "*/*" => 0,
        "application/*" => 1,
        named if named.eq_ignore_ascii_case(media_type) => 2,
        _ => return None,
    };
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    Some((exactness, weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0))))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with(name: header::HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn two_content_types_are_read_and_none_is_json() {
        let read = |values: &[&'static str]| of_body(&with(header::CONTENT_TYPE, values)).ok();
        assert_eq!(read(&[]), Some(Encoding::Json));
        assert_eq!(read(&["application/json; charset=utf-8"]), Some(Encoding::Json));
        assert_eq!(read(&["Application/MsgPack"]), Some(Encoding::MessagePack));
        for refused in [
            &["text/plain"][..],
            &["application/x-www-form-urlencoded"],
            &["multipart/form-data; boundary=application/json"],
            &["application/jsonp"],
            &[""],
            &["text/plain; application/json"],
            &["application/json", "text/plain"],
        ] {
            assert_eq!(read(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn a_body_is_not_compressed() {
        let mut headers = with(header::CONTENT_ENCODING, &["identity"]);
        assert!(of_body(&headers).is_ok());
        headers.append(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let refusal = of_body(&headers).unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.message.contains("gzip")), (415, true));
    }

    #[test]
    fn the_answer_is_what_is_preferred_and_else_as_the_request() {
        let answer = |values: &[&'static str], of_body| of_answer(&with(header::ACCEPT, values), of_body);
        for of_body in BOTH {
            for neither in
                [&[][..], &["*/*"], &["text/html"], &["application/json;q=0.5, application/msgpack;q=0.5"]]
            {
                assert_eq!(answer(neither, of_body), of_body, "{neither:?}");
            }
            assert_eq!(answer(&["application/json"], of_body), Encoding::Json);
            assert_eq!(
                answer(&["text/html", "application/msgpack, */*;q=0.1"], of_body),
                Encoding::MessagePack
            );
            assert_eq!(answer(&["application/msgpack;q=0, */*"], of_body), Encoding::Json);
        }
    }
}
