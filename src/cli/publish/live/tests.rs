use clap::Parser;

use super::*;

#[derive(Parser)]
struct Root {
    #[command(flatten)]
    publish: PublishArgs,
}

fn names(args: &str) -> Result<Vec<String>, String> {
    let root = Root::try_parse_from(std::iter::once("publish").chain(args.split_whitespace())).unwrap();
    let sources = sources(&root.publish).map_err(|usage| usage.to_string())?;
    Ok(sources.into_iter().map(|source| source.name).collect())
}

#[test]
fn sources_have_names() {
    assert_eq!(names("- --datatype cu8 --sample-rate 1M --source roof.rx1").unwrap(), ["roof.rx1"]);
    assert_eq!(
        names("rtl_tcp://10.0.0.7 rtl_tcp://[::1]:99 zmq+tcp://roof:5555 --sample-rate 1M").unwrap(),
        ["rtl_tcp-10-0-0-7-1234", "rtl_tcp----1--99", "zmq-roof-5555"]
    );
}

#[test]
fn what_cannot_be_published_together_is_refused() {
    for (args, named) in [
        ("- a.cu8 --datatype cu8 --sample-rate 1M", "a.cu8 is a recording"),
        ("- - --datatype cu8 --sample-rate 1M", "given twice"),
        ("rtl_tcp://a rtl_tcp://b --sample-rate 1M --source x", "--source is for one"),
        ("- --datatype cu8 --sample-rate 1M --rate 5", "--rate is for recordings"),
        ("-", "--datatype"),
        ("http://a", "no scheme \"http\""),
    ] {
        let error = names(args).unwrap_err();
        assert!(error.contains(named), "{args}: {error}");
    }
}
