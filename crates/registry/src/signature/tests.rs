//! Signatures made here and by the Python tool, and bundles that they do not fit.

use std::path::PathBuf;
use std::process::Command;

use super::*;

/// From `openssl ecparam -name prime256v1 -genkey -noout` and `openssl ec -pubout`; PKCS #8 the second.
pub(crate) const KEYS: [(&str, &str); 2] = [
    (
        "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEILfxfVLttDhb+04sq1pFgMQZvfG3wWK9HWohkAZ7xwxSoAoGCCqGSM49
AwEHoUQDQgAErCeOoCLgtaj3TCci+WE0vh295NSeikAa+US6EPfRzQghZbR10yVO
n7izifBvXaknOk9JPURW7cZpN4e4Xr1W/A==
-----END EC PRIVATE KEY-----",
        "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAErCeOoCLgtaj3TCci+WE0vh295NSe
ikAa+US6EPfRzQghZbR10yVOn7izifBvXaknOk9JPURW7cZpN4e4Xr1W/A==
-----END PUBLIC KEY-----",
    ),
    (
        "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgn6V8vVR1Su6y1glk
njTza/RtPvsQ/3HRd2dQ5TT2AHuhRANCAAQMkXOV2CnCNisDsDjaQccrT4Vi5C0Y
2PIejjyuqaErvW3FZcg+3K3ej1HtLP5/Ewek33+oZX7ZcAzvcO4cwR79
-----END PRIVATE KEY-----",
        "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEDJFzldgpwjYrA7A42kHHK0+FYuQt
GNjyHo48rqmhK71txWXIPtyt3o9R7Sz+fxMHpN9/qGV+2XAM73DuHMEe/Q==
-----END PUBLIC KEY-----",
    ),
];

const MAX: u64 = 1 << 20;

/// A bundle's folder beside the files of both keys.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(world.bundle().join("data")).unwrap();
        for name in ["model.onnx", "model.toml", "data.bin", "data/weights"] {
            fs::write(world.bundle().join(name), name).unwrap();
        }
        for (n, (private, public)) in KEYS.iter().enumerate() {
            fs::write(world.path(&format!("{n}.pem")), private).unwrap();
            fs::write(world.path(&format!("{n}.pub")), public).unwrap();
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn bundle(&self) -> PathBuf {
        self.path("m/1")
    }

    fn sign(&self, key: usize) {
        let key = PrivateKey::read(&self.path(&format!("{key}.pem"))).unwrap();
        fs::write(self.bundle().join(SIGNATURE), sign(&self.bundle(), &key, MAX).unwrap()).unwrap();
    }

    fn check(&self) -> Result<(), String> {
        let keys = TrustedKeys::read(&[self.path("0.pub").to_str().unwrap().to_owned()]);
        keys.unwrap().unwrap().check(&self.bundle(), MAX)
    }

    #[track_caller]
    fn refused(&self, part: &str) {
        let error = self.check().unwrap_err();
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }

    /// Changes the signed statement, and signs the new one.
    fn restate(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let path = self.bundle().join(SIGNATURE);
        let mut bundle: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
        let mut statement = serde_json::from_slice(&payload).unwrap();
        change(&mut statement);
        let payload = statement.to_string().into_bytes();
        let key = PrivateKey::read(&self.path("0.pem")).unwrap();
        let signature = STANDARD.encode(key.sign(&pre_authentication(&payload)).unwrap());
        bundle["dsseEnvelope"]["payload"] = STANDARD.encode(payload).into();
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = signature.into();
        fs::write(path, bundle.to_string()).unwrap();
    }
}

/// Runs the Python tool; `None` where it is not there.
fn judge(world: &World, arguments: &[&str]) -> Option<bool> {
    let tool = sferic_tools::places("judges/signing/bin/model_signing").find(|path| path.exists());
    let Some(tool) = tool else {
        sferic_tools::skip("model_signing is not there; run ops/setup judges");
        return None;
    };
    let done = Command::new(tool).args(arguments).current_dir(world.0.path()).output().unwrap();
    eprintln!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    Some(done.status.success())
}

fn judge_verifies(world: &World) -> Option<bool> {
    judge(world, &["verify", "key", "m/1", "--public_key", "0.pub", "--signature", "m/1/model.sig"])
}

