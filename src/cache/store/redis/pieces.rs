//! Reads content that stands in Redis in pieces, while it is sent.
//!
//! 1. Only the pieces that the part in question lies in are read.
//! 2. The first of them is read, and the others are seen to be there, before the response's head goes out: until then it is
//!    a miss like any other.
//! 3. Then one piece is read ahead of the reader, and no more: what a slow reader holds of this process is two pieces.
//!    Each has the time-out of every trip to Redis.
//! 4. Each piece is checked before any of it is sent. One that is gone or damaged ends the content with an error: nobody
//!    takes what has been sent for the whole. The entry is deleted, and the next request is a miss.

use std::future::Future as _;
use std::ops::{Range, RangeInclusive};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use redis::{Pipeline, Value};
use tokio::task::JoinHandle;

use super::RedisStore;
use crate::body::{Body, BodyError};
use crate::cache::key::Key;
use crate::cache::rules::vary::Digest;
use crate::cache::store::NearStore;
use crate::cache::store::names::{EntryName, Names};
use crate::cache::stored::{Pieces, StoredResponse};
use crate::redis_pool::Link;

/// Where the pieces of one content stand.
struct Shelf {
    link: Link,
    near: Option<Arc<NearStore>>,
    names: Names,
    entry: EntryName,
    pieces: Pieces,
}

/// Content on its way to its reader.
struct Reading {
    shelf: Rc<Shelf>,
    /// The bytes of the whole that are still to be sent.
    rest: Range<u64>,
    /// The piece in which they begin.
    next: Next,
}

enum Next {
    Here(Bytes),
    Ahead(Ahead),
}

/// A piece that is being read; `None`: it is not there.
struct Ahead(JoinHandle<Option<Bytes>>);

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RedisStore {
    /// The content of `response`, which stands in `pieces`, or a part of it; `None`: not all of it can be read.
    pub async fn content(
        &self,
        key: &Key,
        response: &StoredResponse,
        pieces: Pieces,
        part: Option<&RangeInclusive<u64>>,
    ) -> Option<Body> {
        let rest = pieces.bytes_of(part);
        let mut numbers = pieces.numbers_of(&rest);
        let Some(first) = numbers.next() else { return Some(Body::empty()) };
        let entry = EntryName { digest: key.digest(), variant: response.variant.as_ref().map(|(_, variant)| *variant) };
        let near = self.near.as_ref().map(|(near, _)| near.clone());
        let names = Names::of(&self.prefix, key.place());
        let shelf = Rc::new(Shelf { link: self.link.clone(), near, names, entry, pieces });
        let here = shelf.first(first, numbers).await?;
        Some(Body::boxed(Reading { shelf, rest, next: Next::Here(here) }))
    }
}

impl Shelf {
    fn name(&self, number: u64) -> String {
        self.names.piece(self.digest(), self.pieces.id, number)
    }

    fn digest(&self) -> &Digest {
        &self.entry.digest
    }

    /// The first piece, if `others` are there, too.
    async fn first(&self, first: u64, others: Range<u64>) -> Option<Bytes> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("GET").arg(self.name(first));
        let wanted = others.end.saturating_sub(others.start);
        if wanted > 0 {
            pipeline.cmd("EXISTS").arg(others.map(|number| self.name(number)).collect::<Vec<_>>());
        }
        // A Redis that says nothing has not lost anything.
        let said = self.link.query(&pipeline).await.ok()?;
        let mut said = said.into_iter();
        let piece = said.next().and_then(|value| self.checked(first, value));
        let others = match said.next() {
            None => 0,
            Some(Value::Int(there)) => there.unsigned_abs(),
            // Refused (the rights of an older release): what is missing will end the content.
            Some(_) => wanted,
        };
        if piece.is_none() || others != wanted {
            self.let_go();
            return None;
        }
        piece
    }

    async fn piece(&self, number: u64) -> Option<Bytes> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("GET").arg(self.name(number));
        let said = self.link.query(&pipeline).await.ok()?.pop();
        let piece = said.and_then(|value| self.checked(number, value));
        if piece.is_none() {
            self.let_go();
        }
        piece
    }

    fn checked(&self, number: u64, value: Value) -> Option<Bytes> {
        match value {
            Value::BulkString(bytes) => self.pieces.decode(self.digest(), number, bytes.into()),
            _ => None,
        }
    }

    /// Deletes the entry, whose content cannot be read.
    fn let_go(&self) {
        tracing::debug!(pieces = self.pieces.count(), "content in Redis is gone or damaged");
        let mut pipeline = Pipeline::new();
        pipeline.cmd("DEL").arg(self.names.entry(&self.entry));
        self.link.send(pipeline);
        if let Some(near) = &self.near {
            near.forget(&self.names);
        }
    }
}

impl Reading {
    /// Begins to read the piece of this number.
    fn ahead(&self, number: u64) -> Ahead {
        let shelf = self.shelf.clone();
        Ahead(tokio::task::spawn_local(async move { shelf.piece(number).await }))
    }
}

impl HttpBody for Reading {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = match &mut self.next {
            Next::Here(piece) => std::mem::take(piece),
            Next::Ahead(ahead) => match ready!(Pin::new(&mut ahead.0).poll(cx)) {
                Ok(Some(piece)) => piece,
                Ok(None) | Err(_) => {
                    self.rest = 0..0;
                    return Poll::Ready(Some(Err(BodyError::Broken("a stored piece is gone"))));
                }
            },
        };
        let pieces = self.shelf.pieces;
        let number = self.rest.start / pieces.piece;
        let span = pieces.span(number);
        let end = span.end.min(self.rest.end);
        let sent = piece.slice((self.rest.start - span.start) as usize..(end - span.start) as usize);
        self.rest.start = end;
        if !self.rest.is_empty() {
            self.next = Next::Ahead(self.ahead(number + 1));
        }
        Poll::Ready(Some(Ok(Frame::data(sent))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.end - self.rest.start)
    }
}
