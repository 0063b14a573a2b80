//! `sferic bench`, against real daemons.

use serde_json::Value;

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
    for way in [&["--mode", "request"][..], &["--mode", "publish"], &["--http", &http]] {
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
    let (_, report) =
        bench(url, &["--rate", "100", "--seconds", "2", "--arrivals", "even", "--verify", "100%"]).await;
    assert_eq!(measured(&report, "requests"), 200, "{report}");
    let verified = &report["run"]["verified"];
    assert_eq!((&verified["answers"], &verified["different"]), (&200.into(), &0.into()), "{report}");
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
