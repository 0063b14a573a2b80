use clap::Parser;
use sferic_samples::{Datatype, Geolocation};

use super::*;

#[derive(Parser)]
struct Root {
    #[command(flatten)]
    publish: PublishArgs,
}

fn parse(args: &str) -> Result<PublishArgs, clap::Error> {
    Root::try_parse_from(std::iter::once("publish").chain(args.split_whitespace())).map(|root| root.publish)
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let args = parse("x.cu8").unwrap();
    assert_eq!((args.frame_samples, args.hop, args.rate), (8192, None, None));
    assert_eq!(
        (args.source, args.model, args.timeout, args.wait, args.json),
        (None, None, None, false, false)
    );
}

#[test]
fn flags_are_read() {
    let flags =
        "--source north.rx2 --model m@2 --rate 5 --timeout 2s --datatype ci16 --sample-rate 2.4e6 --hop 16";
    let args = parse(&format!("a b {flags}")).unwrap();
    assert_eq!(args.inputs.len(), 2);
    assert_eq!(
        (args.source.as_deref(), args.rate, args.hop),
        (Some("north.rx2"), Some(Rate::PerSecond(5.0)), Some(16))
    );
    assert_eq!(
        (args.timeout, args.datatype, args.sample_rate),
        (Some(Duration::from_secs(2)), Some(Datatype::Ci16Le), Some(2.4e6))
    );
    let args =
        parse("- --sample-rate 1.024M --frequency 433.92M --position -45.06,7.66 --squelch -45").unwrap();
    assert_eq!(
        (args.sample_rate, args.frequency, args.squelch),
        (Some(1.024e6), Some(433.92e6), Some(-45.0))
    );
    assert_eq!(args.position, Some(Geolocation::point(7.66, -45.06)));
}

#[test]
fn wrong_flags_are_refused_with_what_is_valid() {
    for (args, named) in [
        ("", "<PATH>"),
        ("x --rate fast", "realtime"),
        ("x --timeout 5", "500ms"),
        ("x --timeout 0ms", "1ms"),
        ("x --frame-samples 0", "1.."),
        ("x --hop 0", "1.."),
        ("x --datatype ri16_le", "cf32_le"),
        ("x --sample-rate=-3", "over 0"),
        ("x --sample-rate 0", "over 0"),
        ("x --sample-rate 2.4m", "2.4M"),
        ("x --frequency high", "433.92M"),
        ("x --position 91,7", "±90"),
        ("x --squelch loud", "dB"),
        ("x --source a..b", "tokens"),
        ("x --source a.>", "tokens"),
        ("x --source", "SOURCE"),
    ] {
        let error = parse(args).err().unwrap_or_else(|| panic!("{args:?} was taken"));
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(named), "{args:?}: {error}");
    }
}
