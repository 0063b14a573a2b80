//! What a raw file's name says: the datatype from its extension, rate and centre frequency from its stem.

use std::path::Path;

use sferic_features::Datatype;

/// The extensions of raw IQ files. `complex16s` and its kin are Universal Radio Hacker's, the `sc` and `fc` ones UHD's.
const EXTENSIONS: [(&str, Datatype); 30] = [
    ("cu8", Datatype::Cu8),
    ("uc8", Datatype::Cu8),
    ("complex16u", Datatype::Cu8),
    ("cs8", Datatype::Ci8),
    ("ci8", Datatype::Ci8),
    ("sc8", Datatype::Ci8),
    ("complex16s", Datatype::Ci8),
    ("cu16", Datatype::Cu16Le),
    ("cu16_le", Datatype::Cu16Le),
    ("uc16", Datatype::Cu16Le),
    ("complex32u", Datatype::Cu16Le),
    ("cs16", Datatype::Ci16Le),
    ("ci16", Datatype::Ci16Le),
    ("ci16_le", Datatype::Ci16Le),
    ("cs16_le", Datatype::Ci16Le),
    ("sc16", Datatype::Ci16Le),
    ("complex32s", Datatype::Ci16Le),
    ("ci16_be", Datatype::Ci16Be),
    ("cs16_be", Datatype::Ci16Be),
    ("cf32", Datatype::Cf32Le),
    ("cf32_le", Datatype::Cf32Le),
    ("fc32", Datatype::Cf32Le),
    ("cfile", Datatype::Cf32Le),
    ("complex", Datatype::Cf32Le),
    ("complex64", Datatype::Cf32Le),
    ("cf32_be", Datatype::Cf32Be),
    ("cf64", Datatype::Cf64Le),
    ("cf64_le", Datatype::Cf64Le),
    ("fc64", Datatype::Cf64Le),
    ("complex128", Datatype::Cf64Le),
];

/// Datatype names that leave the byte order out, as older SigMF metadata and most tools do: little-endian is meant.
const WITHOUT_BYTE_ORDER: [(&str, Datatype); 6] = [
    ("cs8", Datatype::Ci8),
    ("cs16", Datatype::Ci16Le),
    ("ci16", Datatype::Ci16Le),
    ("cu16", Datatype::Cu16Le),
    ("cf32", Datatype::Cf32Le),
    ("cf64", Datatype::Cf64Le),
];

/// The datatype of a SigMF name, one without byte order being little-endian. `None` for one that is not supported.
pub fn datatype_of_name(name: &str) -> Option<Datatype> {
    let short = || WITHOUT_BYTE_ORDER.iter().find(|(short, _)| *short == name).map(|(_, datatype)| *datatype);
    name.parse().ok().or_else(short)
}

/// The datatype of a raw file's extension, in either case. `None` where the extension does not say it.
pub fn datatype_of_extension(extension: &str) -> Option<Datatype> {
    let extension = extension.to_ascii_lowercase();
    EXTENSIONS.iter().find(|(known, _)| *known == extension).map(|(_, datatype)| *datatype)
}

/// The names of every supported datatype, for messages.
pub fn datatype_list() -> String {
    Datatype::ALL.map(Datatype::name).join(", ")
}

/// The extensions that say their datatype, for messages.
pub fn extension_list() -> String {
    EXTENSIONS.map(|(extension, _)| extension).join(", ")
}

/// Sample rate and centre frequency as a file name states them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NameHints {
    /// Samples per second, Hz.
    pub sample_rate: Option<f64>,
    /// Centre frequency, Hz.
    pub frequency: Option<f64>,
}

