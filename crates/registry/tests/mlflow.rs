//! Against real MLflow servers, one of which asks for a password.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sferic_registry::{Mlflow, Offer, Registry, RegistryError, Which};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Two servers start, each of them in seconds.
const PATIENCE: Duration = Duration::from_secs(200);

/// Enough for every model here.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Servers {
    open: String,
    guarded: String,
    user: String,
    password: String,
}

/// A version as MLflow's own client downloads it: digests by path.
#[derive(Deserialize)]
struct Logged {
    version: String,
    files: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Done {}

/// The judge, who keeps the servers and logs models.
struct Judge {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Judge {
    /// `None` where MLflow is not installed.
    async fn start(folder: &Path) -> Option<(Self, Servers)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let below = root.join(".tools/judges/mlflow/bin/python");
        let mut python = sferic_tools::places("judges/mlflow/bin/python").chain([below]);
        let Some(python) = python.find(|path| path.exists()) else {
            sferic_tools::skip("MLflow is not there; run ops/setup judges");
            return None;
        };
        let mut child = Command::new(python)
            .arg(root.join("ops/judges/mlflow_server.py"))
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut judge = Self { input: child.stdin.take().unwrap(), output, child };
        let servers = judge.answer().await;
        Some((judge, servers))
    }

    async fn answer<T: DeserializeOwned>(&mut self) -> T {
        let line = timeout(PATIENCE, self.output.next_line()).await.expect("no answer in time").unwrap();
        serde_json::from_str(&line.expect("the judge ended, and says above why")).unwrap()
    }

    async fn asked<T: DeserializeOwned>(&mut self, command: &str) -> T {
        self.input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        self.answer().await
    }

    /// Ends the servers.
    async fn end(mut self) {
        drop(self.input);
        assert!(timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap().success());
    }
}

fn live(url: &str, model: &str) -> Mlflow {
    Mlflow::new(url, model, Which::Alias("live".into())).unwrap()
}

async fn offered(client: &Mlflow) -> Offer {
    let mut offers = client.offers().await.unwrap();
    assert_eq!(offers.len(), 1);
    offers.remove(0)
}

fn refused<T: std::fmt::Debug>(answer: Result<T, RegistryError>) -> String {
    match answer {
        Err(RegistryError::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// What is fetched, by MLflow's paths, is what MLflow itself downloads.
async fn fetches(client: &Mlflow, offer: &Offer, logged: &Logged, files: &[(&str, &str)]) {
    use sha2::{Digest, Sha256};

    let folder = tempfile::tempdir().unwrap();
    client.fetch(offer, folder.path(), MAX_BYTES).await.unwrap();
    for (from, to) in files {
        let bytes = std::fs::read(folder.path().join(to)).unwrap();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, logged.files[*from], "{to}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), files.len());
}

#[tokio::test]
async fn versions_are_fetched_as_they_were_logged() {
    let folder = tempfile::tempdir().unwrap();
    let Some((mut judge, servers)) = Judge::start(folder.path()).await else { return };
    let client = live(&servers.open, "degrees");
    let error = refused(client.offers().await);
    assert!(error.contains("degrees") && error.contains("not found"), "{error}");

    let first: Logged = judge.asked("log degrees").await;
    let error = refused(client.offers().await);
    assert!(error.contains("alias `live`") && error.contains("not found"), "{error}");
    let Done {} = judge.asked("alias degrees live 1").await;
    let offer = offered(&client).await;
    assert_eq!((offer.name.as_str(), &offer.version, offer.is_meant), ("degrees", &first.version, true));
    assert_eq!(offered(&client).await, offer, "nothing changed");
    let files = [("model.onnx", "model.onnx"), ("extra_files/model.toml", "model.toml")];
    fetches(&client, &offer, &first, &files).await;
    let empty = tempfile::tempdir().unwrap();
    assert!(refused(client.fetch(&offer, empty.path(), 100).await).contains("may have 100"));

    // The alias moves to a version whose model.toml is added afterwards.
    let second: Logged = judge.asked("log degrees late").await;
    assert_eq!(offered(&client).await, offer, "the alias stays");
    let Done {} = judge.asked("alias degrees live 2").await;
    let moved = offered(&client).await;
    assert_eq!(moved.version, "2");
    assert_ne!(moved.stamp, offer.stamp);
    fetches(&client, &moved, &second, &[("model.onnx", "model.onnx"), ("model.toml", "model.toml")]).await;
    let fixed = Mlflow::new(&servers.open, "degrees", Which::Version("1".into())).unwrap();
    assert_eq!((&offer.aliases, &moved.aliases), (&vec!["live".to_owned()], &vec!["live".to_owned()]));
    assert_eq!(offered(&fixed).await, Offer { aliases: Vec::new(), ..offer });

    // A version without model.toml, and one with weights in a file of their own.
    let _: Logged = judge.asked("log degrees bare").await;
    let bare = Mlflow::new(&servers.open, "degrees", Which::Version("3".into())).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let error = refused(bare.fetch(&offered(&bare).await, empty.path(), MAX_BYTES).await);
    assert!(error.contains("extra_files=["), "{error}");
    let external: Logged = judge.asked("log external external").await;
    let client = Mlflow::new(&servers.open, "external", Which::Version("1".into())).unwrap();
    let files = [&files[..], &[("weights.bin", "weights.bin")]].concat();
    fetches(&client, &offered(&client).await, &external, &files).await;

    let Done {} = judge.asked("guarded").await;
    let logged: Logged = judge.asked("log degrees").await;
    let Done {} = judge.asked("alias degrees live 1").await;
    let error = refused(live(&servers.guarded, "degrees").offers().await);
    assert!(error.contains("401") && error.contains("user:password@"), "{error}");
    let with = |password: &str| {
        let host = servers.guarded.strip_prefix("http://").unwrap();
        live(&format!("http://{}:{password}@{host}", servers.user), "degrees")
    };
    let error = refused(with("wrong").offers().await);
    assert!(error.contains("401") && !error.contains("wrong"), "{error}");
    let client = with(&servers.password.replace('%', "%25"));
    fetches(&client, &offered(&client).await, &logged, &files[..2]).await;
    judge.end().await;
}
