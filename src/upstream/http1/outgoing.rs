//! A request on its way to the app over HTTP/1.1.
//!
//! 1. The head is written anew from parsed parts: method, target as the client sent it, fields; nothing is copied from
//!    the bytes that the client sent. It is kept, so that the request can be sent again.
//! 2. Content with a length goes out as just so many bytes; content without one in chunks. Content that turns out
//!    shorter or longer than was said breaks the request off: the app must not take it for whole (RFC 9112 §8).
//! 3. The head and the first piece of content leave in one write, if the content is there already.
//! 4. The next piece is asked for when the one before has been written: the app's backpressure is the client's.
//! 5. An app that takes no more may have answered already: that is found out by reading.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::{Method, Request, Uri};
use tokio::io::AsyncWrite;

use super::head::content_length;
use crate::body::Body;
use crate::listener::transport::Transport;
use crate::upstream::content::{Fault, Piece, Progress, ToApp};

/// Room for the head of most requests, in bytes.
const TYPICAL_HEAD: usize = 1024;

/// A request on its way.
pub struct Outgoing {
    head: Vec<u8>,
    /// Bytes of the head that have been written.
    sent: usize,
    /// Boxed: few requests have content, and all futures on the way would have to be as large.
    content: Option<Box<Content>>,
    /// Something was written and not yet flushed.
    unflushed: bool,
    /// The app takes no more of it.
    refused: bool,
}

struct Content {
    from: ToApp,
    framing: Framing,
    /// What is being written: a chunk's size, content, what follows it.
    piece: [Bytes; 3],
    over: bool,
}

#[derive(Clone, Copy)]
enum Framing {
    /// So many bytes are still owed.
    Length(u64),
    Chunked,
}

