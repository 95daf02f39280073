//! Stored responses in Redis, shared by the fleet.
//!
//! | key | value | life |
//! |---|---|---|
//! | `PREFIX cache:{PLACE}:g` | the place's generation | at least that of each entry stored under it |
//! | `PREFIX cache:{PLACE}:DIGEST` | a stored response, or the selecting fields of its variants | freshness, and a little |
//! | `PREFIX cache:{PLACE}:DIGEST:VARIANT` | a variant | the same |
//!
//! 1. All keys of a place lie in one cluster slot. DIGEST is the key's SHA-256, VARIANT that of the selecting fields.
//! 2. A look-up is one MGET, which goes with `gather`. Where this worker remembers the selecting fields of a URI it
//!    asks for the variant at once; only where it does not there is a second trip.
//! 3. Whatever does not read back is a miss.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderMap;
use quick_cache::unsync::Cache as Bounded;
use redis::{Pipeline, Value};

use super::{Found, Generation, Mint, Owed};
use crate::cache::key::Key;
use crate::cache::rules::vary::{Digest, Selecting};
use crate::cache::stored::{Entry, StoredResponse};
use crate::exchange::Answer;
use crate::redis_pool::Link;
use crate::redis_pool::key::{push_escaped, push_tagged};

/// How long a generation lives before anything is stored under it: longer than the app should take to answer.
const OPEN: Duration = Duration::from_secs(300);
/// How long selecting fields are kept, at least.
const SELECTING: Duration = Duration::from_secs(3600);
/// URIs whose selecting fields a worker remembers.
const REMEMBERED: usize = 4096;
/// Keys that are deleted, or walked past, in one trip.
const BATCH: usize = 500;

/// The store in Redis, as one worker sees it.
pub struct RedisStore {
    link: Link,
    prefix: Arc<str>,
    selecting: RefCell<Bounded<Digest, Selecting>>,
    mint: Mint,
}

impl RedisStore {
    /// A store under `prefix`.
    pub fn new(link: Link, prefix: Arc<str>) -> Self {
        Self { link, prefix, selecting: RefCell::new(Bounded::new(REMEMBERED)), mint: Mint::new() }
    }

    /// Adds the one command that looks up what is stored for a request with these fields.
    pub fn ask(&self, key: &Key, request: &HeaderMap, pipeline: &mut Pipeline) {
        let digest = key.digest();
        let variant = self.selecting.borrow().get(&digest).map(|selecting| selecting.variant(request));
        pipeline.cmd("MGET").arg(self.generation_key(key.place())).arg(self.entry_key(key, &digest, variant.as_ref()));
    }

    /// What is stored for a request with these fields. `answer` is what Redis said to [`RedisStore::ask`].
    pub async fn look_up(&self, key: &Key, request: &HeaderMap, answer: Answer) -> Found {
        let values = match answer {
            Answer::Values(values) => Ok(values),
            Answer::Unavailable(reason) => Err(reason),
            Answer::NotAsked | Answer::Near(_) => {
                let mut pipeline = Pipeline::new();
                self.ask(key, request, &mut pipeline);
                self.link.query(&pipeline).await
            }
        };
        match values {
            Ok(values) => self.read(key, request, values).await,
            Err(reason) => Found::Unavailable(reason),
        }
    }

    async fn read(&self, key: &Key, request: &HeaderMap, values: Vec<Value>) -> Found {
        let Some(Value::Array(pair)) = values.into_iter().next() else { return Found::Unavailable("refused") };
        let mut pair = pair.into_iter();
        let Some(generation) = pair.next().and_then(generation) else {
            return Found::Nothing { generation: None, other_variants: false };
        };
        let digest = key.digest();
        let entry = match pair.next().and_then(entry) {
            Some(Entry::Variants(selecting)) => {
                let variant = selecting.variant(request);
                self.selecting.borrow_mut().insert(digest, selecting);
                let mut pipeline = Pipeline::new();
                pipeline.cmd("GET").arg(self.entry_key(key, &digest, Some(&variant)));
                match self.link.query(&pipeline).await {
                    Ok(values) => values.into_iter().next().and_then(entry),
                    Err(reason) => return Found::Unavailable(reason),
                }
            }
            entry => entry,
        };
        match entry {
            Some(Entry::Response(response)) if response.generation == generation && response.selects(request) => {
                Found::Stored(response)
            }
            _ => {
                let other_variants = self.selecting.borrow().get(&digest).is_some();
                Found::Nothing { generation: Some(generation), other_variants }
            }
        }
    }

    /// The generation of the key's place: this proposal, or the one that was there first.
    pub async fn open(&self, key: &Key) -> Option<Generation> {
        let name = self.generation_key(key.place());
        let proposal = self.mint.generation().0.to_be_bytes();
        let mut pipeline = Pipeline::new();
        pipeline.cmd("SET").arg(&name).arg(&proposal).arg("NX").arg("PX").arg(OPEN.as_millis() as u64);
        pipeline.cmd("GET").arg(&name);
        let values = self.link.query(&pipeline).await.ok()?;
        values.into_iter().nth(1).and_then(generation)
    }

