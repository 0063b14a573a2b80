//! Names of datatypes: SigMF's, and the extensions of raw files.

use sferic_samples::Datatype;

/// The extensions of raw IQ files. `complex16s` and its kin are Universal Radio Hacker's, the `sc` and `fc`
/// ones UHD's, `c8` and `c16` PortaPack's, `s8` and `s16` GamutRF's and SatDump's.
const EXTENSIONS: [(&str, Datatype); 37] = [
    ("cu8", Datatype::Cu8),
    ("uc8", Datatype::Cu8),
    ("complex16u", Datatype::Cu8),
    ("cs8", Datatype::Ci8),
    ("ci8", Datatype::Ci8),
    ("sc8", Datatype::Ci8),
    ("complex16s", Datatype::Ci8),
    ("c8", Datatype::Ci8),
    ("s8", Datatype::Ci8),
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
    ("c16", Datatype::Ci16Le),
    ("s16", Datatype::Ci16Le),
    ("ci16_be", Datatype::Ci16Be),
    ("cs16_be", Datatype::Ci16Be),
    ("ci32", Datatype::Ci32Le),
    ("ci32_le", Datatype::Ci32Le),
    ("cs32", Datatype::Ci32Le),
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

/// Datatype names that leave the byte order out, as older SigMF metadata and most tools do: little-endian is
/// meant.
const WITHOUT_BYTE_ORDER: [(&str, Datatype); 8] = [
    ("cs8", Datatype::Ci8),
    ("cs16", Datatype::Ci16Le),
    ("ci16", Datatype::Ci16Le),
    ("cu16", Datatype::Cu16Le),
    ("cs32", Datatype::Ci32Le),
    ("ci32", Datatype::Ci32Le),
    ("cf32", Datatype::Cf32Le),
    ("cf64", Datatype::Cf64Le),
];

/// The datatype of a SigMF name, one without byte order being little-endian. `None` for one that is not
/// supported.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_and_names_give_datatypes() {
        for (extension, datatype) in [
            ("cu8", Datatype::Cu8),
            ("CU8", Datatype::Cu8),
            ("cs8", Datatype::Ci8),
            ("complex16s", Datatype::Ci8),
            ("cs16", Datatype::Ci16Le),
            ("C8", Datatype::Ci8),
            ("c16", Datatype::Ci16Le),
            ("S16", Datatype::Ci16Le),
            ("s8", Datatype::Ci8),
            ("cs32", Datatype::Ci32Le),
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
        assert_eq!(datatype_of_name("ci32"), Some(Datatype::Ci32Le));
        assert_eq!(datatype_of_name("cu8_be"), Some(Datatype::Cu8));
        assert_eq!(datatype_of_name("cf32"), Some(Datatype::Cf32Le));
        assert_eq!(datatype_of_name("ri16_le"), None);
        for datatype in Datatype::ALL {
            assert_eq!(datatype_of_name(datatype.name()), Some(datatype));
        }
    }
}
