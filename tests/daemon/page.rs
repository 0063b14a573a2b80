//! The operator's page in a real browser: `ops/judges/page.py` says what each check holds.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::http_client::Served;
use crate::support::*;

const TOKEN: &str = "secret";

/// The Python with the browser's driver; `None` where a tool is missing, which is said.
fn judge() -> Option<PathBuf> {
    let python = sferic_tools::places("judges/page/bin/python").find(|path| path.exists());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).exists());
    let (Some(python), true) = (python, has("chromium") || has("chromium-browser")) else {
        sferic_tools::skip(
            "a browser or its driver is not there; run ops/setup judges, ops/setup debian chromium",
        );
        return None;
    };
    tools_are_there().then_some(python)
}

async fn run(python: &Path, arguments: &[&str], within: Duration) -> String {
    let judging = Command::new(python)
        .arg("ops/judges/page.py")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let judged = tokio::time::timeout(within, judging).await.expect("it does not end").unwrap();
    let text = String::from_utf8_lossy(&judged.stdout).into_owned();
    assert!(judged.status.success(), "{text}{}", String::from_utf8_lossy(&judged.stderr));
    text
}

/// Runs a check against a daemon of its own.
async fn check(name: &str, more: &[&str], change: impl FnOnce(&mut sferic_settings::Settings)) {
    let Some(python) = judge() else { return };
    let served = Served::start(&["degrees"], change).await;
    let (page, nats) = (format!("http://{}/", served.address), served.server.url().to_owned());
    let arguments = [&[name, "--page", &page, "--nats", &nats][..], more].concat();
    let said = run(&python, &arguments, Duration::from_secs(240)).await;
    eprintln!("{said}");
    drop(served);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ellipse_lies_where_its_geojson_says() {
    check("map", &[], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_the_waterfall_equals_the_spectrum() {
    check("waterfall", &[], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_accessible_in_both_themes_on_a_phone_and_by_keyboard() {
    check("looks", &[], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_is_what_watch_prints() {
    check("exports", &["--sferic", env!("CARGO_BIN_EXE_sferic")], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_the_token_sees_and_acts() {
    check("control", &[], |settings| settings.http.token = TOKEN.to_owned()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streets_of_a_file_are_drawn() {
    let Some(python) = judge() else { return };
    let folder = TempDir::new().unwrap();
    for kind in ["picture", "vectors"] {
        let below = folder.path().join(kind);
        std::fs::create_dir(&below).unwrap();
        let map = below.join("world.pmtiles");
        run(&python, &["write-streets", map.to_str().unwrap(), kind], PATIENCE).await;
        check("streets", &["--folder", below.to_str().unwrap()], |settings| {
            settings.http.token = TOKEN.to_owned();
            settings.page.basemap = map.clone();
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_says_nothing_is_not_shown_as_well() {
    let Some(python) = judge() else { return };
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let world = World::start(&["degrees"], &[("HTTP__LISTEN", &listen)]).await;
    let (page, pid) = (format!("http://{listen}/"), world.daemon.pid().to_string());
    run(&python, &["frozen", "--page", &page, "--pid", &pid], Duration::from_secs(120)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_fixes_a_second_are_drawn_in_a_flat_heap() {
    check("flow", &["--seconds", "60"], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_opens_scenes_on_the_page() {
    let Some(python) = judge() else { return };
    let folder = TempDir::new().unwrap();
    let mut command = sferic(&["demo", "--page"]);
    command.env("SFERIC__HTTP__LISTEN", "127.0.0.1:0").current_dir(env!("CARGO_MANIFEST_DIR"));
    let mut demo = command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut talk = BufReader::new(demo.stderr.take().unwrap()).lines();
    let line = tokio::time::timeout(2 * PATIENCE, talk.next_line()).await.unwrap().unwrap().unwrap();
    let page = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let page = page.trim_end_matches(';');
    // Where the pictures of the documentation are to be made anew.
    let pictures = match std::env::var_os("SFERIC_WRITE_DOCS") {
        Some(_) => Path::new(env!("CARGO_MANIFEST_DIR")).join("docs"),
        None => folder.path().to_owned(),
    };
    let seconds = if std::env::var_os("SFERIC_WRITE_DOCS").is_some() { "45" } else { "3" };
    let arguments =
        ["pictures", "--page", page, "--folder", pictures.to_str().unwrap(), "--seconds", seconds];
    run(&python, &arguments, Duration::from_secs(300)).await;
    interrupt(&mut demo).await;
}

/// Ends the demo as Ctrl-C does, and checks that it ends well.
async fn interrupt(demo: &mut tokio::process::Child) {
    let pid = demo.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let ended = tokio::time::timeout(PATIENCE, demo.wait()).await.expect("it does not end").unwrap();
    assert!(ended.success(), "{ended}");
}
