//! `sferic soak`: what it judges, and a fault that it has to find.

use serde_json::Value;

use crate::support::*;

/// The gate of a short soak of a daemon of its own, and the exit code.
async fn soak(leak: Option<&str>) -> (i32, Value) {
    let models = repository(&["degrees"]);
    let log = models.path().join("soak.hlog");
    let fixed = ["soak", "--embedded", "--duration", "24s", "--rate", "60", "--samples", "64", "--json"];
    let arguments = [&fixed[..], &["--interval-log", log.to_str().unwrap()]].concat();
    let mut command = sferic(&arguments);
    command.env("SFERIC__MODELS__REPOSITORY", models.path()).env("SFERIC__MODELS__DEFAULT", "degrees");
    command.envs(leak.map(|bytes| ("SFERIC_FAULT_LEAK", bytes)));
    let (code, out, err) = output(&mut command).await;
    assert!(std::fs::read_to_string(log).unwrap().lines().count() > 24, "{err}");
    (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}")))
}

/// Whether this line of the gate is met.
fn is_met(report: &Value, name: &str) -> Value {
    let mut lines = report["gate"].as_array().unwrap().iter();
    lines.find(|line| line["name"] == name).unwrap()["met"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leak_is_found_and_nothing_is_found_where_there_is_none() {
    if !tools_are_there() {
        return;
    }
    // These machines are shared: the latency is not asked.
    let (_, report) = soak(None).await;
    for name in ["memory growth", "circuits opened", "buffers reused", "ledger", "inferences"] {
        assert_eq!(is_met(&report, name), true, "{name}: {}", report["gate"]);
    }
    assert_eq!(is_met(&report, "nodes on the preferred provider"), Value::Null);
    let sessions = &report["report"]["measured"]["cpu"]["daemon_by_thread"]["sessions"]["us_per_frame"];
    assert!(sessions.as_f64().unwrap() > 0.0, "{report}");
    // A mebibyte a second.
    let (code, report) = soak(Some("1048576")).await;
    assert_eq!((code, is_met(&report, "memory growth")), (1, false.into()), "{}", report["gate"]);
    assert_eq!(report["passed"], false);
}
