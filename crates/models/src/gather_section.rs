//! The `[gather]` table of a bundle: which receivers a model answers about at once.

use std::time::Duration;

use serde::Deserialize;
use sferic_actors::gather::{GatherRules, MAX_RECEIVERS, Needs, Receivers};
use sferic_samples::units;

use super::input_section::{GatheredConfig, InputConfig, InputSource};
use super::output_section::OutputConfig;

/// The longest window.
const LONGEST_WINDOW: Duration = Duration::from_secs(60);

/// The table as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GatherSection {
    receivers: Option<Vec<String>>,
    max_receivers: Option<usize>,
    #[serde(with = "units::duration")]
    window: Duration,
    min_receivers: usize,
}

/// The rules of a bundle with these inputs; `None` where it has no such table.
///
/// # Errors
/// In words, with the value and the limit.
pub(crate) fn gather_rules(
    section: Option<GatherSection>,
    inputs: &[InputConfig],
    output: &OutputConfig,
) -> Result<Option<GatherRules>, String> {
    let has = |wanted: fn(&GatheredConfig) -> bool| {
        inputs.iter().any(|input| matches!(&input.source, InputSource::Gathered(kind) if wanted(kind)))
    };
    let needs = Needs {
        place: has(|kind| matches!(kind, GatheredConfig::Receivers)),
        arrival: has(|kind| matches!(kind, GatheredConfig::Arrival)),
        datetime: has(|kind| matches!(kind, GatheredConfig::Correlation(_))),
    };
    let Some(section) = section else {
        let gathered = inputs.iter().find(|input| matches!(input.source, InputSource::Gathered(_)));
        return match gathered {
            Some(input) => {
                let (name, kind) = (input.name.as_deref().unwrap_or_default(), kind_of(input));
                Err(format!("[[inputs]] `{name}` has kind = \"{kind}\", which needs [gather]"))
            }
            None => Ok(None),
        };
    };
    if needs.place && !matches!(output, OutputConfig::Localization { origin: Some(_), .. }) {
        return Err("kind = \"receivers\" needs position_units = \"metres\" and an origin in [output]".into());
    }
    let receivers = match (section.receivers, section.max_receivers) {
        (Some(listed), None) => {
            if let Some(at) = (1..listed.len()).find(|&at| listed[..at].contains(&listed[at])) {
                return Err(format!("[gather] receivers holds \"{}\" twice", listed[at]));
            }
            Receivers::Listed(listed)
        }
        (None, Some(most)) => Receivers::Any(most),
        _ => return Err("[gather] needs one of receivers and max_receivers".into()),
    };
    let rules =
        GatherRules { receivers, window: section.window, min_receivers: section.min_receivers, needs };
    let (slots, min) = (rules.slots(), rules.min_receivers);
    if !(1..=MAX_RECEIVERS).contains(&slots) {
        return Err(format!("[gather] has {slots} receivers, must be 1 to {MAX_RECEIVERS}"));
    }
    if !(1..=slots).contains(&min) {
        return Err(format!("[gather] min_receivers is {min}, must be 1 to {slots}, its receivers"));
    }
    if rules.window.is_zero() || rules.window > LONGEST_WINDOW {
        let ms = rules.window.as_millis();
        return Err(format!(
            "[gather] window is {ms} ms, must be above 0 and at most {} s",
            LONGEST_WINDOW.as_secs()
        ));
    }
    Ok(Some(rules))
}

fn kind_of(input: &InputConfig) -> &'static str {
    match &input.source {
        InputSource::Gathered(GatheredConfig::Mask) => "mask",
        InputSource::Gathered(GatheredConfig::Receivers) => "receivers",
        InputSource::Gathered(GatheredConfig::Arrival) => "arrival",
        InputSource::Gathered(GatheredConfig::Correlation(_)) => "correlation",
        InputSource::Gathered(GatheredConfig::LagStep) => "lag_step",
        InputSource::Gathered(GatheredConfig::Scatter) => "scatter",
        InputSource::Features(_) | InputSource::Tensor(_) => "features",
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::Bundle;
    use super::super::onnx_file::OnnxFile;
    use super::*;

    const OUTPUT: &str = "[output]\nkind = \"localization\"\nposition = \"p\"\nuncertainty = \"u\"\n\
                          position_units = \"metres\"\norigin = { latitude = 45, longitude = 7.6 }\n";
    const INPUTS: &str = "[[inputs]]\nname = \"m\"\nkind = \"mask\"\n[[inputs]]\nname = \"r\"\n\
                          kind = \"receivers\"\n";

    fn rules(gather: &str, inputs: &str, output: &str) -> Result<Option<GatherRules>, String> {
        let text = format!("{gather}{inputs}{output}");
        let bundle = Bundle::new(text.as_bytes(), OnnxFile::new(b"onnx".to_vec()));
        bundle.map(|bundle| bundle.gather.map(|rules| (*rules).clone())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_table_becomes_rules() {
        let gather = "[gather]\nreceivers = [\"a\", \"b.c\"]\nwindow = \"1.5s\"\nmin_receivers = 2\n";
        let expected = GatherRules {
            receivers: Receivers::Listed(vec!["a".into(), "b.c".into()]),
            window: Duration::from_millis(1500),
            min_receivers: 2,
            needs: Needs { place: true, ..Needs::default() },
        };
        assert_eq!(rules(gather, INPUTS, OUTPUT), Ok(Some(expected)));
        let any = "[gather]\nmax_receivers = 8\nwindow = \"2s\"\nmin_receivers = 3\n";
        let of_time = "[[inputs]]\nname = \"t\"\nkind = \"arrival\"\n[[inputs]]\nname = \"c\"\n\
                       kind = \"correlation\"\nband_hz = [-1e3, 1e3]\nmax_lag_s = 1e-3\nlags = 11\n";
        let read = rules(any, of_time, OUTPUT).unwrap().unwrap();
        assert_eq!(read.receivers, Receivers::Any(8));
        assert_eq!(read.needs, Needs { place: false, arrival: true, datetime: true });
        assert_eq!(rules("", "[features]\n", OUTPUT), Ok(None));
    }

    #[test]
    fn what_cannot_be_gathered_is_refused() {
        let gather = |keys: &str| format!("[gather]\n{keys}\n");
        let good = "receivers = [\"a\", \"b\"]\nwindow = \"1s\"\nmin_receivers = 2";
        for (keys, part) in [
            (good.replace("window", "widow"), "unknown key `widow`"),
            (good.replace("\"b\"", "\"a\""), "\"a\" twice"),
            (good.replace("receivers = [\"a\", \"b\"]\n", ""), "one of receivers and max_receivers"),
            (format!("{good}\nmax_receivers = 2"), "one of receivers and max_receivers"),
            (good.replace("min_receivers = 2", "min_receivers = 3"), "min_receivers is 3, must be 1 to 2"),
            (good.replace("1s", "0s"), "window is 0 ms"),
            (good.replace("1s", "61s"), "window is 61000 ms"),
            (
                good.replace("receivers = [\"a\", \"b\"]", "max_receivers = 65"),
                "65 receivers, must be 1 to 64",
            ),
        ] {
            let error = rules(&gather(&keys), INPUTS, OUTPUT).expect_err("accepted");
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
        let error = rules(&gather(good), INPUTS, "[output]\nkind = \"tensors\"\n").expect_err("accepted");
        assert!(error.contains("origin"), "{error}");
        let error = rules("", INPUTS, OUTPUT).expect_err("accepted");
        assert!(error.contains("`m`") && error.contains("needs [gather]"), "{error}");
    }
}
