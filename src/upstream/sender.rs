//! What requests are sent over: a connection to the app, or a place on one, by the protocol that it speaks.

use super::{http1, http2};

/// A way to the app.
pub enum Sender {
    /// HTTP/1.1: one request at a time.
    Http1(http1::Connection),
    /// HTTP/2: one of many on their connection.
    Http2(http2::Stream),
}

impl Sender {
    /// Whether nothing more may be sent over it; for one without a request under way.
    pub fn is_closed(&mut self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_closed(),
            Self::Http2(stream) => stream.is_closed(),
        }
    }
}
