//! Signals: the first asks for an ordered end, the second ends at once; SIGHUP reloads.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Returns at the first SIGTERM or SIGINT; from then on a second one ends the process with 130.
///
/// # Errors
/// The signals cannot be watched.
pub async fn requested() -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        std::process::exit(130);
    });
    Ok(())
}

/// SIGHUPs from now on, which ask for the models to be loaded anew and do not end the process any more.
///
/// # Errors
/// The signal cannot be watched.
pub fn hang_ups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}
