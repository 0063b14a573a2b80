//! Connections: a bounded number, each with bounded times, so that slow clients cost nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use sferic_telemetry::Throttle;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep};

/// Connections at once; further ones wait until one is closed.
const MAX_CONNECTIONS: usize = 512;

/// Time for the head of a request, and for the next one on a connection that is kept.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of the head of a request.
const MAX_HEAD: usize = 64 << 10;

/// Time for a client to take an answer.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// The same for a stream of events: what a viewer has missed is counted, and it may come back to look.
const EVENTS_TAKEN_WITHIN: Duration = Duration::from_secs(600);

/// Pause after no connection could be accepted, because there are no file descriptors left for example.
const RETRY: Duration = Duration::from_millis(100);

/// Serves until `stopping` is true or its sender is gone; then no connection is accepted, and what was asked
/// for is answered.
pub(super) async fn serve(listener: TcpListener, routes: Router, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let unaccepted = Throttle::new(Duration::from_secs(1));
    let mut connections = JoinSet::new();
    loop {
        let accepting = async {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?.0, place))
        };
        let accepted = tokio::select! {
            accepted = accepting => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, place)) => {
                connections.spawn(connection(stream, routes.clone(), stopping.clone(), place));
            }
            Err(error) => {
                if let Some(suppressed) = unaccepted.pass(Instant::now()) {
                    tracing::warn!(%error, suppressed, "an HTTP connection could not be accepted");
                }
                sleep(RETRY).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    stream: TcpStream,
    routes: Router,
    mut stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true);
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(MAX_HEAD);
    let patience = Patience::default();
    let io = TokioIo::new(Timed { stream, taking: None, patience: patience.clone() });
    let routes = routes.layer(Extension(patience));
    let mut serving = std::pin::pin!(builder.serve_connection(io, TowerToHyperService::new(routes)));
    let stopped = async move { drop(stopping.wait_for(|stopping| *stopping).await) };
    let served = tokio::select! {
        served = serving.as_mut() => Some(served),
        () = stopped => None,
    };
    let served = match served {
        Some(served) => served,
        None => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error, "an HTTP connection ended");
    }
}

/// How long a connection's client may take for an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience(Arc<AtomicBool>);

impl Patience {
    /// Has patience with the reader of a stream of events, until the connection ends.
    pub(super) fn lengthen(&self) {
        self.0.store(true, Relaxed);
    }

    fn bound(&self) -> Duration {
        if self.0.load(Relaxed) { EVENTS_TAKEN_WITHIN } else { TAKEN_WITHIN }
    }
}

/// A stream that fails where its client does not take an answer in time, however slowly it reads.
struct Timed {
    stream: TcpStream,
    /// Since an answer first had to wait for the client.
    taking: Option<Pin<Box<Sleep>>>,
    patience: Patience,
}

impl Timed {
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let bound = self.patience.bound();
        ready!(self.taking.get_or_insert_with(|| Box::pin(sleep(bound))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, from) {
            Poll::Pending => self.wait(cx),
            written => written,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, from) {
            Poll::Pending => self.wait(cx),
            written => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called once an answer was written as a whole.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.taking = None;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
