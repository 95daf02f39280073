//! Where the records of sessions that sidegate issues are written, and how.
//!
//! 1. What is written is acknowledged before anybody is told. Redis that is away, refuses or says something else: a failure,
//!    with a word for the log. Whether it was done all the same is not known then: a new record is taken back behind, as is one
//!    of which nobody is told.
//! 2. A record and its end are one step: `SET … PX`, or a script for a hash.
//! 3. A session that has ended, or ends otherwise, is forgotten by this process before that is told, also what is on its way
//!    from Redis; other instances are told by Redis itself, or by us where it does not (`remembered`).
//! 4. Where there is an index, a new session is in it before the one that it replaces is ended: whoever revokes all of a user's finds
//!    the one or the other. It is noted behind its record, in the same trip; in a cluster, where no order holds between nodes, in one
//!    more. A session that cannot be noted could not be revoked: it is not issued.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::HeaderValue;
use redis::{Pipeline, Value};

use super::record::Made;
use crate::clock::Clock;
use crate::exchange::{Answer, Located};
use crate::redis_pool::{Link, text, why_unanswered};
use crate::session::device::{Device, family};
use crate::session::format::{Record, Stored, json};
use crate::session::settings::Mismatch;
use crate::session::store::ending::end_after;
use crate::session::store::known::Reading;
use crate::session::store::redis::{ask, told};
use crate::session::store::sightings::{self, Sighting};
use crate::session::verdict::Found;
use crate::session::{Definition, Store};

/// Writes a hash; a link over which sessions are issued is made with it.
pub const SCRIPT: &str = include_str!("../store/scripts/issue.lua");

/// What Redis knows it by.
static HASH: LazyLock<String> = LazyLock::new(|| redis::Script::new(SCRIPT).get_hash().to_owned());

/// Where a request comes from.
pub struct Source {
    /// The client address.
    pub address: IpAddr,
    /// Its `User-Agent`, if it has one.
    pub agent: Option<HeaderValue>,
}

impl Source {
    fn agent(&self) -> &[u8] {
        self.agent.as_ref().map_or(b"", |agent| agent.as_bytes())
    }
}

/// The records of one definition, on one worker.
pub struct Records {
    definition: Arc<Definition>,
    reading: Arc<Reading>,
    store: Store,
    link: Option<Link>,
    /// Of our own keys, and of the channel on which changes are told.
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

    /// Whose login a record, once written, is; `None`: nobody's.
    pub fn user(&self, made: &Made) -> Option<String> {
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
        if let Found::Record(Record { user, .. }) = found { user } else { None }
    }

