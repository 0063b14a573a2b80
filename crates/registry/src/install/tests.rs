use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::keys::PrivateKey;
use super::super::signature::{self, KEYS};
use super::*;

const TOML: &str = "[output]\nkind = \"tensors\"\n";

/// A registry that has these files.
struct Fake {
    files: Vec<(&'static str, String)>,
    signed: bool,
    fetched: AtomicUsize,
}

impl Fake {
    fn new(onnx: &str) -> Self {
        // An empty message is a graph; an unknown field changes its bytes.
        let files = vec![("model.onnx", onnx.to_owned()), ("model.toml", TOML.to_owned())];
        Self { files, signed: false, fetched: AtomicUsize::new(0) }
    }

    fn with(mut self, name: &'static str, text: &str) -> Self {
        self.files.push((name, text.to_owned()));
        self
    }
}

impl Registry for Fake {
    fn label(&self) -> &str {
        "nats:models"
    }

    fn offers(&self) -> BoxFuture<'_, Result<Vec<Offer>, RegistryError>> {
        unreachable!()
    }

    fn fetch<'a>(
        &'a self,
        _: &'a Offer,
        folder: &'a Path,
        max_bytes: u64,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        self.fetched.fetch_add(1, Relaxed);
        for (name, text) in &self.files {
            fs::write(folder.join(name), text).unwrap();
        }
        if self.signed {
            let key = folder.join("../key.pem");
            fs::write(&key, KEYS[0].0).unwrap();
            let signed = signature::sign(folder, &PrivateKey::read(&key).unwrap(), max_bytes).unwrap();
            fs::write(folder.join("model.sig"), signed).unwrap();
        }
        async { Ok(()) }.boxed()
    }
}

fn offer(version: &str, stamp: &str) -> Offer {
    Offer {
        name: "m".into(),
        version: version.into(),
        stamp: stamp.into(),
        is_meant: false,
        aliases: Vec::new(),
    }
}

fn installer(folder: &Path, keys: &[&str]) -> Installer {
    let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    Installer::new(folder, 200, TrustedKeys::read(&keys).unwrap()).unwrap()
}

/// Everything below the folder that is not in a version's folder.
fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_version_is_installed_once_and_replaced_by_its_own_source() {
    let folder = tempfile::tempdir().unwrap();
    let repository = folder.path().join("made");
    let (installer, registry) = (installer(&repository, &[]), Fake::new(""));
    assert_eq!(installer.install(&registry, &offer("1", "a")).await, Ok(Installed::Added));
    assert_eq!(installer.install(&registry, &offer("1", "a")).await, Ok(Installed::Unchanged));
    assert_eq!(registry.fetched.load(Relaxed), 1);
    let registry = Fake::new("").with("more", "text");
    assert_eq!(installer.install(&registry, &offer("1", "b")).await, Ok(Installed::Replaced));
    assert_eq!(names(&repository.join("m/1")), [".source", "model.onnx", "model.toml", "more"]);
    assert_eq!(names(&repository), ["m"], "nothing is left of the old one");
}

#[tokio::test]
async fn a_version_from_elsewhere_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let (installer, registry) = (installer(folder.path(), &[]), Fake::new(""));
    fs::create_dir_all(folder.path().join("m/1")).unwrap();
    let error = installer.install(&registry, &offer("1", "a")).await.unwrap_err();
    assert!(error.to_string().contains("m/1 was put there by somebody"), "{error}");
    let other = r#"{"label": "mlflow:m", "stamp": "a"}"#;
    fs::write(folder.path().join("m/1/.source"), other).unwrap();
    let error = installer.install(&registry, &offer("1", "a")).await.unwrap_err();
    assert!(error.to_string().contains("m/1 came from mlflow:m"), "{error}");
    assert_eq!(registry.fetched.load(Relaxed), 0);
    assert_eq!(names(&folder.path().join("m/1")), [".source"]);
}

#[tokio::test]
async fn what_is_not_in_order_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let installer = installer(folder.path(), &[]);
    installer.install(&Fake::new(""), &offer("1", "a")).await.unwrap();
    for (registry, offered, part) in [
        (Fake::new(""), offer("01", "b"), "version `01`"),
        (Fake::new(""), offer("../1", "b"), "version `../1`"),
        (Fake::new(""), Offer { name: "../m".into(), ..offer("1", "b") }, "`../m` is no name"),
        (Fake::new(""), Offer { name: ".m".into(), ..offer("1", "b") }, "`.m` is no name"),
        (Fake::new("").with("large", &"x".repeat(200)), offer("1", "b"), "over models.max_bytes, 200"),
        (Fake::new("").with("model.toml", "[outputs]\n"), offer("1", "b"), "model.toml: line 1"),
        (Fake::new("<html>"), offer("1", "b"), "no ONNX file"),
    ] {
        let error = installer.install(&registry, &offered).await.unwrap_err();
        let RegistryError::Refused(error) = error else { panic!("{error}") };
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
    assert_eq!(names(folder.path()), ["m"]);
    assert_eq!(names(&folder.path().join("m")), ["1"]);
    assert_eq!(names(&folder.path().join("m/1")), [".source", "model.onnx", "model.toml"]);
}

#[tokio::test]
async fn with_trusted_keys_a_bundle_is_signed() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Fake { signed: true, ..Fake::new("") };
    let repository = folder.path().join("r");
    let with = |keys: &[&str]| Installer { max_bytes: 4096, ..installer(&repository, keys) };
    let wrong = with(&[KEYS[1].1]).install(&registry, &offer("1", "a")).await.unwrap_err();
    assert!(wrong.to_string().contains("not made with any of models.trusted_keys"), "{wrong}");
    let unsigned = with(&[KEYS[0].1]).install(&Fake::new(""), &offer("1", "a")).await.unwrap_err();
    assert!(unsigned.to_string().contains("it is not signed"), "{unsigned}");
    assert_eq!(names(&repository), [""; 0]);
    let installed = with(&[KEYS[1].1, KEYS[0].1]).install(&registry, &offer("1", "a")).await;
    assert_eq!(installed, Ok(Installed::Added));
}

#[test]
fn what_was_left_half_done_is_removed_and_what_is_in_use_stays() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(".incoming-left/bundle")).unwrap();
    fs::create_dir_all(folder.path().join(".hidden")).unwrap();
    let used = Staging::new(folder.path()).unwrap();
    installer(folder.path(), &[]);
    let name = used.folder.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(names(folder.path()), [".hidden", name]);
    let models = sferic_models::Repository::new(folder.path()).models().unwrap();
    assert_eq!(models, [], "they are not models");
}
