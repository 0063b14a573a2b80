//! Times as they are echoed.

use sferic_samples::datetime;

/// Where the fraction of `2016-12-31T23:59:60.123456789Z` begins.
const FRACTION: usize = 20;

/// Where its nanoseconds end.
const NANOSECONDS: usize = FRACTION + 9;

/// A time that is finer than nanoseconds is cut to them, so that its echo is one for every reader; all else
/// stays as it is.
pub fn to_nanoseconds(mut text: String) -> String {
    let digits = text.bytes().skip(FRACTION).take_while(u8::is_ascii_digit).count();
    if FRACTION + digits > NANOSECONDS && datetime::parse(&text).is_some() {
        text.drain(NANOSECONDS..FRACTION + digits);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_time_is_cut_and_only_behind_its_nanoseconds() {
        for (text, expected) in [
            ("2031-02-03T04:05:06.1234567891Z", "2031-02-03T04:05:06.123456789Z"),
            ("2031-02-03T04:05:06.000000000000000001+01:00", "2031-02-03T04:05:06.000000000+01:00"),
            ("2031-02-03T04:05:06.123456789Z", "2031-02-03T04:05:06.123456789Z"),
            ("2031-02-03T04:05:06Z", "2031-02-03T04:05:06Z"),
            ("2031-02-03T04:05:06.1234567891", "2031-02-03T04:05:06.1234567891"),
            ("about half past four and 12345678901234", "about half past four and 12345678901234"),
            ("", ""),
        ] {
            assert_eq!(to_nanoseconds(text.to_owned()), expected);
        }
    }

    proptest! {
        #[test]
        fn the_echo_is_the_same_time(
            digits in "[0-9]{1,40}",
            offset in prop::sample::select(vec!["Z", "+05:30", "-00:15"]),
        ) {
            let text = format!("2031-02-03T04:05:06.{digits}{offset}");
            let echo = to_nanoseconds(text.clone());
            prop_assert!(echo.len() <= 35);
            prop_assert_eq!(echo.parse::<jiff::Timestamp>().ok(), datetime::parse(&text));
            prop_assert!(datetime::parse(&text).is_some());
        }

        #[test]
        fn nothing_else_is_touched(text in ".{0,60}") {
            prop_assume!(datetime::parse(&text).is_none());
            prop_assert_eq!(to_nanoseconds(text.clone()), text);
        }
    }
}
