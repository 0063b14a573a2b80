//! Against a server that is slow, gone, wrong, or lies.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const MLMODEL: &str = "flavors:\n  onnx:\n    data: model.onnx\n";
const ARTIFACTS: &str = "/api/2.0/mlflow-artifacts/artifacts";

/// What a server does after a request.
enum Answer {
    /// Sends this and closes.
    Send(Vec<u8>),
    /// Sends this and says no more.
    Hold(Vec<u8>),
}

fn with_status(status: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Send(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes())
}

fn ok(body: &str) -> Option<Answer> {
    Some(with_status("200 OK", body))
}

fn raw(text: impl Into<Vec<u8>>) -> Option<Answer> {
    Some(Answer::Send(text.into()))
}

/// A server, and the heads of the requests that came.
struct Fake {
    authority: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// A tracking server with version 3 of `lora`, whose answers to some targets are others.
async fn fake(special: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let (special, heads) = (Arc::new(special), Arc::clone(&asked));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (special, heads) = (Arc::clone(&special), Arc::clone(&heads));
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0 {}
                let head = String::from_utf8_lossy(&head).into_owned();
                let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                heads.lock().unwrap().push(head);
                let answer = special(&target).unwrap_or_else(|| usual(&target));
                let (Answer::Send(bytes) | Answer::Hold(bytes)) = &answer;
                let _ = stream.write_all(bytes).await;
                if let Answer::Hold(_) = answer {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    Fake { authority, asked }
}

fn usual(target: &str) -> Answer {
    let body = match target.strip_prefix("/api/2.0/mlflow").unwrap_or(target) {
        "/registered-models/alias?name=lora&alias=live" | "/model-versions/get?name=lora&version=3" => {
            r#"{"model_version": {"name": "lora", "version": "3", "status": "READY",
                "source": "models:/m-1", "run_id": "", "last_updated_timestamp": 1795852317849}}"#
        }
        "/model-versions/get-download-uri?name=lora&version=3" => {
            r#"{"artifact_uri": "mlflow-artifacts:/0/models/m-1/artifacts"}"#
        }
        "-artifacts/artifacts?path=0%2Fmodels%2Fm-1%2Fartifacts" => {
            r#"{"files": [{"path": "MLmodel", "is_dir": false, "file_size": 37},
                {"path": "extra_files", "is_dir": true},
                {"path": "model.onnx", "is_dir": false, "file_size": "4"}]}"#
        }
        "-artifacts/artifacts?path=0%2Fmodels%2Fm-1%2Fartifacts%2Fextra_files" => {
            r#"{"files": [{"path": "model.toml", "is_dir": false, "file_size": 2}]}"#
        }
        "-artifacts/artifacts/0/models/m-1/artifacts/MLmodel" => MLMODEL,
        "-artifacts/artifacts/0/models/m-1/artifacts/model.onnx" => "onnx",
        "-artifacts/artifacts/0/models/m-1/artifacts/extra_files/model.toml" => "[]",
        _ => return with_status("404 NOT FOUND", r#"{"error_code": "NO", "message": "nothing\nthere"}"#),
    };
    with_status("200 OK", body)
}

impl Fake {
    fn client(&self, userinfo: &str) -> Mlflow {
        let patience = Patience { api: Duration::from_millis(300), stall: Duration::from_millis(300) };
        let url = format!("http://{userinfo}{}", self.authority);
        Mlflow::with(&url, "lora", Which::Alias("live".into()), &Credentials::default(), patience).unwrap()
    }

    async fn offers(&self) -> Result<Vec<Offer>, RegistryError> {
        self.client("me:s3cret@").offers().await
    }

    /// The files of the bundle.
    async fn fetched(&self, max_bytes: u64) -> Result<Vec<(String, String)>, RegistryError> {
        let client = self.client("me:s3cret@");
        let stamp = "models:/m-1  1795852317849".to_owned();
        let offer =
            Offer { name: "lora".into(), version: "3".into(), stamp, is_meant: true, aliases: Vec::new() };
        let folder = tempfile::tempdir().unwrap();
        client.fetch(&offer, folder.path(), max_bytes).await?;
        let mut files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        files.sort_by_key(std::fs::DirEntry::file_name);
        let read = |file: std::fs::DirEntry| {
            (
                file.file_name().into_string().unwrap(),
                std::fs::read_to_string(file.path()).unwrap_or_default(),
            )
        };
        Ok(files.into_iter().map(read).collect())
    }

