//! What a file's name says beside its datatype: sample rate, centre frequency and start, where it can mean
//! nothing else.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sferic_samples::Datatype;

use super::files::{extension, stem};

/// Above every known receiver's sample rate, Hz: a number over it is no rate and no bandwidth.
const OVER_ANY_RATE: f64 = 250e6;

/// A centre frequency is this many times the rate beside it at least; bit rates and bandwidths are nearer to
/// it.
const CENTRE_OVER_RATE: f64 = 4.0;

/// A number in `k` from here on is a rate: bandwidths this wide are written in `M`.
const RATE_IN_K: f64 = 1e6;

/// What a name says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hints {
    /// How the samples are stored, where the name's form says it.
    pub datatype: Option<Datatype>,
    /// Samples per second, Hz.
    pub sample_rate: Option<f64>,
    /// Centre frequency, Hz.
    pub frequency: Option<f64>,
    /// There are numbers with units, and none could be taken.
    pub is_ambiguous: bool,
}

/// Reads a name such as `name_433.92M_250k.cu8`; `rate` is the sample rate where it is known, Hz. A number
/// may be a centre frequency, a rate, a bandwidth, a bit rate or a standard, so only what has no other
/// reading is taken, and only numbers with a unit (`k`, `M`, `G`, with or without `Hz`, or `Sps` for a rate)
/// between underscores, hyphens or spaces:
///
/// - the form of gqrx, `gqrx_<date>_<time>_<centre>_<rate>_fc.raw`, has both;
/// - the one number in samples per second is the rate;
/// - of two others side by side, the first one many times as large, the first is the centre and the second
///   the rate;
/// - a number alone is the centre frequency where it is above the rate, or above any rate where that is not
///   known: one in Hz, or one in `M` or `G` with a fraction (whole ones are bands);
/// - the one number in `k` is the rate where it is a thousand or more.
///
/// What stands beside `bw`, standards as `802.11` and generations as `4G` are none of these.
pub fn of(path: &Path, rate: Option<f64>) -> Hints {
    let stem = stem(path).to_string_lossy();
    if let Some(hints) = gqrx(&stem, &extension(path)) {
        return hints;
    }
    let numbers = numbers(&stem);
    let stated = only(numbers.iter().filter(|number| number.unit == Unit::Rate).map(|number| number.value));
    let rate = rate.or(stated);
    let others: Vec<_> =
        numbers.iter().filter(|number| number.unit != Unit::Rate && Some(number.value) != rate).collect();
    let (sample_rate, frequency) = match others.as_slice() {
        [centre, second] if centre.is_centre_of(second) => (Some(second.value), Some(centre.value)),
        [one] if one.is_centre_alone(rate) => (None, Some(one.value)),
        [_] | [_, _] => {
            let in_k =
                only(others.iter().filter(|number| number.unit == Unit::Kilo).map(|number| number.value));
            (in_k.filter(|rate| *rate >= RATE_IN_K), None)
        }
        _ => (None, None),
    };
    let sample_rate = stated.or(sample_rate);
    Hints {
        datatype: None,
        sample_rate,
        frequency,
        is_ambiguous: !numbers.is_empty() && sample_rate.is_none() && frequency.is_none(),
    }
}

/// The one number in Hz in the name of a file whose rate is known, Hz; that itself does not count.
pub fn centre_in_hertz(path: &Path, rate: f64) -> Option<f64> {
    let numbers = numbers(&stem(path).to_string_lossy());
    only(
        numbers
            .iter()
            .filter(|number| number.unit == Unit::Hertz && number.value != rate)
            .map(|number| number.value),
    )
}

/// When a recording began by its name: `20240229_235959Z` as SDR#, HDSDR and SDRuno write it,
/// `20240229T235959Z` as KiwiSDR's recorder does, and gqrx's own form. The `Z` is what says UTC: SDR++ and
/// others write local time, of a zone that nobody knows.
pub fn start(path: &Path) -> Option<Timestamp> {
    let stem = stem(path).to_string_lossy();
    let tokens: Vec<&str> = stem.split('_').collect();
    if let ["gqrx", date, time, ..] = tokens.as_slice() {
        return utc(date, time);
    }
    let joined = tokens.iter().find_map(|token| token.strip_suffix('Z')?.split_once('T'));
    let apart = || tokens.windows(2).find_map(|pair| Some((pair[0], pair[1].strip_suffix('Z')?)));
    let (date, time) = joined.or_else(apart)?;
    utc(date, time)
}

