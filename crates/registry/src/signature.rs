//! Signatures of bundles: OpenSSF Model Signing v1 with a key (ECDSA, P-256, SHA-256).
//!
//! `model.sig` is a Sigstore bundle: a DSSE envelope around an in-toto statement that lists every file with
//! its digest. The Python tool `model-signing` writes and verifies the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use sferic_models::hexadecimal;
use sha2::{Digest, Sha256};

use super::files::{BundleFile, Links, SIGNATURE, SOURCE, digest, list};
use super::keys::{PrivateKey, PublicKey};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";

/// A signature with more bytes is not read: 400 for each of the most files that a bundle may have.
const MAX_BYTES: u64 = 4 << 20;

/// The public keys of which one must have signed a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKeys(Vec<PublicKey>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SigstoreBundle {
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: serde_json::Value,
}

#[derive(Deserialize)]
struct Subject {
    digest: SubjectDigest,
}

#[derive(Deserialize)]
struct SubjectDigest {
    sha256: String,
}

#[derive(Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

impl TrustedKeys {
    /// Reads the keys, each PEM text or the path of a PEM file; `None` where there are none, so that bundles
    /// need no signature.
    ///
    /// # Errors
    /// One cannot be read or is no public key of P-256.
    pub fn read(keys: &[String]) -> Result<Option<Self>, String> {
        let keys: Result<Vec<_>, _> = keys.iter().map(|key| PublicKey::read(key)).collect();
        Ok(Some(keys?).filter(|keys| !keys.is_empty()).map(Self))
    }

    /// Checks that one of the keys has signed the bundle in `folder` as it is: every file is listed with its
    /// digest, and none is there beside them but the signature and `.source`.
    ///
    /// # Errors
    /// In words, with the file or the value that is wrong.
    pub fn check(&self, folder: &Path, max_bytes: u64) -> Result<(), String> {
        let listed = self.signed_files(&folder.join(SIGNATURE))?;
        compare(folder, listed, max_bytes).map_err(|error| format!("{SIGNATURE}: {error}"))
    }

    /// The files that the signature lists, by name, once it is found to be made with one of the keys.
    fn signed_files(&self, path: &Path) -> Result<BTreeMap<String, String>, String> {
        let unsigned = |error| format!("it is not signed: can't read {}: {error}", path.display());
        // A link or a pipe would be read without a bound.
        let found = fs::symlink_metadata(path).map_err(unsigned)?;
        if !found.is_file() || found.len() > MAX_BYTES {
            return Err(format!("{SIGNATURE} is not a regular file of at most {MAX_BYTES} bytes"));
        }
        let text = fs::read(path).map_err(unsigned)?;
        let SigstoreBundle { dsse_envelope: envelope } = serde_json::from_slice(&text)
            .map_err(|error| format!("{SIGNATURE} is no Sigstore bundle with a DSSE envelope: {error}"))?;
        let decode = |text: &str| {
            STANDARD.decode(text).map_err(|error| format!("{SIGNATURE} holds no base64 text: {error}"))
        };
        expect("payloadType", &envelope.payload_type, PAYLOAD_TYPE)?;
        let payload = decode(&envelope.payload)?;
        let message = pre_authentication(&payload);
        let signatures: Result<Vec<_>, _> =
            envelope.signatures.iter().map(|signature| decode(&signature.sig)).collect();
        let is_signed = |signature: &Vec<u8>| self.0.iter().any(|key| key.has_signed(&message, signature));
        if !signatures?.iter().any(is_signed) {
            return Err(format!("{SIGNATURE} is not made with any of models.trusted_keys"));
        }
        files_of(&payload)
    }
}

