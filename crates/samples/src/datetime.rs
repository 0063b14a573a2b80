//! Times as text: RFC 3339, read from frames and from recordings.

use jiff::{SignedDuration, Timestamp};

/// Where the seconds of `2016-12-31T23:59:60.5Z` end.
const SECONDS_END: usize = 19;

/// In seconds.
const DAY: i64 = 86_400;

/// A point and as many fraction digits as a nanosecond has.
const FRACTION: usize = 10;

/// Reads an RFC 3339 time with its offset. The fraction may have any number of digits and is cut to
/// nanoseconds; second 60, a leap second at the end of a day of UTC, is the first one of the next day, as
/// Unix time counts. `None` for text that is no such time.
pub fn parse(text: &str) -> Option<Timestamp> {
    let is_leap = matches!(
        text.as_bytes(),
        [_, _, _, _, b'-', _, _, b'-', _, _, _, _, _, b':', _, _, b':', b'6', b'0', ..]
    );
    match text.parse() {
        Ok(time) if !is_leap => return Some(time),
        _ => {}
    }
    let (whole, rest) = text.split_at_checked(SECONDS_END)?;
    let point = rest.starts_with(['.', ',']);
    let digits = rest.bytes().skip(1).take_while(u8::is_ascii_digit).count();
    let (fraction, offset) = rest.split_at(if point { 1 + digits } else { 0 });
    let fraction = &fraction[..fraction.len().min(FRACTION)];
    if !is_leap {
        return format!("{whole}{fraction}{offset}").parse().ok();
    }
    let before = format!("{}59{fraction}{offset}", &whole[..SECONDS_END - 2]);
    let time = before.parse::<Timestamp>().ok()?.checked_add(SignedDuration::from_secs(1)).ok()?;
    (time.as_second().rem_euclid(DAY) == 0).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_to_nanoseconds() {
        for (text, expected) in [
            ("2020-08-13T06:52:20Z", "2020-08-13T06:52:20Z"),
            ("2020-08-13T06:52:20.25+02:00", "2020-08-13T04:52:20.25Z"),
            ("2020-08-13T06:52:20.987654321Z", "2020-08-13T06:52:20.987654321Z"),
            ("2020-08-13T06:52:20.9876543219Z", "2020-08-13T06:52:20.987654321Z"),
            ("2020-08-13T06:52:20.99999999999999999999999-01:30", "2020-08-13T08:22:20.999999999Z"),
            ("1969-12-31T23:59:59.123456789123Z", "1969-12-31T23:59:59.123456789Z"),
        ] {
            assert_eq!(parse(text).map(|time| time.to_string()).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_leap_second_is_the_first_of_the_next_day() {
        for (text, expected) in [
            ("2015-06-30T23:59:60Z", "2015-07-01T00:00:00Z"),
            ("2015-06-30T23:59:60.75Z", "2015-07-01T00:00:00.75Z"),
            ("2015-07-01T01:59:60.1234567891+02:00", "2015-07-01T00:00:00.123456789Z"),
        ] {
            assert_eq!(parse(text).map(|time| time.to_string()).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_time_is_none() {
        for text in [
            "",
            "1597301540",
            "2020-08-13T06:52:20",
            "2020-08-13T06:52:20.1234567890",
            "2020-08-13T06:52:61Z",
            "2020-13-13T06:52:60Z",
            "2020-08-13T06:52:60Z",
            "2015-06-30T23:59:60+02:00",
            "2020-08-13T06:52:20.Z",
            "2020-08-13T06:52:20.12345678901xZ",
            "2020-08-13T06:52:2é.123456789012Z",
            "9999-12-31T23:59:60Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
