//! Standard input, to its end.

use std::io::{self, Read};

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::feed::{Ended, Feed};

/// Bytes read at once: what a pipe holds.
const BLOCK: usize = 64 << 10;

/// Reads standard input until it ends.
///
/// # Errors
/// It cannot be read.
pub async fn read(feed: Feed) -> anyhow::Result<()> {
    let (done, ended) = oneshot::channel();
    let runtime = Handle::current();
    // A thread of its own: a read that waits for a writer cannot be cancelled, and must not hold up the end
    // of the runtime.
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut feed = feed;
            let read = read_to_end(&mut feed, &runtime);
            // Before the feed ends, which ends the command.
            _ = done.send(read);
        })
        .context("cannot start a thread for standard input")?;
    ended.await.context("the thread of standard input ended")?.context("cannot read standard input")
}

fn read_to_end(feed: &mut Feed, runtime: &Handle) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut stdin = io::stdin().lock();
    loop {
        let taken = match stdin.read(&mut block) {
            Ok(0) => {
                // Where nobody takes frames any more, the last one need not go either.
                _ = runtime.block_on(feed.end());
                return Ok(());
            }
            Ok(read) => runtime.block_on(feed.take(&block[..read])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => return Err(error),
        };
        if let Err(Ended) = taken {
            return Ok(());
        }
    }
}
