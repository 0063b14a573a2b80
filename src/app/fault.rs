//! A fault on purpose, for the test of `sferic soak`.

use std::time::Duration;

/// Bytes that the daemon loses each second; the variable is for tests, and for nothing else.
const LEAK: &str = "SFERIC_FAULT_LEAK";

/// Parts of a second.
const PARTS: u32 = 10;

/// Keeps memory that nobody needs, where the environment asks for it.
pub async fn leak() {
    let asked = std::env::var(LEAK).ok().and_then(|bytes| bytes.parse::<usize>().ok());
    let Some(bytes) = asked else { return std::future::pending().await };
    tracing::warn!(bytes, "{LEAK} is set: this daemon loses so much memory each second");
    let mut lost = Vec::new();
    loop {
        tokio::time::sleep(Duration::from_secs(1) / PARTS).await;
        lost.push(vec![1u8; bytes / PARTS as usize]);
    }
}