/// `20240229` and `235959` as a time in UTC.
fn utc(date: &str, time: &str) -> Option<Timestamp> {
    if date.len() != 8 || time.len() != 6 || !date.bytes().chain(time.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let two = |text: &str, at: usize| text[at..at + 2].parse::<i8>().ok();
    let civil = DateTime::new(
        date[..4].parse().ok()?,
        two(date, 4)?,
        two(date, 6)?,
        two(time, 0)?,
        two(time, 2)?,
        two(time, 4)?,
        0,
    );
    Some(civil.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Start and centre frequency, Hz, of a file that KiwiSDR's recorder has named:
/// `20200813T065220Z_77500_<station>_iq.wav`.
pub fn kiwi_recorder(path: &Path) -> Option<(Timestamp, f64)> {
    let stem = stem(path).to_string_lossy();
    let mut tokens = stem.split('_');
    let (date, time) = tokens.next()?.strip_suffix('Z')?.split_once('T')?;
    let centre = tokens.next().filter(|token| token.bytes().all(|byte| byte.is_ascii_digit()))?;
    tokens.next()?;
    Some((utc(date, time)?, centre.parse().ok().filter(|centre| *centre > 0.0)?))
}

/// Says what was taken of a name: each thing with its value, Hz, and the start. `None` where nothing was.
pub fn taken(path: &Path, values: &[(&str, Option<f64>)], start: Option<Timestamp>) -> Option<String> {
    let mut values: Vec<_> =
        values.iter().filter_map(|(what, value)| Some(format!("{what} {} Hz", (*value)?))).collect();
    values.extend(start.map(|start| format!("start {start}")));
    (!values.is_empty()).then(|| format!("{}: taken from its name: {}", path.display(), values.join(", ")))
}

/// `gqrx_20240229_235959_145500000_1800000_fc.raw`.
fn gqrx(stem: &str, extension: &str) -> Option<Hints> {
    let parts: Vec<&str> = stem.split('_').collect();
    let ["gqrx", _date, _time, centre, rate, "fc"] = parts.as_slice() else { return None };
    let positive = |text: &str| text.parse::<u64>().ok().filter(|value| *value > 0).map(|value| value as f64);
    let (sample_rate, frequency) = (Some(positive(rate)?), Some(positive(centre)?));
    (extension == "raw").then_some(Hints {
        datatype: Some(Datatype::Cf32Le),
        sample_rate,
        frequency,
        is_ambiguous: false,
    })
}

fn only(mut values: impl Iterator<Item = f64>) -> Option<f64> {
    values.next().filter(|_| values.next().is_none())
}

/// The numbers with units of a name; not those that say a bandwidth or a standard.
fn numbers(stem: &str) -> Vec<Quantity> {
    let tokens: Vec<&str> = stem.split(['_', '-', ' ']).collect();
    let is_bandwidth = |token: Option<&&str>| {
        token.is_some_and(|token| matches!(token.to_ascii_lowercase().as_str(), "bw" | "bandwidth"))
    };
    let quantities: Vec<_> =
        tokens.iter().enumerate().map(|(place, token)| Quantity::read(token, place)).collect();
    let is_free = |number: &Quantity| {
        let before = number.place.checked_sub(1).and_then(|place| tokens.get(place));
        let after = tokens.get(number.place + 1);
        // The word belongs to the number after it, where there is one.
        let names_the_next = || quantities.get(number.place + 2).is_some_and(Option::is_some);
        !is_bandwidth(before) && (!is_bandwidth(after) || names_the_next())
    };
    quantities.iter().flatten().copied().filter(is_free).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Kilo,
    Mega,
    Giga,
    /// A frequency or a bandwidth.
    Hertz,
    /// Samples per second.
    Rate,
}

/// A number with its unit.
#[derive(Clone, Copy)]
struct Quantity {
    /// Hz, or samples per second.
    value: f64,
    unit: Unit,
    /// As it is written, without the unit.
    has_fraction: bool,
    is_standard: bool,
    /// Which part of the name it is.
    place: usize,
}

impl Quantity {
    /// A positive decimal number with its unit, such as `433.92M`, `250k`, `868.3MHz`, `2.4Msps`; no
    /// `802.11…`.
    fn read(token: &str, place: usize) -> Option<Self> {
        let digits = token.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = token.split_at(digits);
        let written =
            number.parse::<f64>().ok().filter(|value| *value > 0.0 && !number.starts_with("802."))?;
        let (prefix, rest) = match unit.split_at_checked(1)? {
            ("k" | "K", rest) => (Some((1e3, Unit::Kilo)), rest),
            ("M", rest) => (Some((1e6, Unit::Mega)), rest),
            ("G", rest) => (Some((1e9, Unit::Giga)), rest),
            _ => (None, unit),
        };
        let factor = prefix.map_or(1.0, |(factor, _)| factor);
        let unit = match rest.to_ascii_lowercase().as_str() {
            "" => prefix?.1,
            "hz" => Unit::Hertz,
            "sps" | "s" if prefix.is_some() || rest.len() > 1 => Unit::Rate,
            _ => return None,
        };
        // Generations, and the bands that are called so.
        let is_standard = unit == Unit::Giga
            && (written.fract() == 0.0 && written < 10.0 || [2.4, 2.5, 3.5, 5.8].contains(&written));
        // 868.3 times a million is not a whole number of hertz.
        let value = (written * factor * 1e3).round() / 1e3;
        Some(Self { value, unit, has_fraction: written.fract() != 0.0, is_standard, place })
    }

    /// Whether it is the centre frequency and `second`, beside it, the rate.
    fn is_centre_of(&self, second: &Self) -> bool {
        let is_beside = second.place == self.place + 1 && second.unit != Unit::Hertz;
        is_beside && !self.is_standard && self.value > CENTRE_OVER_RATE * second.value
    }

    fn is_centre_alone(&self, rate: Option<f64>) -> bool {
        let is_frequency = match self.unit {
            Unit::Hertz => true,
            Unit::Mega | Unit::Giga => self.has_fraction && !self.is_standard,
            Unit::Kilo | Unit::Rate => false,
        };
        is_frequency && self.value > rate.unwrap_or(OVER_ANY_RATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, rate: Option<f64>) -> (Option<f64>, Option<f64>) {
        let Hints { sample_rate, frequency, .. } = of(Path::new(name), rate);
        (sample_rate, frequency)
    }

    #[test]
    fn rate_and_centre_are_read_from_the_name() {
        for (name, rate, centre) in [
            ("name_433.92M_250k.cu8", Some(250e3), Some(433.92e6)),
            ("g001_433.92M_250k.cu8", Some(250e3), Some(433.92e6)),
            ("modes1_1090M_2000k.cu8", Some(2e6), Some(1.09e9)),
            ("lte_fdd_1860M_1920k_0.25s.cu8", Some(1.92e6), Some(1.86e9)),
            ("dcf77_77.5k_12k.ci16", Some(12e3), Some(77.5e3)),
            ("fm_100.1M_2.4M.cfile", Some(2.4e6), Some(100.1e6)),
            ("x-868.3MHz-2.4Msps.cs16", Some(2.4e6), Some(868.3e6)),
            ("sat_1.7G_3M.cf32", Some(3e6), Some(1.7e9)),
            ("only_433.92M.cu8", None, Some(433.92e6)),
            ("only_1090000000Hz.cu8", None, Some(1.09e9)),
            ("plain_48000Sps.cu8", Some(48e3), None),
            ("plain_2000k.cu8", Some(2e6), None),
            ("20240229-235959_6000000SPS_137100000Hz.s8", Some(6e6), Some(137.1e6)),
            ("fm_2.4Msps_100.1M.cu8", Some(2.4e6), Some(100.1e6)),
            ("iot_bw_125k_868.1M.cf32", None, Some(868.1e6)),
            ("iot_868.1M_125k_bw.cf32", None, Some(868.1e6)),
            ("iot_868.1M_bw_125k_1Msps.cf32", Some(1e6), Some(868.1e6)),
            ("gqrx_20240229_235959_145500000_1800000_fc.raw", Some(1.8e6), Some(145.5e6)),
        ] {
            assert_eq!(said(name, None), (rate, centre), "{name}");
        }
        assert_eq!(of(Path::new("gqrx_1_2_145500000_1800000_fc.raw"), None).datatype, Some(Datatype::Cf32Le));
    }

    #[test]
    fn ambiguous_numbers_are_not_used() {
        for (name, rate, centre) in [
            // A bit rate, not a centre frequency.
            ("wifi_11a_24M_sample_20000k.ci16", Some(20e6), None),
            ("wifi_11n_6.5M_radiated_20000k.ci16", Some(20e6), None),
            ("wifi_54M_20M.ci16", None, None),
            // No unit.
            ("20200813T065220Z_77500_HB9ODP.ci16", None, None),
            ("rec_433920000_250000.cu8", None, None),
            // Which of them?
            ("a_250k_b_1000k.cu8", None, None),
            ("a_2000k_b_1000k.cu8", None, None),
            ("2M_433.92M.cu8", None, None),
            ("umts_2140M_5M_10M.cf32", None, None),
            ("0.25s_5m.cu8", None, None),
            ("0k_0M.cu8", None, None),
            ("1.2.3M.cu8", None, None),
            ("MHz_k_é.cu8", None, None),
            // Bandwidths and bit rates as well as rates.
            ("dir.5k/only_250k.cu8", None, None),
            ("dvbt_8M.cf32", None, None),
            ("noise_2.4M.cf32", None, None),
            ("tone_10kHz.cf32", None, None),
            ("nr_3500M_bandwidth_100M.cf32", None, None),
            // Bands, standards and generations.
            ("gsm_1800M.cf32", None, None),
            ("bt_2.4G_80M.cf32", None, None),
            ("zigbee_802.15.4G_2M.cf32", None, None),
            ("wifi_802.11G_40M.cf32", None, None),
            ("wlan_802.11g.cf32", None, None),
            ("5G_100M.cf32", None, None),
            ("2G_200k.cf32", None, None),
            // No gqrx.
            ("gqrx_20240229_235959_0_1800000_fc.raw", None, None),
            ("gqrx_20240229_235959_145500000_1800000_fc.cu8", None, None),
            ("", None, None),
        ] {
            assert_eq!(said(name, None), (rate, centre), "{name}");
        }
        assert!(of(Path::new("dvbt_8M.cf32"), None).is_ambiguous);
        assert!(!of(Path::new("plain.cf32"), None).is_ambiguous);
    }

    #[test]
    fn a_known_rate_leaves_fewer_readings() {
        for (name, rate, centre) in [
            ("rec_2M_433.92M.cu8", 2e6, Some(433.92e6)),
            ("fm_100.1M.cu8", 2.4e6, Some(100.1e6)),
            ("am_7100kHz.cf32", 62.5e3, Some(7.1e6)),
            ("noise_2.4M.cf32", 20e6, None),
            ("gsm_900M.cf32", 1e6, None),
        ] {
            assert_eq!(said(name, Some(rate)), (None, centre), "{name}");
        }
    }

    #[test]
    fn the_number_in_hertz_is_a_wav_files_centre() {
        for (name, centre) in [
            ("SDRSharp_20240229_235959Z_1420405751Hz_IQ.wav", Some(1_420_405_751.0)),
            ("a_96kHz_14100kHz.wav", Some(14.1e6)),
            ("a_96kHz.wav", None),
            ("a_7MHz_8MHz.wav", None),
            ("a_433.92M.wav", None),
        ] {
            assert_eq!(centre_in_hertz(Path::new(name), 96e3), centre, "{name}");
        }
    }

    #[test]
    fn values_taken_from_names_are_reported() {
        let path = Path::new("d/x.cu8");
        let said = taken(path, &[("sample rate", Some(250e3)), ("centre frequency", Some(433.92e6))], None);
        assert_eq!(
            said.as_deref(),
            Some("d/x.cu8: taken from its name: sample rate 250000 Hz, centre frequency 433920000 Hz")
        );
        assert_eq!(taken(path, &[("sample rate", None)], None), None);
        let start = start(Path::new("20200813T065220Z_77500_HB9ODP.wav"));
        assert_eq!(
            taken(path, &[], start).as_deref(),
            Some("d/x.cu8: taken from its name: start 2020-08-13T06:52:20Z")
        );
    }

    #[test]
    fn a_start_is_taken_where_its_zone_is_known() {
        for (name, expected) in [
            ("SDRSharp_20240229_235959Z_1420405751Hz_IQ.wav", Some("2024-02-29T23:59:59Z")),
            ("HDSDR_20230607_080910Z_14100kHz_RF.wav", Some("2023-06-07T08:09:10Z")),
            ("gqrx_20240229_235959_145500000_1800000_fc.raw", Some("2024-02-29T23:59:59Z")),
            ("20200813T065220Z_77500_HB9ODP_iq.wav", Some("2020-08-13T06:52:20Z")),
            ("baseband_433920000Hz_12-30-00_01-01-2024.wav", None),
            ("rec_20240229_235959_1Hz.wav", None),
            ("rec_20240230_235959Z.wav", None),
            ("rec_2024022_235959Z.wav", None),
            ("réc_2024é229_235959Z.wav", None),
            ("TZ_TZ.wav", None),
            ("Z.wav", None),
            ("g001_433.92M_250k.cu8", None),
        ] {
            assert_eq!(start(Path::new(name)), expected.map(|text| text.parse().unwrap()), "{name}");
        }
        let kiwi = |name: &str| kiwi_recorder(Path::new(name)).map(|(_, centre)| centre);
        assert_eq!(kiwi("20200813T065220Z_77500_HB9ODP_iq.wav"), Some(77_500.0));
        for other in
            ["20200813T065220Z_77500.wav", "20200813T065220_77500_x.wav", "a_77500_x.wav", "Z_1_x.wav"]
        {
            assert_eq!(kiwi(other), None, "{other}");
        }
    }
}
