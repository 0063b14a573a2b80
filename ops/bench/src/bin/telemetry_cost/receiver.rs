//! An OTLP receiver over gRPC that discards everything unparsed, so that it uses next to no processor time
//! itself.

use axum::http::{HeaderMap, HeaderValue, Response};
use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

/// An empty message, uncompressed, as gRPC frames it.
const EMPTY: Bytes = Bytes::from_static(&[0; 5]);
/// What may be on its way before it is read.
const WINDOW: u32 = 8 << 20;

/// Says where it listens, and receives until it is killed.
pub async fn run() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    loop {
        tokio::spawn(receive(listener.accept().await?.0));
    }
}

async fn receive(stream: TcpStream) -> Result<(), h2::Error> {
    let mut builder = h2::server::Builder::new();
    let mut connection =
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        tokio::spawn(forget(request.into_body(), respond));
    }
    Ok(())
}

async fn forget(
    mut body: h2::RecvStream,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut stream = respond.send_response(response, false)?;
    stream.send_data(EMPTY, false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}