#[test]
fn what_the_python_tool_signs_is_trusted() {
    for key in ["0.pem", "1.pem"] {
        let world = World::new();
        let sign = ["sign", "key", "m/1", "--private_key", key, "--signature", "m/1/model.sig"];
        let Some(signed) = judge(&world, &sign) else { return };
        assert!(signed);
        if key == "0.pem" {
            assert_eq!(world.check(), Ok(()));
            fs::write(world.bundle().join("data/weights"), "other").unwrap();
        }
        assert!(world.check().is_err());
    }
}

#[test]
fn the_python_tool_trusts_what_is_signed_here() {
    let world = World::new();
    world.sign(0);
    fs::write(world.bundle().join(SOURCE), "nats:models\n").unwrap();
    let Some(trusted) = judge_verifies(&world) else { return };
    assert!(trusted);
    fs::write(world.bundle().join("data/weights"), "other").unwrap();
    assert_eq!(judge_verifies(&world), Some(false));
    world.sign(1);
    assert_eq!(judge_verifies(&world), Some(false));
}

#[test]
fn other_methods_of_the_python_tool_are_refused_by_name() {
    let world = World::new();
    let script = "import model_signing as m
c = m.hashing.Config()
METHOD
m.signing.Config().use_elliptic_key_signer(private_key='0.pem').set_hashing_config(
    c.set_ignored_paths(paths=['m/1/model.sig'])).sign('m/1', 'm/1/model.sig')";
    for (method, part) in [
        ("c.use_shard_serialization()", "method is `shards`"),
        ("c.use_file_serialization(hashing_algorithm='blake2')", "hash_type is `blake2"),
    ] {
        let python = sferic_tools::places("judges/signing/bin/python").find(|path| path.exists());
        let Some(python) = python else {
            return sferic_tools::skip("model_signing is not there; run ops/setup judges");
        };
        let script = script.replace("METHOD", method);
        let done = Command::new(python).args(["-c", &script]).current_dir(world.0.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        world.refused(part);
    }
}

#[test]
fn a_bundle_is_trusted_as_it_was_signed() {
    let world = World::new();
    world.refused("it is not signed");
    world.sign(1);
    world.refused("not made with any of models.trusted_keys");
    world.sign(0);
    assert_eq!(world.check(), Ok(()));
    // What the installation writes.
    fs::write(world.bundle().join(SOURCE), "nats:models\n").unwrap();
    assert_eq!(world.check(), Ok(()));

    fs::write(world.bundle().join("data/more"), "").unwrap();
    world.refused("does not list data/more");
    fs::remove_file(world.bundle().join("data/more")).unwrap();
    fs::rename(world.bundle().join("data.bin"), world.path("away")).unwrap();
    world.refused("data.bin is listed, but not there");
    fs::write(world.bundle().join("data.bin"), "data.bim").unwrap();
    world.refused("data.bin has the SHA-256");
    fs::rename(world.path("away"), world.bundle().join("data.bin")).unwrap();
    assert_eq!(world.check(), Ok(()));
    fs::write(world.bundle().join(SIGNATURE), "{}").unwrap();
    world.refused("no Sigstore bundle");
    fs::remove_file(world.bundle().join(SIGNATURE)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", world.bundle().join(SIGNATURE)).unwrap();
    world.refused("not a regular file");
}

#[test]
fn a_statement_that_is_not_as_expected_is_refused() {
    type Change = fn(&mut serde_json::Value);
    let changes: [(Change, &str); 8] = [
        (|of| of["_type"] = "x".into(), "_type is `x`"),
        (|of| of["predicateType"] = "y".into(), "predicateType is `y`"),
        (|of| of["predicate"]["serialization"]["method"] = "shards".into(), "method is `shards`"),
        (|of| of["predicate"]["serialization"]["hash_type"] = "blake3".into(), "hash_type is `blake3`"),
        (|of| of["predicate"]["resources"][1]["algorithm"] = "md5".into(), "algorithm is `md5`"),
        (|of| of["predicate"]["resources"][1]["digest"] = "00".into(), "digest of data.bin"),
        (|of| of["subject"][0]["digest"]["sha256"] = "0".repeat(64).into(), "subject's digest"),
        (|of| of["predicate"]["resources"][1]["name"] = "model.onnx".into(), "lists model.onnx twice"),
    ];
    for (change, part) in changes {
        let world = World::new();
        world.sign(0);
        world.restate(change);
        world.refused(part);
    }
}