/// Reads `name_433.92M_250k.cu8`. Only what is unambiguous is taken, and only numbers with a unit (`k`, `M`, `G`, with or
/// without `Hz`, or `Sps` for a rate) between underscores, hyphens or spaces:
///
/// - two such numbers side by side, the first one larger, are centre frequency and sample rate;
/// - else a number in samples per second is the rate, as is the only one in `k`;
/// - a number in `M` or `G` that stands alone is the centre frequency; beside another number that is no neighbour it may be
///   anything, as the bit rate in `wifi_24M_sample_20000k`.
pub fn hints(path: &Path) -> NameHints {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let numbers: Vec<Option<Quantity>> = stem.split(['_', '-', ' ']).map(quantity).collect();
    let pair = numbers.windows(2).find_map(|two| match two {
        [Some(centre), Some(rate)] if centre.unit != Unit::Rate && rate.unit != Unit::Frequency && centre.value > rate.value => {
            Some(NameHints { sample_rate: Some(rate.value), frequency: Some(centre.value) })
        }
        _ => None,
    });
    let alone: Vec<Quantity> = numbers.iter().flatten().copied().collect();
    let the_only = |wanted: &dyn Fn(&Quantity) -> bool| {
        let mut found = alone.iter().filter(|number| wanted(number));
        found.next().filter(|_| found.next().is_none()).map(|number| number.value)
    };
    pair.unwrap_or_else(|| NameHints {
        sample_rate: the_only(&|number| number.unit == Unit::Rate).or_else(|| the_only(&|number| number.unit == Unit::Kilo)),
        frequency: match alone.as_slice() {
            [Quantity { value, unit: Unit::Mega | Unit::Frequency }] => Some(*value),
            _ => None,
        },
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    /// `k`, as rates are mostly written.
    Kilo,
    /// `M` or `G`, as centre frequencies are mostly written.
    Mega,
    /// In Hz: a frequency, or a bandwidth; hardly ever a rate.
    Frequency,
    /// Samples per second.
    Rate,
}

#[derive(Clone, Copy)]
struct Quantity {
    value: f64,
    unit: Unit,
}

/// A positive decimal number with its unit, such as `433.92M`, `250k`, `868.3MHz`, `2.4Msps`.
fn quantity(token: &str) -> Option<Quantity> {
    let digits = token.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = token.split_at(digits);
    let value = number.parse::<f64>().ok().filter(|value| *value > 0.0)?;
    let (prefix, rest) = match unit.split_at_checked(1)? {
        ("k" | "K", rest) => (Some((1e3, Unit::Kilo)), rest),
        ("M", rest) => (Some((1e6, Unit::Mega)), rest),
        ("G" | "g", rest) => (Some((1e9, Unit::Mega)), rest),
        _ => (None, unit),
    };
    let factor = prefix.map_or(1.0, |(factor, _)| factor);
    let unit = match rest.to_ascii_lowercase().as_str() {
        "" => prefix?.1,
        "hz" => Unit::Frequency,
        "sps" | "s" if prefix.is_some() || rest.len() > 1 => Unit::Rate,
        _ => return None,
    };
    Some(Quantity { value: value * factor, unit })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str) -> (Option<f64>, Option<f64>) {
        let NameHints { sample_rate, frequency } = hints(Path::new(name));
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
            ("dir.5k/only_250k.cu8", Some(250e3), None),
            ("only_433.92M.cu8", None, Some(433.92e6)),
            ("plain_48000Sps.cu8", Some(48e3), None),
        ] {
            assert_eq!(said(name), (rate, centre), "{name}");
        }
    }

    #[test]
    fn what_is_ambiguous_is_not_taken() {
        for (name, rate, centre) in [
            // A bit rate, not a centre frequency.
            ("wifi_11a_24M_sample_20000k.ci16", Some(20e6), None),
            ("wifi_11n_6.5M_radiated_20000k.ci16", Some(20e6), None),
            // No unit.
            ("20200813T065220Z_77500_HB9ODP.ci16", None, None),
            ("rec_433920000_250000.cu8", None, None),
            // Which of them?
            ("a_250k_b_1000k.cu8", None, None),
            ("2M_433.92M.cu8", None, None),
            ("0.25s_5m.cu8", None, None),
            ("0k_0M.cu8", None, None),
            ("1.2.3M.cu8", None, None),
            ("MHz_k_é.cu8", None, None),
            ("", None, None),
        ] {
            assert_eq!(said(name), (rate, centre), "{name}");
        }
    }

    #[test]
    fn extensions_and_names_give_datatypes() {
        for (extension, datatype) in [
            ("cu8", Datatype::Cu8),
            ("CU8", Datatype::Cu8),
            ("cs8", Datatype::Ci8),
            ("complex16s", Datatype::Ci8),
            ("cs16", Datatype::Ci16Le),
            ("cu16", Datatype::Cu16Le),
            ("cfile", Datatype::Cf32Le),
            ("cf64", Datatype::Cf64Le),
        ] {
            assert_eq!(datatype_of_extension(extension), Some(datatype), "{extension}");
        }
        for extension in ["iq", "raw", "bin", "vita49", "wav", ""] {
            assert_eq!(datatype_of_extension(extension), None, "{extension}");
        }
        assert_eq!(datatype_of_name("ci16"), Some(Datatype::Ci16Le));
        assert_eq!(datatype_of_name("ci16_be"), Some(Datatype::Ci16Be));
        assert_eq!(datatype_of_name("cf32"), Some(Datatype::Cf32Le));
        assert_eq!(datatype_of_name("ri16_le"), None);
        for datatype in Datatype::ALL {
            assert_eq!(datatype_of_name(datatype.name()), Some(datatype));
        }
    }
}
