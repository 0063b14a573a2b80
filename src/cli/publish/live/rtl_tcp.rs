//! A receiver behind rtl_tcp.

use std::io;

use sferic_live::rtl_tcp::{HEADER_LEN, Header, NotRtlTcp, Tuning};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::feed::{Ended, Feed};
use super::retry::{ANSWERS_WITHIN, Retry, SILENCE};

/// Bytes read at once.
const BLOCK: usize = 64 << 10;

/// Why a connection ended.
enum Stop {
    /// Nobody takes frames any more.
    Ended,
    /// It is no rtl_tcp.
    Wrong(NotRtlTcp),
    /// It may come back.
    Away(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Away(error.to_string())
    }
}

/// Reads samples, across connections, until nobody takes them any more.
///
/// # Errors
/// Something else than rtl_tcp listens there.
pub async fn read(
    address: &str,
    tuning: &Tuning,
    mut feed: Feed,
    mut retry: Retry<'_>,
) -> anyhow::Result<()> {
    loop {
        match read_once(address, tuning, &mut feed, &mut retry).await {
            Stop::Ended => return Ok(()),
            Stop::Wrong(error) => anyhow::bail!("{address} is no rtl_tcp: {error}"),
            Stop::Away(why) => retry.wait(why).await,
        }
    }
}

async fn read_once(address: &str, tuning: &Tuning, feed: &mut Feed, retry: &mut Retry<'_>) -> Stop {
    let mut server = match timeout(ANSWERS_WITHIN, connect(address, tuning)).await {
        Ok(Ok((server, header))) => {
            retry.connected(format!("{}, {} gains", header.tuner_name(), header.gains));
            server
        }
        Ok(Err(stop)) => return stop,
        Err(_) => return Stop::Away(format!("does not answer within {ANSWERS_WITHIN:?}")),
    };
    let mut block = vec![0; BLOCK];
    let why = loop {
        match timeout(SILENCE, server.read(&mut block)).await {
            Ok(Ok(0)) => break "has ended the connection".to_owned(),
            Ok(Ok(read)) => {
                retry.sends();
                if let Err(Ended) = feed.take(&block[..read]).await {
                    return Stop::Ended;
                }
            }
            Ok(Err(error)) => break error.to_string(),
            Err(_) => break format!("has sent nothing for {SILENCE:?}"),
        }
    };
    feed.stopped();
    Stop::Away(why)
}

async fn connect(address: &str, tuning: &Tuning) -> Result<(TcpStream, Header), Stop> {
    let mut server = TcpStream::connect(address).await?;
    let mut header = [0; HEADER_LEN];
    match server.read_exact(&mut header).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(Stop::Away("has ended the connection before its header".to_owned()));
        }
        read => read?,
    };
    let header = Header::read(header).map_err(Stop::Wrong)?;
    server.write_all(&tuning.commands().concat()).await?;
    Ok((server, header))
}
