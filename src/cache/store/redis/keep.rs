//! Puts a response into Redis, behind the request that brought it.
//!
//! 1. Whole content that nothing varies by and that carries no tags is one pipeline, and nobody looks at its answer.
//!    Everything else is a task. What carries tags is entered under them before anything is stored (`tags`).
//! 2. Large content goes ahead of its entry, piece by piece, each sent once the one before is there: other requests come in
//!    between, no time-out has to cover more than a piece, and no entry stands before its content does. If a piece cannot be
//!    written those that were are deleted, and there is no entry.
//! 3. Pieces outlive their entry by [`LINGER`], so that who has begun to read them comes to their end. Those that another
//!    fill replaces have as long from then on.
//! 4. A response that was freshened keeps the pieces that it has; they live on.
//! 5. The lock on the fetch goes with the response, and is let go of behind its entry, whatever way that takes: other
//!    instances that wait find it then.
//! 6. A variant is listed after it stands there ([`Variants`]). The list is replaced only by one that was made of it (a
//!    script, `list.lua`): no fill at the same time is forgotten, and what has to go for the newest is deleted.
//! 7. A part takes the place of no whole response, and of no list of variants, of its own generation (a script, `part.lua`;
//!    `list.lua` for its list): who asked for a part may come to its end after who asked for the whole.
//!
//! # Why pieces of a dead generation wait for the next fill
//! An invalidation deletes one key, whatever stands under it. What a look-up then meets is remembered here (the pieces, not
//! the content) until the fill that follows can let go of it. Where none follows it ends by itself.

use std::time::Duration;

use bytes::Bytes;
use http::header::ETAG;
use redis::{Pipeline, Value};

use super::tags::Tagged;
use super::{CLOCKS, LISTING, PLACING, RedisStore, SELECTING, STEP};
use crate::cache::key::Key;
use crate::cache::rules::vary::Digest;
use crate::cache::store::names::{EntryName, Names};
use crate::cache::store::{Keeping, Kept};
use crate::cache::stored::{Content, Entry, Form, Known, Pieces, SEAL, StoredResponse, Variants};
use crate::redis_pool::Link;

/// How long pieces outlive their entry, in seconds: how long a reader may take for them.
const LINGER: u64 = 300;
/// How often a list is made anew when others change it at the same time.
const TRIES: usize = 5;

/// A response on its way into Redis.
struct Sending {
    link: Link,
    form: Form,
    names: Names,
    digest: Digest,
    response: StoredResponse,
    life: Duration,
    /// Seconds since the Unix epoch.
    now: u64,
}

/// What else there is to do than to store an entry.
#[derive(Default)]
struct Beside {
    /// Content that goes ahead in pieces.
    cut: Option<(Pieces, Bytes)>,
    /// Pieces of content that is replaced.
    replaced: Option<Pieces>,
}

impl RedisStore {
    /// Stores a response under its generation, without waiting.
    pub fn keep(&self, key: &Key, response: StoredResponse, Keeping { tags, since, life, lock, .. }: Keeping) -> Kept {
        let now = self.clock.unix_seconds();
        if since.is_over(now) {
            return Kept::default();
        }
        let digest = key.digest();
        match &response.variant {
            None => self.learnt.forget(&digest),
            // Its list may be refused: it is learnt as it is met.
            Some(_) if response.part.is_some() => {}
            Some((selecting, _)) => self.learnt.learn(digest, selecting, response.head.contains_key(ETAG)),
        }
        let (link, form, names) = (self.link.clone(), self.form, Names::of(&self.prefix, key.place()));
        let sending = Sending { link, form, names, digest, response, life, now };
        let beside = self.beside(&sending);
        let is_plain = beside.cut.is_none() && beside.replaced.is_none() && sending.response.variant.is_none();
        let weight = sending.response.weight() as usize;
        if !tags.is_empty() {
            let tagged = Tagged { tags, place: key.place().to_owned(), since, life, now };
            let (link, prefix, marks) = (self.link.clone(), self.prefix.clone(), self.marks.clone());
            let (storing, kept) = Kept::after();
            self.link.behind(weight, async move {
                let _storing = storing;
                if tagged.enter(&link, &prefix, &marks).await {
                    sending.by_steps(beside).await;
                }
                drop(lock);
            });
            return kept;
        }
        if is_plain {
            self.link.send(sending.entry());
            drop(lock);
        } else {
            self.link.behind(weight, async move {
                sending.by_steps(beside).await;
                drop(lock);
            });
        }
        Kept::default()
    }

    fn beside(&self, sending: &Sending) -> Beside {
        let met = self.met.borrow_mut().remove(&sending.name()).map(|(_, pieces)| pieces);
        match &sending.response.content {
            Content::Whole(bytes) if bytes.len() as u64 > self.form.piece => {
                let pieces = Pieces::new(self.mint.mark(), bytes.len() as u64, self.form.piece);
                Beside { cut: Some((pieces, bytes.clone())), replaced: met }
            }
            Content::Whole(_) => Beside { cut: None, replaced: met },
            Content::Pieces(pieces) => Beside { cut: None, replaced: met.filter(|met| met.id != pieces.id) },
        }
    }
}

impl Sending {
    fn name(&self) -> EntryName {
        EntryName { digest: self.digest, variant: self.response.variant.as_ref().map(|(_, variant)| *variant) }
    }

