//! The Open Inference Protocol as others judge it: tritonclient, KServe's client and perf_analyzer.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use crate::http_client::*;
use crate::support::*;

/// A program of a judge, where it and all that the tests need is there.
fn judge(program: &str) -> Option<PathBuf> {
    let found = sferic_tools::places(&format!("judges/{program}")).find(|path| path.exists());
    if found.is_none() {
        sferic_tools::skip(format!("{program} is not there; run ops/setup judges"));
    }
    found.filter(|_| tools_are_there())
}

/// Runs a judge to its end; all that it said.
async fn judged(command: &mut Command) -> (bool, String) {
    let judging = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let judged = tokio::time::timeout(3 * PATIENCE, judging).await.expect("it does not end").unwrap();
    let text =
        String::from_utf8_lossy(&judged.stdout).into_owned() + &String::from_utf8_lossy(&judged.stderr);
    (judged.status.success(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn tritonclient_and_kserves_client_find_what_they_expect() {
    let Some(python) = judge("oip/bin/python") else { return };
    let served = Served::start(&["degrees", "tensors", "versions"], |_| {}).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/judges/oip.py");
    let mut command = Command::new(python);
    command.arg(script).arg(served.address.to_string()).env("PYTHONDONTWRITEBYTECODE", "1");
    let (is_done, text) = judged(&mut command).await;
    let checks: Vec<_> = text.lines().filter(|line| line.starts_with("ok ")).collect();
    assert!(is_done && !text.contains("FAIL "), "{text}");
    assert!(checks.len() > 60, "only {} checks:\n{text}", checks.len());
    let [received, predictions, failures] = served.end().await;
    assert!(predictions > 120 && failures >= 2, "{received} {predictions} {failures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn perf_analyzer_measures() {
    if !cfg!(target_os = "linux") {
        return sferic_tools::skip("perf_analyzer comes for Linux alone");
    }
    let Some(program) = judge("perf_analyzer/bin/perf_analyzer") else { return };
    let served = Served::start(&["degrees"], |_| {}).await;
    let environment = program.parent().and_then(|bin| bin.parent()).unwrap();
    let libraries = std::fs::read_dir(environment.join("lib")).unwrap().flatten();
    let libraries: Vec<_> = libraries
        .map(|python| python.path().join("site-packages/nvidia/cuda_runtime/lib"))
        .filter(|folder| folder.exists())
        .collect();
    for (batch, tensors) in [("1", "binary"), ("1", "json"), ("8", "binary")] {
        let mut command = Command::new(&program);
        command
            .env("LD_LIBRARY_PATH", std::env::join_paths(&libraries).unwrap())
            .args(["-m", "degrees", "-u", &served.address.to_string(), "-i", "http", "-b", batch])
            .args([
                "--shape",
                "x:1,2,64",
                "--input-data",
                "zero",
                "--concurrency-range",
                "4",
                "--request-count",
                "200",
            ])
            .args(["--input-tensor-format", tensors, "--output-tensor-format", tensors]);
        let (is_done, text) = judged(&mut command).await;
        assert!(is_done && text.contains("Throughput:") && !text.contains("failed"), "{text}");
    }
    let [received, predictions, failures] = served.end().await;
    assert!(predictions >= 2000 && failures == 0, "{received} {predictions} {failures}");
}
