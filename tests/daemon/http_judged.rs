//! HTTP as others judge it: schemathesis, by the OpenAPI document, and a browser.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::http_client::*;
use crate::support::*;

/// A version of `label`, which answers whatever numbers come, of any length.
fn tolerant() -> tempfile::TempDir {
    let folder = tempfile::TempDir::new().unwrap();
    let bundle = folder.path().join("any/1");
    std::fs::create_dir_all(&bundle).unwrap();
    let model = std::fs::read_to_string(fixtures().join("label/1/model.toml")).unwrap();
    let model = model.replace("kind = \"iq\"\n", "kind = \"iq\"\nmin_samples = 1\n");
    assert!(model.contains("min_samples"));
    std::fs::write(bundle.join("model.toml"), model).unwrap();
    std::fs::copy(fixtures().join("label/1/model.onnx"), bundle.join("model.onnx")).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_fault() {
    let judge = sferic_tools::places("judges/http/bin/python").find(|path| path.exists());
    let (Some(judge), true) = (judge, tools_are_there()) else {
        return sferic_tools::skip("schemathesis is not there; run ops/setup judges");
    };
    let models = tolerant();
    let served = Served::start(&["label"], |settings| {
        settings.models.repository = models.path().to_owned();
        settings.models.default = "any".to_owned();
    })
    .await;
    let folder = tempfile::TempDir::new().unwrap();
    let judging = Command::new(judge)
        // Scripts of the environment name the folder it was made in.
        .args(["-m", "schemathesis.cli"])
        .args(["--config-file", "ops/judges/http.toml", "--no-color", "run", "--checks", "all"])
        .args(["--seed", "1", "--max-examples", "60", "--generation-database", "none"])
        .arg(format!("http://{}/openapi.json", served.address))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("HYPOTHESIS_STORAGE_DIRECTORY", folder.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let judged = tokio::time::timeout(8 * PATIENCE, judging).await.expect("it does not end").unwrap();
    let text =
        String::from_utf8_lossy(&judged.stdout).into_owned() + &String::from_utf8_lossy(&judged.stderr);
    assert!(judged.status.success(), "{text}");
    let [received, ..] = served.end().await;
    assert!(received > 100, "{received} frames are no judgement:\n{text}");
}

/// What a page of another origin tries: each line says how it ended.
const PAGE: &str = r#"<!doctype html><pre id="said"></pre>
<iframe name="hidden"></iframe>
<form id="form" method="post" enctype="text/plain" target="hidden"
 action="http://DAEMON/api/v1/inference/predict">
<input name='{"iq_data": [[0.5, 0.25]], "x": "' value='"}'></form>
<script>
const daemon = 'http://DAEMON', predict = daemon + '/api/v1/inference/predict';
const body = JSON.stringify({iq_data: Array(64).fill([0.5, 0.25])});
const tries = {
  json: () => fetch(predict, {method: 'POST', headers: {'Content-Type': 'application/json'}, body}),
  unasked: () => fetch(predict, {method: 'POST', mode: 'no-cors', body}),
  beacon: async () => ({type: navigator.sendBeacon(predict, body)}),
  read: () => fetch(daemon + '/openapi.json'),
};
(async () => {
  document.getElementById('form').submit();
  let said = '';
  for (const [name, attempt] of Object.entries(tries)) {
    let how;
    try { how = (await attempt()).type } catch (error) { how = error.name }
    said += `${name}: ${how}\n`;
  }
  document.getElementById('said').textContent = said + 'done';
})();
</script>"#;

/// Serves a page to whoever asks, on a port of its own.
async fn serve(page: String) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
            let answer = format!("{head}Content-Length: {}\r\n\r\n{page}", page.len());
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

/// What a browser shows of an address.
async fn shown(browser: &std::path::Path, more: &[&str], address: &str) -> String {
    let profile = tempfile::TempDir::new().unwrap();
    let showing = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=20000", "--dump-dom"])
        .args(more)
        .arg(address)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output =
        tokio::time::timeout(3 * PATIENCE, showing).await.expect("the browser does not end").unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browsers_page_of_another_origin_or_name_comes_to_no_frame() {
    let browser = ["chromium", "chromium-browser"].into_iter().find_map(|name| {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|folder| folder.join(name))
            .find(|path| path.exists())
    });
    let (Some(browser), true) = (browser, tools_are_there()) else {
        return sferic_tools::skip("chromium is not there; run ops/setup debian chromium");
    };
    let served = Served::start(&["degrees"], |_| ()).await;
    let page = serve(PAGE.replace("DAEMON", &served.address.to_string())).await;
    let dom = shown(&browser, &[], &format!("http://{page}/")).await;
    // What cannot be read looks like a failure to the page; `opaque` shows that the call came to the daemon.
    for said in ["json: TypeError", "unasked: opaque", "beacon: true", "read: TypeError", "done"] {
        assert!(dom.contains(said), "no {said:?} in {dom}");
    }
    // A name that whoever owns it lets point to this host.
    let rebound = format!("http://evil.test:{}/openapi.json", served.address.port());
    let dom = shown(&browser, &["--host-resolver-rules=MAP evil.test 127.0.0.1"], &rebound).await;
    assert!(dom.contains("misdirected_request") && !dom.contains("openapi\":"), "{dom}");
    let own = format!("http://{}/openapi.json", served.address);
    let dom = shown(&browser, &[], &own).await;
    assert!(dom.contains("3.1.0"), "the same page is there under its own name: {dom}");
    assert_eq!(served.end().await, [0, 0, 0]);
}