    /// Writes a new record, which ends after `life`, and then that it was `seen` (rule 4).
    ///
    /// # Errors
    /// It is not there for certain, or not known; a word.
    pub async fn write(
        &self,
        key: &str,
        made: Made,
        life: Duration,
        seen: Option<&Sighting>,
    ) -> Result<(), &'static str> {
        let link = match &self.store {
            Store::Memory(memory) => return if memory.put(key, made.into_json(), life) { Ok(()) } else { Err("full") },
            Store::Redis(_) => self.link()?,
        };
        let (mut pipeline, mut behind) = (Pipeline::with_capacity(3), Pipeline::new());
        match made {
            Made::Json(text) => pipeline.cmd("SET").arg(key).arg(text).arg("PX").arg(millis(life)),
            Made::Fields(fields) => {
                pipeline.cmd("EVALSHA").arg(&*HASH).arg(1).arg(key).arg(millis(life));
                fields.iter().fold(&mut pipeline, |pipeline, (name, text)| pipeline.arg(name).arg(text))
            }
        };
        if let (Some(seen), Some(index)) = (seen, &self.definition.index) {
            let noted = if link.is_cluster() { &mut behind } else { &mut pipeline };
            sightings::note(noted, &self.prefix, seen, life.saturating_add(sightings::SPARE), index.most);
        }
        for pipeline in [pipeline, behind] {
            let said = link.query(&pipeline).await?;
            let is_done = |said: &Value| matches!(said, Value::Okay | Value::Int(1));
            if said.len() < pipeline.len() || !said.iter().all(is_done) {
                return Err(refusal(said.iter().find(|said| !is_done(said))));
            }
        }
        Ok(())
    }

    /// Ends these sessions, which are `user`'s if that is known; says how many of them were there.
    ///
    /// # Errors
    /// They may still be there; a word.
    pub async fn end(&self, ended: &[Located], user: Option<&str>) -> Result<usize, &'static str> {
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
            None => {
                user.into_iter().for_each(|user| self.forget_seen(&keys, user));
                Ok(answers.iter().filter(|said| matches!(said, Value::Int(1..))).count())
            }
            said => Err(refusal(said)),
        }
    }

    /// What is over is no longer among the sessions of `user`. Nobody waits for it: who is told of it finds no record.
    fn forget_seen(&self, records: &[&[u8]], user: &str) {
        let (Some(_), Some(link)) = (&self.definition.index, &self.link) else { return };
        let mut pipeline = Pipeline::with_capacity(2 * records.len());
        for record in records {
            let handle = sightings::handle(record);
            sightings::forget_seen_of(&mut pipeline, &self.prefix, &self.definition.name, user, &handle);
        }
        link.send(pipeline);
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

    /// Those of `named` that have a record which is a session's, and stay with no other device than the one that asks.
    ///
    /// # Errors
    /// Nobody can tell; a word.
    pub async fn standing(&self, named: &[Located], from: &Source) -> Result<Vec<Located>, &'static str> {
        let mut standing = Vec::with_capacity(named.len());
        for (located, found) in named.iter().zip(self.found(named).await?) {
            match found {
                Found::Unavailable(reason) | Found::Refused(reason) => return Err(reason),
                Found::Nothing | Found::Unreadable(_) => {}
                _ => standing.push(located.clone()),
            }
        }
        self.at_home(standing, from).await
    }

    /// Those of `standing` that stay with no other device, where that matters (`bind`). As with a session that is judged, one that
    /// is bound to nothing yet, or to what cannot be read, is at home.
    async fn at_home(&self, standing: Vec<Located>, from: &Source) -> Result<Vec<Located>, &'static str> {
        let binding = self.definition.binding.filter(|binding| binding.mismatch != Mismatch::Report);
        let (Some(binding), false) = (binding, standing.is_empty()) else { return Ok(standing) };
        let mut pipeline = Pipeline::with_capacity(standing.len());
        for located in &standing {
            sightings::ask_device(&mut pipeline, &self.prefix, &sightings::handle(located.key.as_bytes()));
        }
        let said = self.link()?.query(&pipeline).await?;
        if let Some(reason) = said.iter().find_map(why_unanswered) {
            return Err(reason);
        }
        let fits = |said: &Value| {
            let device = text(said).and_then(Device::read);
            device.is_none_or(|device| device.fits(&binding, from.agent(), from.address))
        };
        Ok(standing.into_iter().zip(&said).filter(|(_, said)| fits(said)).map(|(located, _)| located).collect())
    }

    /// A new session of `user`, as it is noted where that is kept (`index`).
    pub fn seen(&self, located: &Located, user: String, from: &Source) -> Option<Sighting> {
        self.definition.index.as_ref()?;
        let now = self.clock.unix_micros() / 1000;
        Some(Sighting {
            user,
            session: self.definition.name.to_string(),
            record: located.key.as_bytes().to_owned(),
            first: now,
            last: now,
            address: from.address.to_string(),
            agent: family(from.agent()).into_owned(),
        })
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

    /// Before the record under `key` is written: takes it back when it is dropped, unless somebody is told of it; and that it was
    /// `seen`.
    pub fn untold<'a>(&'a self, key: &'a str, seen: Option<&'a Sighting>) -> Untold<'a> {
        Untold { records: self, key: Some(key), seen }
    }

    /// Removes a record that nobody is told of, without waiting. If that fails, it ends by itself.
    fn take_back(&self, key: &str, seen: Option<&Sighting>) {
        match (&self.store, &self.link) {
            (Store::Memory(memory), _) => {
                memory.remove(key);
            }
            (Store::Redis(_), Some(link)) => {
                let mut pipeline = Pipeline::with_capacity(3);
                pipeline.cmd("DEL").arg(key);
                seen.into_iter().for_each(|seen| sightings::forget_seen(&mut pipeline, &self.prefix, seen));
                link.send(pipeline);
            }
            (Store::Redis(_), None) => {}
        }
    }

    fn link(&self) -> Result<&Link, &'static str> {
        self.link.as_ref().ok_or("down")
    }
}

/// A new record that nobody knows of: the client may leave at any time, and Redis fail.
pub struct Untold<'a> {
    records: &'a Records,
    key: Option<&'a str>,
    seen: Option<&'a Sighting>,
}

impl Untold<'_> {
    /// The client is given its cookie: it stays.
    pub fn is_told(mut self) {
        self.key = None;
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        self.key.into_iter().for_each(|key| self.records.take_back(key, self.seen));
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