impl Outgoing {
    /// `request`, whose content is already in the hands of `content` if it has any.
    ///
    /// # Errors
    /// Its length is malformed, or there is a length and no content.
    pub fn new(request: &Request<Body>, content: Option<ToApp>) -> Result<Self, &'static str> {
        let length = match request.headers().get(CONTENT_LENGTH) {
            Some(length) => Some(content_length(length.as_bytes()).ok_or("malformed Content-Length")?),
            None => None,
        };
        if content.is_none() && length.is_some_and(|length| length > 0) {
            return Err("Content-Length without content");
        }
        let framing = length.map_or(Framing::Chunked, Framing::Length);
        let head = serialize(request.method(), request.uri(), request.headers(), length, content.is_some());
        let piece = [Bytes::new(), Bytes::new(), Bytes::new()];
        let content = content.map(|from| Box::new(Content { from, framing, piece, over: false }));
        Ok(Self { head, sent: 0, content, unflushed: false, refused: false })
    }

    /// Writes what can be written; ready when all has been, or when the app takes no more.
    ///
    /// # Errors
    /// The client's content failed: the connection must be closed, for half a request is on it.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, transport: &mut Transport) -> Poll<Result<(), Fault>> {
        loop {
            if self.refused {
                return Poll::Ready(Ok(()));
            }
            let fetched = match &mut self.content {
                Some(content) => content.poll_fetch(cx)?,
                None => Poll::Ready(()),
            };
            let written = self.poll_write(cx, transport);
            ready!(self.note(written));
            ready!(fetched);
            if self.refused || self.content.as_ref().is_none_or(|content| content.over) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// All of it has been written.
    pub fn is_done(&self) -> bool {
        !self.refused
            && !self.unflushed
            && self.sent == self.head.len()
            && self.content.as_ref().is_none_or(|content| content.over && content.piece.iter().all(Bytes::is_empty))
    }

    /// Not a byte of it has been written.
    pub fn is_unsent(&self) -> bool {
        self.sent == 0
    }

    /// It has no content, so that nothing is lost when it is sent again.
    pub fn is_bodiless(&self) -> bool {
        self.content.is_none()
    }

    /// Nothing of its content has been taken, so that nothing is lost when it is sent again.
    pub fn is_untouched(&self) -> bool {
        self.content.as_ref().is_none_or(|content| content.from.pieces == 0)
    }

    /// The next piece of its content, for a protocol with a framing of its own; nothing may be asked for after the end.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Fault>> {
        let Some(content) = &mut self.content else { return Poll::Ready(Ok(Piece::End(HeaderMap::new()))) };
        let piece = match (ready!(content.from.poll_piece(cx))?, &mut content.framing) {
            (Piece::Content(piece, last), Framing::Length(left)) => {
                *left = left.checked_sub(piece.len() as u64).ok_or(Fault::Malformed)?;
                Piece::Content(piece, last && *left == 0)
            }
            (Piece::End(_), Framing::Length(1..)) => return Poll::Ready(Err(Fault::Gone)),
            (piece, _) => piece,
        };
        content.over = matches!(piece, Piece::Content(_, true) | Piece::End(_));
        Poll::Ready(Ok(piece))
    }

    /// From the beginning, over another connection; for one that is unsent or has no content.
    pub fn rewind(&mut self) {
        debug_assert!(self.is_unsent() || self.is_bodiless(), "content is sent once");
        (self.sent, self.unflushed, self.refused) = (0, false, false);
    }

    /// Lets content go that was held back until the app says 100.
    pub fn release(&mut self) {
        if let Some(content) = self.content() {
            content.held = false;
        }
    }

    /// The content, while not all of it has been taken and the app takes more.
    pub fn content(&mut self) -> Option<&mut ToApp> {
        if self.refused {
            return None;
        }
        self.content.as_deref_mut().filter(|content| !content.over).map(|content| &mut content.from)
    }

    /// How far its content has come.
    pub fn progress(&self) -> Progress {
        let Some(content) = &self.content else { return Progress::default() };
        let awaits_client = content.from.awaits_client && !content.over && !self.refused;
        Progress { pieces: content.from.pieces, awaits_client }
    }

    fn note(&mut self, written: Poll<io::Result<()>>) -> Poll<()> {
        if let Err(error) = ready!(written) {
            tracing::debug!(%error, "the app takes no more of a request");
            self.refused = true;
        }
        Poll::Ready(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, transport: &mut Transport) -> Poll<io::Result<()>> {
        loop {
            let head = &self.head[self.sent..];
            let Some(content) = &mut self.content else {
                if head.is_empty() {
                    break;
                }
                self.sent += wrote(ready!(Pin::new(&mut *transport).poll_write(cx, head))?)?;
                self.unflushed = true;
                continue;
            };
            let slices = [head, &content.piece[0], &content.piece[1], &content.piece[2]].map(IoSlice::new);
            if slices.iter().all(|slice| slice.is_empty()) {
                break;
            }
            let mut written = wrote(ready!(Pin::new(&mut *transport).poll_write_vectored(cx, &slices))?)?;
            self.unflushed = true;
            let of_head = written.min(head.len());
            self.sent += of_head;
            written -= of_head;
            for part in &mut content.piece {
                let some = written.min(part.len());
                part.advance(some);
                written -= some;
            }
        }
        if self.unflushed {
            ready!(Pin::new(transport).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

fn wrote(bytes: usize) -> io::Result<usize> {
    if bytes == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(bytes) }
}

impl Content {
    /// Has a piece ready for writing, if one has to be fetched and is there.
    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Fault> {
        if self.over || self.piece.iter().any(|part| !part.is_empty()) {
            return Ok(Poll::Ready(()));
        }
        let Poll::Ready(piece) = self.from.poll_piece(cx)? else { return Ok(Poll::Pending) };
        match (piece, &mut self.framing) {
            (Piece::Content(content, last), Framing::Length(left)) => {
                *left = left.checked_sub(content.len() as u64).ok_or(Fault::Malformed)?;
                self.over = last && *left == 0;
                self.piece[1] = content;
            }
            (Piece::Content(content, last), Framing::Chunked) => {
                self.piece[0] = format!("{:x}\r\n", content.len()).into();
                self.piece[1] = content;
                self.piece[2] = Bytes::from_static(if last { b"\r\n0\r\n\r\n" } else { b"\r\n" });
                self.over = last;
            }
            (Piece::End(_), Framing::Length(0)) => self.over = true,
            (Piece::End(_), Framing::Length(_)) => return Err(Fault::Gone),
            (Piece::End(trailers), Framing::Chunked) => {
                let mut end = b"0\r\n".to_vec();
                push_fields(&mut end, &trailers);
                end.extend_from_slice(b"\r\n");
                self.piece[2] = end.into();
                self.over = true;
            }
        }
        Ok(Poll::Ready(()))
    }
}

/// The head of a request, with the framing of its content (RFC 9112 §3, §6).
fn serialize(method: &Method, uri: &Uri, fields: &HeaderMap, length: Option<u64>, content: bool) -> Vec<u8> {
    let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    // An absolute form may leave the path out, the origin form may not (RFC 9112 §3.2.1).
    let root = if target.starts_with(['/', '*']) { "" } else { "/" };
    let mut head = Vec::with_capacity(TYPICAL_HEAD + target.len());
    for part in [method.as_str(), " ", root, target, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    push_fields(&mut head, fields);
    match length {
        Some(length) => {
            head.extend_from_slice(b"content-length: ");
            head.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        None if content => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        None => {}
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Field lines; what frames the content is not among them: it is written from what it was read as.
fn push_fields(bytes: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        if name == CONTENT_LENGTH || name == TRANSFER_ENCODING {
            continue;
        }
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        bytes.reserve(name.len() + value.len() + 4);
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
}
