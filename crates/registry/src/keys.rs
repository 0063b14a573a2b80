//! P-256 keys in PEM files.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use sha2::{Digest, Sha256};

/// A SubjectPublicKeyInfo of P-256 up to the point, which follows uncompressed (RFC 5480).
const PUBLIC: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The version and algorithm of a PKCS #8 key of P-256, before the octets that hold its SEC 1 form.
const PRIVATE: [u8; 24] = [
    0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
];

/// Length of an uncompressed point.
const POINT: usize = 65;

/// A public key that bundles may be signed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey([u8; POINT]);

/// A private key that signs bundles.
#[derive(Debug)]
pub struct PrivateKey(EcdsaKeyPair);

impl PublicKey {
    /// Reads a key: PEM text, or the path of a PEM file.
    ///
    /// # Errors
    /// The file cannot be read, or it is no public key of P-256.
    pub fn read(key: &str) -> Result<Self, String> {
        let key = key.trim();
        if key.starts_with("-----BEGIN") {
            return Self::parse(key);
        }
        let text = fs::read_to_string(key).map_err(|error| format!("can't read the key {key}: {error}"))?;
        Self::parse(&text).map_err(|error| format!("{key} {error}"))
    }

    fn parse(pem: &str) -> Result<Self, String> {
        let der = block(pem, "PUBLIC KEY")?;
        let point = der.strip_prefix(&PUBLIC).and_then(|point| <[u8; POINT]>::try_from(point).ok());
        point
            .filter(|point| point[0] == 4)
            .map(Self)
            .ok_or_else(|| "holds no public key of the curve P-256 (prime256v1), uncompressed".to_owned())
    }

    /// Whether `signature` (ASN.1, over SHA-256) of `message` was made with the private key of this one.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.0).verify(message, signature).is_ok()
    }

    /// SHA-256 of the key's PEM text, by which Sigstore bundles name it.
    pub(crate) fn hint(&self) -> [u8; 32] {
        let text = STANDARD.encode([&PUBLIC[..], &self.0].concat());
        let (first, second) = text.split_at(64);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n");
        Sha256::digest(pem).into()
    }
}

impl PrivateKey {
    /// Reads a PEM file, `PRIVATE KEY` (PKCS #8) or `EC PRIVATE KEY` (SEC 1), without a password.
    ///
    /// # Errors
    /// The file cannot be read, or holds no private key of P-256 with its public key.
    pub fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text =
            fs::read_to_string(path).map_err(|error| format!("can't read the key {shown}: {error}"))?;
        Self::parse(&text).map_err(|error| format!("{shown} {error}"))
    }

    fn parse(pem: &str) -> Result<Self, String> {
        let der = match block(pem, "PRIVATE KEY") {
            Ok(der) => der,
            Err(error) => pkcs8(&block(pem, "EC PRIVATE KEY").map_err(|_| error)?)
                .ok_or("holds no private key of the curve P-256 (prime256v1)")?,
        };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der, &SystemRandom::new());
        pair.map(Self).map_err(|error| {
            format!("holds no private key of the curve P-256 (prime256v1) with its public key: {error}")
        })
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        let mut point = [0; POINT];
        point.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(point)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let signature = self.0.sign(&SystemRandom::new(), message);
        signature.map(|signature| signature.as_ref().to_vec()).map_err(|error| format!("can't sign: {error}"))
    }
}

/// Wraps a SEC 1 key; `None` where it has not the length that one of P-256 has.
fn pkcs8(sec1: &[u8]) -> Option<Vec<u8>> {
    let octets = [&[0x04, u8::try_from(sec1.len()).ok()?][..], sec1].concat();
    // Lengths below 128 take one byte, others of these keys two.
    let length = u8::try_from(PRIVATE.len() + octets.len()).ok()?;
    let sequence: &[u8] = if length < 128 { &[0x30, length] } else { &[0x30, 0x81, length] };
    (sec1.len() < 128).then(|| [sequence, &PRIVATE, &octets].concat())
}

/// The content of the block with this label in a PEM text.
fn block(pem: &str, label: &str) -> Result<Vec<u8>, String> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let inner = pem.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
    let (inner, _) = inner.ok_or_else(|| format!("has no `{begin}`, the PEM form of a key"))?;
    let text: String = inner.split_ascii_whitespace().collect();
    STANDARD.decode(text).map_err(|error| format!("is no PEM file: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `openssl ecparam -name prime256v1 -genkey -noout` and `openssl ec -pubout`.
    const SEC1: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEILfxfVLttDhb+04sq1pFgMQZvfG3wWK9HWohkAZ7xwxSoAoGCCqGSM49
AwEHoUQDQgAErCeOoCLgtaj3TCci+WE0vh295NSeikAa+US6EPfRzQghZbR10yVO
n7izifBvXaknOk9JPURW7cZpN4e4Xr1W/A==
-----END EC PRIVATE KEY-----
";
    const PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAErCeOoCLgtaj3TCci+WE0vh295NSe
ikAa+US6EPfRzQghZbR10yVOn7izifBvXaknOk9JPURW7cZpN4e4Xr1W/A==
-----END PUBLIC KEY-----
";

    #[test]
    fn keys_are_read_as_openssl_writes_them() {
        let public = PublicKey::read(PEM).unwrap();
        let private = PrivateKey::parse(SEC1).unwrap();
        assert_eq!(private.public(), public);
        assert_eq!(PublicKey::read(&PEM.replace('\n', "\r\n")).unwrap(), public);
        let expected: [u8; 32] = Sha256::digest(PEM).into();
        assert_eq!(public.hint(), expected);
        let signature = private.sign(b"text").unwrap();
        assert!(public.has_signed(b"text", &signature));
        assert!(!public.has_signed(b"test", &signature));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, PEM).unwrap();
        assert_eq!(PublicKey::read(path.to_str().unwrap()).unwrap(), public);
        assert!(PrivateKey::read(&path).unwrap_err().contains("-----BEGIN PRIVATE KEY-----"));
    }

    #[test]
    fn what_is_no_key_of_p256_is_refused() {
        for (text, part) in [
            ("/no/such.pem", "/no/such.pem"),
            (SEC1, "BEGIN PUBLIC KEY"),
            ("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----", "no PEM"),
            ("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----", "P-256"),
        ] {
            let error = PublicKey::read(text).unwrap_err();
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
        assert!(PrivateKey::parse(&SEC1.replace("oUQDQg", "oUQDQh")).unwrap_err().contains("P-256"));
    }
}
