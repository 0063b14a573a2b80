//! `sferic bench`, against real daemons.

use serde_json::Value;
use sferic_load::Histogram;

use crate::jetstream::Store;
use crate::support::*;

/// The report of a run with these arguments, and its exit code.
async fn bench(url: &str, arguments: &[&str]) -> (i32, Value) {
    let all = [&["bench", "--json", "--samples", "64", "--url", url], arguments].concat();
    let (code, out, err) = output(&mut sferic(&all)).await;
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    // On a machine with other work a generator may be late, and then says so.
    let levels = report["levels"].as_array().unwrap();
    let passed = report["validity"]["valid"] == true && levels.iter().all(|level| level["met"] == true);
    assert_eq!(code, i32::from(!passed), "{report}");
    (code, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_send_is_measured_and_judged() {
    if !tools_are_there() {
        return;
    }
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let world = World::start(&["degrees"], &[("HTTP__LISTEN", &listen)]).await;
    let (url, http) = (world.server.url(), format!("http://{listen}"));
    let measured = |report: &Value, key: &str| report["measured"][key].clone();
    let json = ["--encoding", "json"];
    for way in [
        &["--mode", "request"][..],
        &["--mode", "publish"],
        &["--http", &http],
        &[&["--http", &http], &json[..]].concat(),
        &[&["--mode", "publish"], &json[..]].concat(),
    ] {
        let arguments = [way, &["--users", "4", "--requests", "50", "--repeat", "0.8"]].concat();
        let (_, report) = bench(url, &arguments).await;
        assert_eq!(measured(&report, "answered"), 200, "{way:?}: {report}");
        let hits = measured(&report, "hits").as_u64().unwrap();
        assert!((156..=160).contains(&hits), "exactly 160 repeat an earlier frame, {hits} are hits");
        let levels = report["levels"].as_array().unwrap();
        assert!(levels.len() == 4 && levels.iter().all(|level| level["met"] == true), "{levels:?}");
    }
    // The same model by the Open Inference Protocol: its input as long as the features of the samples.
    let oip = ["--http", &http, "--protocol", "oip"];
    let (_, report) = bench(url, &[&oip[..], &["--users", "4", "--requests", "50"]].concat()).await;
    assert_eq!(
        (measured(&report, "answered"), measured(&report, "hits")),
        (200.into(), 0.into()),
        "{report}"
    );
    assert_eq!((&report["run"]["mode"], &report["run"]["input"]), (&"infer".into(), &"x:1,2,64".into()));
    // An open loop, whose answers are those of the same frames one at a time.
    for way in [&[][..], &["--http", &http], &[&["--http", &http], &json[..]].concat()] {
        let open =
            ["--rate", "100", "--seconds", "2", "--arrivals", "even", "--repeat", "0.5", "--verify", "100%"];
        let (_, report) = bench(url, &[way, &open].concat()).await;
        assert_eq!((measured(&report, "requests"), measured(&report, "answered")), (200.into(), 200.into()));
        let verified = &report["run"]["verified"];
        assert_eq!((&verified["answers"], &verified["different"]), (&200.into(), &0.into()), "{report}");
    }
    // A level that cannot be met.
    let (code, report) = bench(url, &["--users", "1", "--p95", "1us"]).await;
    assert_eq!((code, &report["levels"][0]["met"]), (1, &false.into()), "{report}");
    // Failures count.
    let (code, report) = bench(url, &["--users", "2", "--requests", "5", "--timeout", "0s"]).await;
    assert_eq!((code, measured(&report, "failed")), (1, 10.into()), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_written_for_people_and_compared_with_another() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[]).await;
    let folder = tempfile::TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (csv, html) = (path("a.csv"), path("a.html"));
    let run = ["--rate", "50", "--seconds", "11", "--csv", &csv, "--html", &html];
    let (_, mut report) = bench(world.server.url(), &run).await;
    // Reports of runs that are not valid are not compared.
    report["validity"] = serde_json::json!({"valid": true, "reasons": []});
    assert!(std::fs::read_to_string(csv).unwrap().lines().count() >= 11);
    assert!(std::fs::read_to_string(html).unwrap().contains("<svg"));
    let (a, b) = (path("a.json"), path("b.json"));
    std::fs::write(&a, report.to_string()).unwrap();
    let mut slower = report.clone();
    slower["run"]["model"] = "another".into();
    std::fs::write(&b, slower.to_string()).unwrap();
    let (code, out, err) = output(&mut sferic(&["bench", "compare", &a, &a])).await;
    assert!(code == 0 && out.contains("p99"), "{out}{err}");
    let (code, _, err) = output(&mut sferic(&["bench", "compare", &a, &b])).await;
    assert!(code == 2 && err.contains("model"), "{code}: {err}");
    for (wrong, says) in [
        (&["--users", "1", "--repeat", "2"][..], "2"),
        (&["--rate", "0"], "0"),
        (&["--users", "0"], "1.."),
        (&["--users", "1", "--requests", "0"], "1.."),
        (&["--users", "1", "--embedded"], "--url"),
        (&["--rate", "5", "--arrivals", "sometimes"], "sometimes"),
        (&["--users", "1", "--model", "none"], "none"),
        (&["--users", "1", "--datatype", "cf64_le"], "cf64_le"),
        (&["--users", "1", "--protocol", "oip"], "--http URL"),
        (&["--protocol", "oip", "--http", "embedded", "--repeat", "0.5"], "--repeat"),
        (&["--protocol", "oip", "--http", "embedded", "--verify", "1"], "--verify"),
    ] {
        let all = [&["bench", "--samples", "64", "--url", world.server.url()], wrong].concat();
        let (code, out, err) = output(&mut sferic(&all)).await;
        assert!(code != 0 && out.is_empty() && err.contains(says), "{wrong:?}: {code} {out}{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_daemons_use_is_what_they_state_by_kind_of_thread() {
    if !tools_are_there() || !cfg!(target_os = "linux") {
        return;
    }
    let world = World::start(&["degrees"], &[("PREPROCESS__WORKERS", "1")]).await;
    let (url, pid) = (world.server.url(), world.daemon.pid().to_string());
    // The system counts a process's time in hundredths of a second; a frame takes some hundred microseconds.
    let load = ["--users", "4", "--requests", "1000"];
    let (_, report) = bench(url, &[&load[..], &["--pid", &pid]].concat()).await;
    let cpu = &report["measured"]["cpu"];
    let us = |costs: &Value| costs["us_per_frame"].as_f64().unwrap_or_else(|| panic!("{report}"));
    let kinds = cpu["daemon_by_thread"].as_object().unwrap();
    assert_eq!(kinds.keys().collect::<Vec<_>>(), ["async", "features", "other", "sessions"]);
    assert!(["async", "features", "sessions"].iter().all(|kind| us(&kinds[*kind]) > 0.0), "{cpu}");
    let sum: f64 = kinds.values().map(us).sum();
    assert!((sum / us(&cpu["daemon"]) - 1.0).abs() < 0.02, "{cpu}");
    assert!((us(&cpu["process"]) / us(&cpu["daemon"]) - 1.0).abs() < 0.1, "{cpu}");

    // Of several daemons all are asked, each time the same.
    let models = repository(&["degrees"]);
    let settings = [("MODELS__REPOSITORY", models.path().to_str().unwrap()), ("MODELS__DEFAULT", "degrees")];
    let _second = Daemon::start(url, &settings).await;
    let both = async { while bench(url, &["--users", "1"]).await.1["run"]["daemons"] != 2 {} };
    tokio::time::timeout(2 * PATIENCE, both).await.expect("the second daemon does not get ready");
    let (_, report) = bench(url, &load).await;
    assert_eq!((&report["run"]["daemons"], &report["measured"]["answered"]), (&2.into(), &4000.into()));
    assert!(report["measured"]["cpu"]["daemon"]["us_per_frame"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(report["measured"]["cpu"]["process"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_a_stream_takes_are_measured_from_publication_to_outcome() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let _daemon = store.daemon(&[]).await;
    let url = store.server.url();
    let (_, report) = bench(url, &["--rate", "50", "--seconds", "2", "--arrivals", "even"]).await;
    let measured = &report["measured"];
    assert_eq!((&report["run"]["mode"], &measured["answered"]), (&"stream".into(), &100.into()), "{report}");
    // Each waits for its outcome, which is stored before: no acknowledgement of the frame counts as one.
    assert!(measured["latency_ms"]["p50"].as_f64().unwrap() > 0.1, "{report}");
    let outcomes = store.outcomes(200).await;
    assert!(outcomes.iter().all(|stored| stored.subject.starts_with("iq.predictions.bench.")));
    let all = ["bench", "--samples", "64", "--url", url, "--mode", "request"];
    let (code, out, err) = output(&mut sferic(&all)).await;
    assert!(
        code == 2 && out.is_empty() && err.contains("IQ_FRAMES") && err.contains("publish"),
        "{out}{err}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn intervals_of_a_run_merge_to_its_whole_and_a_search_ends_where_no_rate_will_do() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[]).await;
    let folder = tempfile::TempDir::new().unwrap();
    let log = folder.path().join("a.hlog").to_str().unwrap().to_owned();
    let run = ["--rate", "50", "--seconds", "3", "--arrivals", "even", "--interval-log", &log];
    let (_, report) = bench(world.server.url(), &run).await;
    let log = std::fs::read_to_string(log).unwrap();
    let mut merged = Histogram::new(2).unwrap();
    for interval in log.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit())) {
        merged.merge(&Histogram::from_base64(interval.split(',').nth(3).unwrap()).unwrap()).unwrap();
    }
    assert_eq!(Value::from(merged.count()), report["measured"]["answered"], "{log}");
    let whole = report["measured"]["latency_ms"]["p99"].as_f64().unwrap();
    assert!((merged.quantile_ms(0.99).unwrap() / whole - 1.0).abs() < 0.01, "{merged:?}: {report}");

    let never = ["--find-knee", "--rate", "40", "--seconds", "0.5", "--p99", "1us"];
    let (code, report) = bench(world.server.url(), &never).await;
    let knee = &report["knee"];
    let rates: Vec<_> = knee["curve"].as_array().unwrap().iter().map(|step| step["rate"].clone()).collect();
    assert_eq!((code, &knee["rate"], rates), (1, &Value::Null, vec![20.0.into(), 40.0.into()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_ends_meanwhile_is_in_the_report() {
    if !tools_are_there() {
        return;
    }
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let http = format!("http://{listen}");
    for way in [&["--mode", "request"][..], &["--http", &http]] {
        let mut world = World::start(&["degrees"], &[("HTTP__LISTEN", &listen)]).await;
        let url = world.server.url().to_owned();
        let arguments =
            [way, &["--rate", "50", "--seconds", "4", "--arrivals", "even", "--verify", "50%"]].concat();
        let running = bench(&url, &arguments);
        let ending = async {
            // A hundred are the warm-up.
            while world.ledger().await.received < 160 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            world.daemon.signal("KILL").await;
            world.daemon.ended().await;
        };
        let ((code, report), ()) = tokio::join!(running, ending);
        let count = |key: &str| report["measured"][key].as_u64().unwrap();
        assert_eq!((code, count("requests")), (1, 200), "{report}");
        assert!(count("answered") > 0 && count("failed") > 0, "{way:?}: {report}");
        let failures = report["measured"]["failures"].as_object().unwrap();
        assert!(failures.contains_key("unreachable"), "{failures:?}");
    }
}
