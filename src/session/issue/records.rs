//! Where the records of sessions that sidegate issues are written, and how.
//!
//! 1. What is written is acknowledged before anybody is told. Redis that is away, refuses or says something else: a failure,
//!    with a word for the log. Whether it was done all the same is not known then: a new record is taken back behind.
//! 2. A record and its end are one step: `SET … PX`, or a script for a hash.
//! 3. A session that has ended, or ends otherwise, is forgotten by this process before that is told, also what is on its way
//!    from Redis; other instances are told by Redis itself, or by us where it does not (`remembered`).

use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::{Pipeline, Value};

use super::record::Made;
use crate::clock::Clock;
use crate::exchange::{Answer, Located};
use crate::redis_pool::Link;
use crate::session::format::{Record, Stored, json};
use crate::session::store::ending::end_after;
use crate::session::store::known::Reading;
use crate::session::store::redis::{ask, told};
use crate::session::verdict::Found;
use crate::session::{Definition, Store};

/// Writes a hash; a link over which sessions are issued is made with it.
pub const SCRIPT: &str = include_str!("../store/scripts/issue.lua");

/// What Redis knows it by.
static HASH: LazyLock<String> = LazyLock::new(|| redis::Script::new(SCRIPT).get_hash().to_owned());

/// The records of one definition, on one worker.
pub struct Records {
    definition: Arc<Definition>,
    reading: Arc<Reading>,
    store: Store,
    link: Option<Link>,
    /// Of the channel on which changes are told.
    prefix: String,
    clock: Clock,
}

impl Records {
    /// Those of `definition`, in `store`; over `link`, if that is Redis, where our keys have this `prefix`.
    ///
    /// # Errors
    /// They cannot be read; says why.
    pub fn new(
        definition: Arc<Definition>,
        store: Store,
        link: Option<Link>,
        prefix: &str,
        clock: Clock,
    ) -> Result<Rc<Self>, String> {
        let (reading, prefix) = (Reading::of(&definition)?, prefix.to_owned());
        Ok(Rc::new(Self { reading, definition, store, link, prefix, clock }))
    }

