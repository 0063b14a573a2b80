//! `sferic bench` as another load generator judges it: MLPerf's LoadGen, by `ops/bench/judges`.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn loadgen_finds_a_run_valid_and_its_answers_equal() {
    let environment = sferic_tools::places("judges/loadgen").find(|path| path.exists());
    let (Some(environment), true) = (environment, tools_are_there()) else {
        return sferic_tools::skip("LoadGen is not there; run ops/setup judges");
    };
    let mut libraries = std::fs::read_dir(environment.join("lib")).unwrap().flatten();
    if !libraries.any(|python| python.path().join("site-packages/mlcommons_loadgen").exists()) {
        return sferic_tools::not_run("LoadGen does not come for this platform or Python");
    }
    let judging = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/ops/bench/judges"))
        .args(["--quick", "--json", "--sferic", env!("CARGO_BIN_EXE_sferic")])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let judged = tokio::time::timeout(2 * PATIENCE, judging).await.expect("it does not end").unwrap();
    let text = String::from_utf8_lossy(&judged.stderr);
    assert!(judged.status.success(), "{text}");
    let report: Value = serde_json::from_slice(&judged.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert!(rows.len() == 6 && rows.iter().all(|row| row["theirs"].as_f64() > Some(0.0)), "{report}");
    let verdicts = report["verdicts"].to_string();
    assert!(verdicts.contains("SingleStream, round 1: VALID"), "{verdicts}");
    assert!(verdicts.contains("0 different, 0 missing"), "{verdicts}");
}