    async fn by_steps(mut self, Beside { cut, replaced }: Beside) {
        let cut = match cut {
            None => None,
            Some((pieces, whole)) => {
                if !self.write(&pieces, &whole).await {
                    return self.delete(&pieces);
                }
                self.response.content = Content::Pieces(pieces);
                Some(pieces)
            }
        };
        let mut pipeline = self.entry();
        let is_part = self.response.part.is_some();
        if is_part {
            // It may be refused: nothing else is done before it stands there.
            if !self.link.query(&pipeline).await.is_ok_and(|said| matches!(said[..], [Value::Okay, ..])) {
                return cut.iter().for_each(|pieces| self.delete(pieces));
            }
            if replaced.is_none() && self.response.variant.is_none() {
                return;
            }
            pipeline = Pipeline::new();
        }
        if let Some(replaced) = replaced {
            self.end_in(&replaced, LINGER, "LT", &mut pipeline);
        }
        let newest = self.response.variant.as_ref().map(|(selecting, variant)| {
            let known = Known::of_response(*variant, &self.response);
            Variants::new(selecting.clone(), self.response.generation, known)
        });
        let mut gone = Vec::new();
        if let Some(newest) = &newest {
            gone = self.list(newest, &Bytes::new(), &mut pipeline);
        }
        let mut said = self.link.query(&pipeline).await.unwrap_or_default();
        if !is_part && !matches!(said[..], [Value::Okay, ..]) {
            return cut.iter().for_each(|pieces| self.delete(pieces));
        }
        let Some(newest) = newest else { return };
        let mut answer = said.pop();
        // What stands there was not known, or changes at the same time.
        for _ in 0..TRIES {
            let Some(Value::BulkString(other)) = answer else { break };
            let mut pipeline = Pipeline::new();
            gone = self.list(&newest, &other.into(), &mut pipeline);
            answer = self.link.query(&pipeline).await.unwrap_or_default().pop();
        }
        if let Some(Value::Int(_)) = answer {
            self.let_go(&gone);
        }
    }

    /// What stores the entry, and lets its generation and the pieces that it has already live as long.
    fn entry(&self) -> Pipeline {
        let mut pipeline = Pipeline::new();
        let entry = self.response.encode(&self.digest, self.form);
        let life = self.life.as_millis() as u64;
        let name = self.names.entry(&self.name());
        if self.response.part.is_some() {
            let token = self.response.generation.proposal();
            pipeline.cmd("EVALSHA").arg(PLACING.as_str()).arg(1).arg(name).arg(&token).arg(entry).arg(life);
        } else {
            pipeline.cmd("SET").arg(name).arg(entry).arg("PX").arg(life);
        }
        let end = self.now + self.life.as_secs() + CLOCKS;
        pipeline.cmd("EXPIREAT").arg(self.names.generation()).arg(end.next_multiple_of(STEP)).arg("GT");
        if let Content::Pieces(pieces) = &self.response.content {
            self.end_in(pieces, self.life.as_secs() + LINGER, "GT", &mut pipeline);
        }
        pipeline
    }

    /// Adds what lets pieces end in so many seconds, if that is later (`GT`) or earlier (`LT`) than they would.
    fn end_in(&self, pieces: &Pieces, seconds: u64, which: &str, pipeline: &mut Pipeline) {
        for number in 0..pieces.count() {
            pipeline
                .cmd("PEXPIRE")
                .arg(self.names.piece(&self.digest, pieces.id, number))
                .arg(seconds * 1000)
                .arg(which);
        }
    }

    /// Writes the pieces; says whether all of them are there.
    async fn write(&self, pieces: &Pieces, whole: &Bytes) -> bool {
        let compress = self.form.compress.then_some(&self.response.head);
        let life = (self.life + Duration::from_secs(LINGER)).as_millis() as u64;
        for number in 0..pieces.count() {
            let span = pieces.span(number);
            let piece = pieces.encode(&self.digest, number, &whole[span.start as usize..span.end as usize], compress);
            let mut pipeline = Pipeline::new();
            let name = self.names.piece(&self.digest, pieces.id, number);
            pipeline.cmd("SET").arg(name).arg(piece).arg("PX").arg(life);
            if !self.link.query(&pipeline).await.is_ok_and(|said| matches!(said[..], [Value::Okay])) {
                return false;
            }
        }
        true
    }

    /// Deletes what there is of these pieces.
    fn delete(&self, pieces: &Pieces) {
        let mut pipeline = Pipeline::new();
        for number in 0..pieces.count() {
            pipeline.cmd("DEL").arg(self.names.piece(&self.digest, pieces.id, number));
        }
        self.link.send(pipeline);
    }

    /// Adds what lists the newest variant if the list is still `before`; says which variants have to go for it.
    fn list(&self, newest: &Variants, before: &Bytes, pipeline: &mut Pipeline) -> Vec<Digest> {
        let known = match Entry::decode(before.clone(), &self.digest, 0) {
            Some(Entry::Variants(variants)) => Some(variants),
            _ => None,
        };
        let (variants, gone) = newest.clone().and(known, self.form.max_variants);
        let list = variants.encode(&self.digest);
        let name = self.names.entry(&EntryName { digest: self.digest, variant: None });
        let (seal, life) = (&before[..before.len().min(SEAL)], self.life.max(SELECTING).as_millis() as u64);
        pipeline.cmd("EVALSHA").arg(LISTING.as_str()).arg(1).arg(name).arg(seal).arg(list).arg(life);
        if self.response.part.is_some() {
            pipeline.arg(&self.response.generation.proposal());
        }
        gone
    }

    /// Deletes variants that are listed no more.
    fn let_go(&self, gone: &[Digest]) {
        let mut pipeline = Pipeline::new();
        for variant in gone {
            pipeline.cmd("DEL").arg(self.names.entry(&EntryName { digest: self.digest, variant: Some(*variant) }));
        }
        if !gone.is_empty() {
            self.link.send(pipeline);
        }
    }
}