    /// That another try may help.
    #[track_caller]
    fn unreachable<T: std::fmt::Debug>(answer: Result<T, RegistryError>, parts: &[&str]) {
        let Err(Unreachable(text)) = answer else { panic!("{answer:?}") };
        says(&text, parts);
    }

    /// That what is there cannot be used.
    #[track_caller]
    fn refused<T: std::fmt::Debug>(answer: Result<T, RegistryError>, parts: &[&str]) {
        let Err(Refused(text)) = answer else { panic!("{answer:?}") };
        says(&text, parts);
    }
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in ["lora"].iter().chain(parts) {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    let never = ["s3cret", "bWU6", "\n"];
    assert!(!never.iter().any(|secret| text.contains(secret)), "{text}");
}

/// A tracking server that answers this where the target ends so.
async fn where_ends(end: &'static str, answer: impl Fn() -> Option<Answer> + Send + Sync + 'static) -> Fake {
    fake(move |target| target.ends_with(end).then(&answer).flatten()).await
}

#[tokio::test]
async fn an_alias_is_offered_and_fetched_with_credentials() {
    let server = fake(|_| None).await;
    let offers = server.offers().await.unwrap();
    assert_eq!((offers[0].name.as_str(), offers[0].version.as_str()), ("lora", "3"));
    assert!(offers[0].is_meant && offers[0].stamp == "models:/m-1  1795852317849", "{offers:?}");
    let files = [("model.onnx", "onnx"), ("model.toml", "[]")];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(server.fetched(6).await.unwrap(), files);
    let asked = server.asked.lock().unwrap();
    assert!(asked.iter().all(|head| head.to_lowercase().contains("authorization: basic ")), "{asked:?}");
}

#[tokio::test]
async fn a_server_that_is_slow_or_gone_may_come_back() {
    let slow = fake(|_| Some(Answer::Hold(Vec::new()))).await;
    Fake::unreachable(slow.offers().await, &["alias `live`", "no answer within 300ms"]);
    let trickles = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{";
    let trickles = fake(|_| Some(Answer::Hold(trickles.to_vec()))).await;
    Fake::unreachable(trickles.offers().await, &["no answer within 300ms"]);
    let gone = Fake {
        authority: TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string(),
        asked: Arc::default(),
    };
    Fake::unreachable(gone.offers().await, &["refused"]);
    let busy = fake(|_| Some(with_status("503 Service Unavailable", "<html>"))).await;
    Fake::unreachable(busy.offers().await, &["503"]);
    let stalls = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\non";
    let stalls = where_ends("model.onnx", || Some(Answer::Hold(stalls.to_vec()))).await;
    Fake::unreachable(stalls.fetched(100).await, &["version 3", "model.onnx", "not a byte for 300ms"]);
}

#[tokio::test]
async fn what_a_server_refuses_is_said() {
    let closed = fake(|_| Some(with_status("401 Unauthorized", "You are not authenticated."))).await;
    Fake::refused(closed.offers().await, &["401", "user:password@", "MLFLOW_TRACKING_TOKEN"]);
    let message = r#"{"error_code": "INVALID", "message": "Registered model alias live not found."}"#;
    let none = fake(move |_| Some(with_status("400 BAD REQUEST", message))).await;
    Fake::refused(none.offers().await, &["alias `live`", "alias live not found"]);
    Fake::refused(fake(|_| ok("<html>hello")).await.offers().await, &["no answer of an MLflow server"]);
    let huge = fake(|_| ok(&"x".repeat(5 << 20))).await;
    Fake::refused(huge.offers().await, &["more than 4194304 bytes"]);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = fake(|_| None).await;
    let to = format!("HTTP/1.1 302 Found\r\nLocation: http://{}/?k=s3cret\r\n\r\n", other.authority);
    let moved = fake(move |_| raw(to.clone())).await;
    Fake::refused(moved.offers().await, &["redirects to 127.0.0.1", "url must be"]);
    assert!(other.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn wrong_versions_are_refused() {
    let version = |name: &str, version: &str, status: &str| {
        let fields = format!(r#""name": "{name}", "version": "{version}", "status": "{status}""#);
        let text = format!(r#"{{"model_version": {{{fields}}}}}"#);
        fake(move |_| ok(&text))
    };
    Fake::refused(version("other", "3", "READY").await.offers().await, &["`other`"]);
    Fake::refused(version("lora", "../3", "READY").await.offers().await, &["`../3`"]);
    Fake::refused(version("lora", "03", "READY").await.offers().await, &["`03`"]);
    Fake::refused(version("lora", "3", "FAILED_REGISTRATION").await.offers().await, &["must be READY"]);
    Fake::unreachable(version("lora", "3", "PENDING_REGISTRATION").await.offers().await, &["still"]);
}

#[tokio::test]
async fn truncated_files_are_not_taken() {
    let ends_early = where_ends("model.onnx", || raw("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\non")).await;
    Fake::unreachable(ends_early.fetched(100).await, &["model.onnx"]);
    let is_short = where_ends("model.onnx", || ok("on")).await;
    Fake::unreachable(is_short.fetched(100).await, &["it comes with 2 bytes, its list says 4"]);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let is_short = where_ends("model.onnx", move || raw(format!("{chunked}2\r\non\r\n0\r\n\r\n"))).await;
    Fake::unreachable(is_short.fetched(100).await, &["came 2 bytes, its list says 4"]);
    let no_end = where_ends("model.onnx", move || raw(format!("{chunked}4\r\nonnx\r\n"))).await;
    Fake::unreachable(no_end.fetched(100).await, &["model.onnx"]);
    let closes = where_ends("model.onnx", || raw("HTTP/1.1 200 OK\r\n\r\non")).await;
    Fake::unreachable(closes.fetched(100).await, &["came 2 bytes"]);
}

#[tokio::test]
async fn a_file_whose_end_nothing_shows_is_refused() {
    let list = r#"{"files": [{"path": "MLmodel"}, {"path": "model.onnx"}, {"path": "model.toml"}]}"#;
    let server = fake(move |target| match target {
        _ if target.ends_with("?path=0%2Fmodels%2Fm-1%2Fartifacts") => ok(list),
        _ if target.ends_with("model.onnx") => raw("HTTP/1.1 200 OK\r\n\r\nonnx"),
        _ => None,
    });
    Fake::refused(server.await.fetched(100).await, &["model.onnx", "without a length"]);
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    Fake::refused(fake(|_| None).await.fetched(5).await, &["has 6 bytes, may have 5"]);
    // What the list says is not all that comes.
    let list = r#"{"files": [{"path": "MLmodel"}, {"path": "model.onnx"}, {"path": "model.toml"}]}"#;
    let chunk = format!("3E8\r\n{}\r\n", "x".repeat(1000));
    let endless = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(100));
    for file in [raw(endless), ok(&"x".repeat(2000))] {
        let file = Mutex::new(file);
        let server = fake(move |target| match target {
            _ if target.ends_with("?path=0%2Fmodels%2Fm-1%2Fartifacts") => ok(list),
            _ if target.ends_with("model.onnx") => file.lock().unwrap().take(),
            _ => None,
        });
        Fake::refused(server.await.fetched(1500).await, &["model.onnx", "more bytes than are left, 1500"]);
    }
    let many: Vec<_> = (0..1001).map(|n| format!(r#"{{"path": "{n}"}}"#)).collect();
    let many = format!(r#"{{"files": [{}]}}"#, many.join(","));
    let server = where_ends("%2Fartifacts", move || ok(&many)).await;
    Fake::refused(server.fetched(100).await, &["more than 1000 files"]);
    let deep = fake(|target| {
        let is_list = target.starts_with(&format!("{ARTIFACTS}?"));
        is_list.then(|| ok(r#"{"files": [{"path": "a", "is_dir": true}]}"#)).flatten()
    });
    Fake::refused(deep.await.fetched(100).await, &["more than 8 folders"]);
}

#[tokio::test]
async fn paths_that_leave_the_folder_are_refused() {
    for path in ["..", "../model.onnx", "/etc/passwd", "a\\\\b", "a/../../b", ""] {
        let list = format!(r#"{{"files": [{{"path": "MLmodel"}}, {{"path": "{path}"}}]}}"#);
        let server = where_ends("%2Fartifacts", move || ok(&list)).await;
        Fake::refused(server.fetched(100).await, &["not accepted"]);
    }
    let server = where_ends("MLmodel", || ok("flavors:\n  onnx:\n    data: ../m.onnx\n")).await;
    Fake::refused(server.fetched(100).await, &["`..`"]);
    let server = at("mlflow-artifacts:/0/../../other").await;
    Fake::refused(server.fetched(100).await, &["mlflow-artifacts: path is not accepted"]);
}

#[tokio::test]
async fn what_changes_meanwhile_is_fetched_again() {
    let newer = r#"{"model_version": {"name": "lora", "version": "3", "last_updated_timestamp": 2}}"#;
    let server = where_ends("get?name=lora&version=3", move || ok(newer)).await;
    Fake::unreachable(server.fetched(100).await, &["changed since it was offered"]);
    let times = Mutex::new(0);
    let list = r#"{"files": [{"path": "MLmodel"}, {"path": "model.onnx", "file_size": 4},
                   {"path": "model.toml", "file_size": 2}, {"path": "conda.yaml", "file_size": TIMES}]}"#;
    let server = fake(move |target| {
        let mut times = times.lock().unwrap();
        *times += 1;
        let list = list.replace("TIMES", &times.to_string());
        let toml = target.ends_with("model.toml").then(|| ok("[]")).flatten();
        target.ends_with("%2Fartifacts").then(|| ok(&list)).flatten().or(toml)
    });
    Fake::unreachable(server.await.fetched(100).await, &["changed while they were fetched"]);
}

/// A tracking server whose version lies there.
async fn at(uri: &str) -> Fake {
    let answer = format!(r#"{{"artifact_uri": "{uri}"}}"#);
    fake(move |target| target.contains("get-download-uri").then(|| ok(&answer)).flatten()).await
}

#[tokio::test]
async fn artifacts_of_another_host_are_asked_for_without_credentials() {
    let other = fake(|_| None).await;
    let server = at(&format!("mlflow-artifacts://{}/0/models/m-1/artifacts", other.authority)).await;
    assert_eq!(server.fetched(100).await.unwrap().len(), 2);
    let asked = other.asked.lock().unwrap();
    assert!(asked.len() > 4 && !asked.iter().any(|head| head.to_lowercase().contains("authoriz")));
}

#[tokio::test]
async fn stores_that_are_not_read_are_named_without_their_secrets() {
    for (uri, scheme) in [
        ("s3://me:s3cret@bucket/x", "s3:"),
        ("gs://bucket/x", "gs:"),
        ("wasbs://me@s3cret/x", "wasbs:"),
        ("dbfs:/x", "dbfs:"),
        ("models:/m-1", "models:"),
        ("https://me:s3cret@host/x", "https:"),
    ] {
        let parts = [scheme, "mlflow-artifacts:", "mounted here"];
        Fake::refused(at(uri).await.fetched(100).await, &parts);
    }
    for uri in ["./mlruns/0", "file:mlruns", "file://host/x", "/a/../b", ""] {
        let answer = at(uri).await.fetched(100).await;
        Fake::refused(answer, &[]);
    }
    let gone = at("file:///no/such/folder").await.fetched(100).await;
    Fake::refused(gone, &["/no/such/folder, which is not there", "mount it here"]);
}

#[tokio::test]
async fn a_mounted_folder_is_read_as_it_lies() {
    let mounted = tempfile::tempdir().unwrap();
    let folder = mounted.path().join("a model");
    std::fs::create_dir_all(folder.join("extra_files")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("MLmodel", MLMODEL);
    write("model.onnx", "onnx");
    write("weights.bin", "w");
    write("extra_files/model.toml", "[]");
    for uri in [format!("file://{}", folder.display()).replace(' ', "%20"), folder.display().to_string()] {
        let files = at(&uri).await.fetched(100).await.unwrap();
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["model.onnx", "model.toml", "weights.bin"]);
        assert_eq!(files[0].1, "onnx");
    }
    let server = at(&folder.display().to_string()).await;
    Fake::refused(server.fetched(6).await, &["has 7 bytes, may have 6"]);
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
    Fake::refused(server.fetched(100).await, &["link is neither a file nor a folder"]);
}

#[test]
fn names_and_versions_are_those_of_folders() {
    let new = |model: &str, version: &str| {
        let which = Which::Version(version.to_owned());
        Mlflow::with("http://h:1", model, which, &Credentials::default(), Patience::default()).map(drop)
    };
    assert_eq!(new("lora", "12"), Ok(()));
    for (model, version) in
        [("", "1"), (".x", "1"), ("a/b", "1"), ("a\\b", "1"), ("a@b", "1"), ("lora", "01"), ("lora", "x")]
    {
        assert!(matches!(new(model, version), Err(Refused(_))), "{model} {version}");
    }
}
