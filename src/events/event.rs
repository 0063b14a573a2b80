//! An event, as viewers get it.

use bytes::Bytes;

use super::interest::Kind;

/// An event, written.
#[derive(Debug)]
pub struct Event {
    /// What it is.
    pub kind: Kind,
    /// The source that it is about.
    pub source: Option<String>,
    /// The number of an outcome, from 1.
    pub number: Option<u64>,
    /// Its lines in the stream.
    pub text: Bytes,
}

/// The lines of an event in the stream.
pub fn text(kind: Kind, id: Option<&str>, data: &str) -> Bytes {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    format!("{id}event: {}\ndata: {data}\n\n", kind.name()).into()
}