    /// Since 1970.
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.clock.unix_micros())
    }

    /// The session that a credential's text names, if any.
    pub fn locate(&self, text: &[u8]) -> Option<Located> {
        self.reading.locate(text).ok()
    }

    /// Whether a record, once written, is a login.
    pub fn names_somebody(&self, made: &Made) -> bool {
        let now = self.clock.unix_micros() / 1000;
        let found = match made {
            Made::Json(text) => self.reading.read(Stored::Text(text), now),
            Made::Fields(fields) => {
                let of = |wanted: &String| fields.iter().rev().find(|(name, _)| name == wanted);
                let wanted = self.reading.fields().unwrap_or_default().iter();
                let values: Vec<_> = wanted.map(|name| of(name).map(|(_, text)| text.as_bytes())).collect();
                self.reading.read(Stored::Fields(&values), now)
            }
        };
        matches!(found, Found::Record(Record { user: Some(_), .. }))
    }

    /// Writes a new record, which ends after `life`.
    ///
    /// # Errors
    /// It is not there for certain; a word.
    pub async fn write(&self, key: &str, made: Made, life: Duration) -> Result<(), &'static str> {
        let link = match &self.store {
            Store::Memory(memory) => return if memory.put(key, made.into_json(), life) { Ok(()) } else { Err("full") },
            Store::Redis(_) => self.link()?,
        };
        let mut pipeline = Pipeline::with_capacity(1);
        match made {
            Made::Json(text) => pipeline.cmd("SET").arg(key).arg(text).arg("PX").arg(millis(life)),
            Made::Fields(fields) => {
                pipeline.cmd("EVALSHA").arg(&*HASH).arg(1).arg(key).arg(millis(life));
                fields.iter().fold(&mut pipeline, |pipeline, (name, text)| pipeline.arg(name).arg(text))
            }
        };
        let written = match link.query(&pipeline).await?.first() {
            Some(Value::Okay | Value::Int(1)) => return Ok(()),
            said => Err(refusal(said)),
        };
        self.take_back(key);
        written
    }

    /// Ends these sessions; says how many of them were there.
    ///
    /// # Errors
    /// They may still be there; a word.
    pub async fn end(&self, ended: &[Located]) -> Result<usize, &'static str> {
        let remembered = match &self.store {
            Store::Memory(memory) => return Ok(ended.iter().filter(|located| memory.remove(&located.key)).count()),
            Store::Redis(remembered) => remembered,
        };
        if ended.is_empty() {
            return Ok(0);
        }
        let mut pipeline = Pipeline::with_capacity(2 * ended.len());
        for located in ended {
            pipeline.cmd("DEL").arg(&located.key);
        }
        let keys: Vec<_> = ended.iter().map(|located| located.key.as_bytes()).collect();
        let answers = remembered.change(self.link()?, &self.prefix, &keys, pipeline).await?;
        match answers.iter().find(|said| !matches!(said, Value::Int(_))) {
            None => Ok(answers.iter().filter(|said| matches!(said, Value::Int(1..))).count()),
            said => Err(refusal(said)),
        }
    }

    /// Has a session end after `life` from now, and not after the longest that its definition allows; says how long that is.
    /// `None`: there is no such session, it is too old already, or its key has no end, which nothing of ours is without.
    ///
    /// # Errors
    /// Its end is as it was, for all that is known; a word.
    pub async fn extend(&self, located: &Located, life: Duration) -> Result<Option<Duration>, &'static str> {
        let Some(life) = self.allowed(located, life).await?.filter(|life| !life.is_zero()) else { return Ok(None) };
        let remembered = match &self.store {
            Store::Memory(memory) => return Ok(memory.extend(&located.key, life).then_some(life)),
            Store::Redis(remembered) => remembered,
        };
        let mut pipeline = Pipeline::with_capacity(2);
        end_after(&mut pipeline, located.key.as_bytes(), life);
        // It may end sooner now than is remembered.
        let said = remembered.change(self.link()?, &self.prefix, &[located.key.as_bytes()], pipeline).await?;
        match said.first() {
            Some(Value::Int(1)) => Ok(Some(life)),
            Some(Value::Int(_)) => Ok(None),
            said => Err(refusal(said)),
        }
    }

    /// As much of `life` as is left until the session is too old (`max_age`), if its record tells its birth; `None`: there is
    /// no record.
    async fn allowed(&self, located: &Located, life: Duration) -> Result<Option<Duration>, &'static str> {
        let Some(lifetime) = &self.definition.lifetime else { return Ok(Some(life)) };
        let found = self.found(std::slice::from_ref(located)).await?.pop();
        match found.unwrap_or(Found::Nothing) {
            Found::Record(record) => Ok(Some(record.born.map_or(life, |born| {
                let end = Duration::from_millis(born).saturating_add(lifetime.most);
                life.min(end.saturating_sub(self.now()))
            }))),
            Found::Unavailable(reason) | Found::Refused(reason) => Err(reason),
            _ => Ok(None),
        }
    }

    /// Those of `named` that have a record which is a session's.
    ///
    /// # Errors
    /// Nobody can tell; a word.
    pub async fn standing(&self, named: &[Located]) -> Result<Vec<Located>, &'static str> {
        let mut standing = Vec::with_capacity(named.len());
        for (located, found) in named.iter().zip(self.found(named).await?) {
            match found {
                Found::Unavailable(reason) | Found::Refused(reason) => return Err(reason),
                Found::Nothing | Found::Unreadable(_) => {}
                _ => standing.push(located.clone()),
            }
        }
        Ok(standing)
    }

    /// What there is under each of `named`.
    async fn found(&self, named: &[Located]) -> Result<Vec<Found>, &'static str> {
        if let Store::Memory(memory) = &self.store {
            let read = |bytes: bytes::Bytes| json::record(self.reading.wanted(), &bytes);
            let read = |bytes| read(bytes).map_or_else(Found::Unreadable, Found::Record);
            return Ok(named.iter().map(|located| memory.record(&located.key).map_or(Found::Nothing, read)).collect());
        }
        if named.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(named.len());
        for located in named {
            ask(&self.reading, located.key.as_bytes(), false, &mut pipeline);
        }
        let said = self.link()?.query(&pipeline).await?;
        let now = self.clock.unix_micros() / 1000;
        Ok(said.into_iter().map(|said| told(&self.reading, Answer::Values(vec![said]), now).found).collect())
    }

    /// Removes a record that nobody is told of, without waiting. If that fails, it ends by itself.
    pub fn take_back(&self, key: &str) {
        match (&self.store, &self.link) {
            (Store::Memory(memory), _) => {
                memory.remove(key);
            }
            (Store::Redis(_), Some(link)) => {
                let mut pipeline = Pipeline::with_capacity(1);
                pipeline.cmd("DEL").arg(key);
                link.send(pipeline);
            }
            (Store::Redis(_), None) => {}
        }
    }

    fn link(&self) -> Result<&Link, &'static str> {
        self.link.as_ref().ok_or("down")
    }
}

fn refusal(said: Option<&Value>) -> &'static str {
    match said {
        Some(Value::ServerError(_)) => "error",
        _ => "unexpected answer",
    }
}

/// At least one.
fn millis(life: Duration) -> u64 {
    u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1)
}