    /// Stores a response under its generation, without waiting.
    pub fn keep(&self, key: &Key, response: StoredResponse, life: Duration) {
        let digest = key.digest();
        let mut pipeline = Pipeline::new();
        let response = Arc::new(response);
        let mut set = |name: String, entry: Entry, life: Duration| {
            pipeline.cmd("SET").arg(name).arg(entry.encode()).arg("PX").arg(life.as_millis() as u64);
        };
        match &response.variant {
            None => {
                self.selecting.borrow_mut().remove(&digest);
                set(self.entry_key(key, &digest, None), Entry::Response(response.clone()), life);
            }
            Some((selecting, variant)) => {
                self.selecting.borrow_mut().insert(digest, selecting.clone());
                set(self.entry_key(key, &digest, None), Entry::Variants(selecting.clone()), life.max(SELECTING));
                set(self.entry_key(key, &digest, Some(variant)), Entry::Response(response.clone()), life);
            }
        }
        // The last, so that the generation outlives the entry.
        let generation = self.generation_key(key.place());
        pipeline.cmd("PEXPIRE").arg(generation).arg(life.as_millis() as u64 + 1000).arg("GT");
        self.link.send(pipeline);
    }

    /// Takes back everything at these places.
    ///
    /// # Errors
    /// A word that says why Redis could not be told; it may have been done all the same.
    pub async fn invalidate(&self, places: impl Iterator<Item = &str>) -> Result<(), &'static str> {
        let keys = places.map(|place| self.generation_key(place)).collect::<Vec<_>>();
        for batch in keys.chunks(BATCH) {
            self.delete(batch).await?;
        }
        Ok(())
    }

    async fn delete(&self, keys: &[impl redis::ToSingleRedisArg]) -> Result<(), &'static str> {
        let mut pipeline = Pipeline::with_capacity(keys.len());
        for key in keys {
            pipeline.cmd("DEL").arg(key);
        }
        let answers = self.link.query(&pipeline).await?;
        let all = answers.iter().all(|answer| matches!(answer, Value::Int(_)));
        if all { Ok(()) } else { Err("refused") }
    }

    /// Whether Redis answers, as far as is known.
    pub fn is_up(&self) -> bool {
        self.link.is_up()
    }

    /// Tells Redis what it is owed. What fails stays owed; somebody else being at it already is no failure.
    pub async fn settle(&self, owed: &Owed) {
        let Some(_settling) = owed.claim() else { return };
        let debts = owed.debts();
        let told = match debts.everything {
            Some(_) => self.invalidate_everything().await,
            None => self.invalidate(debts.places.keys().map(|place| &**place)).await,
        };
        match told {
            Ok(()) => owed.settled(&debts),
            Err(reason) => tracing::debug!(reason, "stored responses cannot be invalidated yet"),
        }
    }

    /// Deletes every generation under the prefix. SCAN promises to show each key that is there from its start to its end.
    async fn invalidate_everything(&self) -> Result<(), &'static str> {
        let mut pattern = String::new();
        for symbol in self.prefix.chars() {
            pattern.extend("*?[]\\".contains(symbol).then_some('\\'));
            pattern.push(symbol);
        }
        pattern.push_str("cache:{*}:g");
        let mut cursor = b"0".to_vec();
        loop {
            let mut pipeline = Pipeline::new();
            pipeline.cmd("SCAN").arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(BATCH);
            let answer = self.link.query(&pipeline).await?.into_iter().next();
            let Some(Value::Array(page)) = answer else { return Err("refused") };
            let mut page = page.into_iter();
            let (Some(Value::BulkString(next)), Some(Value::Array(keys))) = (page.next(), page.next()) else {
                return Err("refused");
            };
            let keys = keys.into_iter().filter_map(|key| match key {
                Value::BulkString(key) => Some(key),
                _ => None,
            });
            let keys = keys.collect::<Vec<_>>();
            if !keys.is_empty() {
                self.delete(&keys).await?;
            }
            if next == b"0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    fn push_place(&self, out: &mut String, place: &str) {
        let mut tag = String::with_capacity(place.len() + 16);
        push_escaped(&mut tag, place);
        push_tagged(out, &self.prefix, "cache", &tag);
    }

    fn generation_key(&self, place: &str) -> String {
        let mut key = String::with_capacity(self.prefix.len() + place.len() + 32);
        self.push_place(&mut key, place);
        key.push_str(":g");
        key
    }

    fn entry_key(&self, key: &Key, digest: &Digest, variant: Option<&Digest>) -> String {
        let mut name = String::with_capacity(self.prefix.len() + key.place().len() + 128);
        self.push_place(&mut name, key.place());
        for digest in [Some(digest), variant].into_iter().flatten() {
            name.push(':');
            BASE64_URL_SAFE_NO_PAD.encode_string(digest, &mut name);
        }
        name
    }
}

fn generation(value: Value) -> Option<Generation> {
    match value {
        Value::BulkString(bytes) => {
            bytes.as_slice().try_into().ok().map(|bytes| Generation(u128::from_be_bytes(bytes)))
        }
        _ => None,
    }
}

fn entry(value: Value) -> Option<Entry> {
    match value {
        Value::BulkString(bytes) => Entry::decode(Bytes::from(bytes)),
        _ => None,
    }
}