/// Signs the bundle in `folder`; gives the text of its `model.sig`, which is not written.
///
/// # Errors
/// A file cannot be read or is no regular file, or they have more than `max_bytes` together.
pub fn sign(folder: &Path, key: &PrivateKey, max_bytes: u64) -> Result<Vec<u8>, String> {
    let mut all = Sha256::new();
    let mut resources = Vec::new();
    for file in signable(folder, max_bytes)? {
        let digest = digest(&file.path)?;
        all.update(digest);
        let digest = hexadecimal(&digest);
        resources.push(json!({"name": file.name, "algorithm": "sha256", "digest": digest}));
    }
    let real = folder.canonicalize().map_err(|error| format!("can't read {}: {error}", folder.display()))?;
    let name = real.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let all: [u8; 32] = all.finalize().into();
    let statement = json!({
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": hexadecimal(&all)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            // `.source` is written where the bundle is installed; the Python tool has to pass over it.
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": false,
                "ignore_paths": [SIGNATURE, SOURCE],
            },
            "resources": resources,
        },
    });
    let payload = statement.to_string().into_bytes();
    let signature = key.sign(&pre_authentication(&payload))?;
    let bundle = json!({
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": hexadecimal(&key.public().hint())},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": STANDARD.encode(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": STANDARD.encode(signature), "keyid": ""}],
        },
    });
    Ok(bundle.to_string().into_bytes())
}

/// The files that a signature covers.
fn signable(folder: &Path, max_bytes: u64) -> Result<Vec<BundleFile>, String> {
    let mut files = list(folder, Links::Followed, max_bytes)?;
    files.retain(|file| ![SIGNATURE, SOURCE].contains(&file.name.as_str()));
    Ok(files)
}

/// What is signed of a payload: DSSE's pre-authentication encoding.
fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The files that a signed statement lists, by name.
fn files_of(payload: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let wrong = |error| format!("{SIGNATURE} holds no statement of Model Signing: {error}");
    let statement: Statement = serde_json::from_slice(payload).map_err(wrong)?;
    expect("_type", &statement.kind, STATEMENT_TYPE)?;
    expect("predicateType", &statement.predicate_type, PREDICATE_TYPE)?;
    let Predicate { serialization, resources } =
        serde_json::from_value(statement.predicate).map_err(wrong)?;
    expect("method", &serialization.method, "files")?;
    expect("hash_type", &serialization.hash_type, "sha256")?;
    let [subject] = &statement.subject[..] else {
        return Err(format!("{SIGNATURE} has {} subjects, must have one", statement.subject.len()));
    };
    let mut all = Sha256::new();
    let mut files = BTreeMap::new();
    for Resource { name, algorithm, digest } in resources {
        expect("algorithm", &algorithm, "sha256")?;
        all.update(bytes(&digest).ok_or_else(|| format!("{SIGNATURE}: the digest of {name} is none"))?);
        if let Some(name) = files.insert(name.clone(), digest).map(|_| name) {
            return Err(format!("{SIGNATURE} lists {name} twice"));
        }
    }
    let all: [u8; 32] = all.finalize().into();
    expect("the subject's digest", &subject.digest.sha256, &hexadecimal(&all))?;
    Ok(files)
}

/// Compares the folder's files with those that are listed.
fn compare(folder: &Path, mut listed: BTreeMap<String, String>, max_bytes: u64) -> Result<(), String> {
    for file in signable(folder, max_bytes)? {
        let stated = listed.remove(&file.name).ok_or_else(|| format!("it does not list {}", file.name))?;
        let got = hexadecimal(&digest(&file.path)?);
        if got != stated {
            return Err(format!("{} has the SHA-256 {got}, {stated} is signed", file.name));
        }
    }
    match listed.keys().next() {
        Some(name) => Err(format!("{name} is listed, but not there")),
        None => Ok(()),
    }
}

fn expect(key: &str, got: &str, wanted: &str) -> Result<(), String> {
    if got == wanted {
        return Ok(());
    }
    Err(format!("{SIGNATURE}: {key} is `{}`, must be `{wanted}`", got.escape_debug()))
}

/// The bytes of a SHA-256 in small hexadecimal digits.
fn bytes(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
#[path = "signature/tests.rs"]
mod tests;

#[cfg(test)]
pub(crate) use tests::KEYS;
