//! Keeps a response while its content passes to the client.
//!
//! 1. Frames are shared, not copied, and never held back.
//! 2. Beyond `max_body`, or where the process has too much content under way already, everything is let go of at once.
//! 3. Only content that was read to its end is stored, and only if it is as long as it was said to be.
//! 4. What is stored is one copy of exactly its size: a frame may be a small part of a large read buffer, which would
//!    otherwise stay as long as the response.

use std::rc::Rc;

use bytes::Bytes;
use http_body::Frame;

use super::Cache;
use crate::body::{End, Watch};
use crate::cache::key::Key;
use crate::cache::store::Since;
use crate::cache::stored::{StoredResponse, into_stored_head};
use crate::cache::under_way::Filling;

/// A response on its way into the store.
pub(super) struct Fill {
    cache: Rc<Cache>,
    key: Key,
    since: Since,
    /// `None` once it has been stored or given up.
    response: Option<StoredResponse>,
    said: Option<u64>,
    frames: Vec<Bytes>,
    /// Room for the frames; `None` once they are let go of.
    room: Option<Filling>,
    length: u64,
    max_body: u64,
}

impl Fill {
    /// A fill of `response`, whose content is still to come. It was asked for by this key, at this moment;
    /// `said` is its `Content-Length`.
    pub(super) fn new(
        cache: Rc<Cache>,
        (key, since): (Key, Since),
        response: StoredResponse,
        said: Option<u64>,
        max_body: u64,
    ) -> Self {
        let room = Some(cache.under_way.fill());
        Self { cache, key, since, response: Some(response), said, frames: Vec::new(), room, length: 0, max_body }
    }

    fn give_up(&mut self) {
        self.response = None;
        self.frames = Vec::new();
        self.room = None;
    }

    fn content(&mut self) -> Bytes {
        let mut content = Vec::with_capacity(self.length as usize);
        self.frames.drain(..).for_each(|frame| content.extend_from_slice(&frame));
        content.into()
    }
}

impl Watch for Fill {
    fn frame(&mut self, frame: &Frame<Bytes>) {
        let (Some(bytes), Some(_)) = (frame.data_ref(), &self.response) else { return };
        self.length += bytes.len() as u64;
        let has_room = self.room.as_mut().is_some_and(|room| room.grow(bytes.len() as u64));
        if self.length > self.max_body || !has_room {
            return self.give_up();
        }
        self.frames.push(bytes.clone());
    }

    fn end(&mut self, end: End) {
        let Some(mut response) = self.response.take() else { return };
        if end != End::Complete || self.said.is_some_and(|said| said != self.length) {
            return;
        }
        response.content = self.content();
        into_stored_head(&mut response.head, response.status, response.content.len(), response.facts.received);
        self.cache.keep(&self.key, response, self.since);
    }
}
