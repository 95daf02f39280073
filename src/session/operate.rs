//! What operators ask of sessions, and have done to them: list a user's, revoke one or many.
//!
//! 1. Known is what was seen as it passed, where `index` is set, and what was issued. A session that no request has used since is not
//!    listed.
//! 2. What is listed was looked up: its record is there and names the user. What is over is forgotten on the way. A record
//!    that stands and names somebody else is another's session: it is no longer this user's, and nothing more is forgotten of it.
//! 3. To revoke is to mark the session as revoked, and then to remove the app's record, whatever framework wrote it. Every
//!    instance hears of it from Redis, as of a logout, or from us where Redis does not tell. What a request that was under way
//!    writes there afterwards is no login while the mark stands, for `index.revoked_for`; and no request that begins then shows the app
//!    its identifier (`sightings`).
//! 4. A session is named by its handle, a digest. No answer contains what a client could log in with.
//! 5. What Redis cannot tell or do is told as such: no list is silently short, and nothing is called revoked that is not. Where there
//!    was no record to remove, nothing was: that session is over, or has been replaced by another, which has a handle of its own.
//! 6. All of a user's are listed again until nothing new is among them: one that has replaced another meanwhile was noted before the
//!    other was ended (`issue`). Where new ones keep coming that is said, and is no success.
//!
//! # Why
//! Rule 3: the app finds no session and does what it does then; each framework has an answer to that. An app that also keeps
//! its sessions elsewhere (Django's `cached_db`) brings them back from there: revoke them there as well.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use redis::{Pipeline, Value as Said};
use serde_json::{Value, json};

use super::format::{Format, Record};
use super::sightings::Done;
use super::store::known::{Life, Reading};
use super::store::redis::{ask, told};
use super::store::remembered::Remembered;
use super::store::sightings::{self as keys, Sighting, is_handle};
use super::verdict::Found;
use crate::clock::Clock;
use crate::exchange::Answer;
use crate::rate_limit::operate::Trouble;
use crate::redis_pool::{Link, why_unanswered};

/// Sessions that are asked about in one trip: records may be large.
const AT_ONCE: usize = 64;

/// How often a user's sessions are listed while they are revoked, and new ones keep coming.
const MOST_PASSES: usize = 10;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The sessions of a user.
    List(Whose),
    /// The session of this handle is over.
    Revoke(String),
    /// All sessions of a user are over.
    RevokeAll {
        /// Whose.
        whose: Whose,
        /// The handle of one that stays.
        but: Option<String>,
    },
}

/// A user's sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    /// The user, as its records name it.
    pub user: String,
    /// Of this definition alone.
    pub session: Option<String>,
}

/// Who carries out orders, on one worker.
pub struct Operating {
    /// The definitions in use.
    readings: Vec<Arc<Reading>>,
    link: Option<Link>,
    prefix: String,
    remembered: Arc<Remembered>,
    done: Arc<Done>,
    clock: Clock,
}

/// A session that stands.
struct Standing {
    sighting: Sighting,
    life: Option<Life>,
}

impl Operating {
    /// For these definitions, each once; under our `prefix`.
    pub fn new(
        readings: Vec<Arc<Reading>>,
        link: Option<Link>,
        prefix: &str,
        remembered: Arc<Remembered>,
        done: Arc<Done>,
        clock: Clock,
    ) -> Self {
        Self { readings, link, prefix: prefix.to_owned(), remembered, done, clock }
    }

    /// Carries out an order.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn carry_out(&self, order: Order) -> Result<Value, Trouble> {
        let Some(link) = &self.link else {
            return Err(Trouble::Wrong("sessions are not in Redis here: nothing is known of them".into()));
        };
        match order {
            Order::List(whose) => {
                let (standing, _) = self.standing(link, &whose).await?;
                Ok(json!({ "user": whose.user, "sessions": standing.iter().map(shown).collect::<Vec<_>>() }))
            }
            Order::Revoke(handle) => {
                let longest = longest_mark(&self.indexed(None)?);
                let sighting = self.named(link, &handle).await?;
                if !self.end(link, &sighting, longest).await? {
                    return Err(over(&handle));
                }
                Ok(json!({ "user": sighting.user, "revoked": [handle] }))
            }
            Order::RevokeAll { whose, but } => {
                let revoked = self.end_all(link, &whose, but).await?;
                Ok(json!({ "user": whose.user, "revoked": revoked }))
            }
        }
    }

    /// Ends all sessions of a user save one; says which were ended (rule 6).
    async fn end_all(&self, link: &Link, whose: &Whose, but: Option<String>) -> Result<Vec<String>, Trouble> {
        let longest = longest_mark(&self.indexed(whose.session.as_deref())?);
        let (mut met, mut revoked) = (HashSet::new(), Vec::new());
        for pass in 0..MOST_PASSES {
            let (standing, listed) = self.standing(link, whose).await?;
            let all = standing.iter().map(|standing| (keys::handle(&standing.sighting.record), &standing.sighting));
            let all: Vec<_> = all.collect();
            if let (0, Some(but)) = (pass, &but) {
                if !all.iter().any(|(handle, _)| handle == but) {
                    return Err(Trouble::Unknown(format!("{but} is no session of this user: nothing was revoked")));
                }
                met.insert(but.clone());
            }
            let new: Vec<_> = all.into_iter().filter(|(handle, _)| !met.contains(handle)).collect();
            // What was listed and is over has been replaced meanwhile, perhaps.
            if listed.iter().all(|handle| met.contains(handle)) {
                return Ok(revoked);
            }
            for (handle, sighting) in new {
                if self.end(link, sighting, longest).await? {
                    revoked.push(handle);
                }
            }
            met.extend(listed);
        }
        let count = revoked.len();
        let why = format!("{count} were revoked, but new ones came all the while: some may be left, ask again");
        Err(Trouble::Unavailable(why))
    }

    /// The definitions that have an index, or the one of this name.
    fn indexed(&self, name: Option<&str>) -> Result<Vec<&Arc<Reading>>, Trouble> {
        let named = |reading: &&Arc<Reading>| name.is_none_or(|name| *reading.definition().name == *name);
        let all: Vec<_> = self.readings.iter().filter(named).collect();
        if let (true, Some(name)) = (all.is_empty(), name) {
            return Err(Trouble::Unknown(format!("no route has a session called {name}")));
        }
        let indexed: Vec<_> = all.into_iter().filter(|reading| reading.definition().index.is_some()).collect();
        if indexed.is_empty() {
            return Err(Trouble::Wrong("no index is kept: set `index = true` in [session.NAME]".into()));
        }
        Ok(indexed)
    }

    /// The sessions of a user that stand, the latest seen first (rule 2); and the handles of all that were listed.
    async fn standing(&self, link: &Link, whose: &Whose) -> Result<(Vec<Standing>, Vec<String>), Trouble> {
        let (mut all, mut listed) = (Vec::new(), Vec::new());
        for reading in self.indexed(whose.session.as_deref())? {
            let name = &reading.definition().name;
            let mut pipeline = Pipeline::new();
            keys::ask_handles(&mut pipeline, &self.prefix, name, &whose.user);
            let told = query(link, &pipeline).await?;
            let handles = told.first().map(keys::handles).unwrap_or_default();
            for some in handles.chunks(AT_ONCE) {
                all.extend(self.among(link, reading, &whose.user, some).await?);
            }
            listed.extend(handles);
        }
        all.sort_by_key(|standing| std::cmp::Reverse(standing.sighting.last));
        Ok((all, listed))
    }

    /// Those of `handles` that stand.
    async fn among(
        &self,
        link: &Link,
        reading: &Arc<Reading>,
        user: &str,
        handles: &[String],
    ) -> Result<Vec<Standing>, Trouble> {
        let (mut pipeline, mut over, name) = (Pipeline::new(), Pipeline::new(), &reading.definition().name);
        handles.iter().for_each(|handle| keys::ask_session(&mut pipeline, &self.prefix, handle));
        let told_of = query(link, &pipeline).await?;
        let mut known = Vec::new();
        for (handle, sighting) in handles.iter().zip(told_of.iter().map(keys::sighting)) {
            match sighting.filter(|sighting| keys::handle(&sighting.record) == *handle) {
                Some(sighting) => known.push(sighting),
                None => keys::forget_handle(&mut over, &self.prefix, name, user, handle),
            }
        }
        let mut pipeline = Pipeline::new();
        let each = known.iter().map(|sighting| ask(reading, &sighting.record, true, &mut pipeline)).max();
        let answers = query(link, &pipeline).await?;
        let (mut standing, now) = (Vec::new(), self.clock.unix_micros() / 1000);
        for (sighting, answer) in known.into_iter().zip(answers.chunks_exact(each.unwrap_or(1))) {
            let told = told(reading, Answer::Values(answer.to_vec()), now);
            match told.found {
                Found::Unavailable(why) | Found::Refused(why) => return Err(unavailable(why)),
                Found::Record(Record { user: Some(of), .. }) if of == user => {
                    // Seen last by another definition, it may have been noted as that one's.
                    let sighting = Sighting { user: of, session: name.to_string(), ..sighting };
                    standing.push(Standing { sighting, life: told.life });
                }
                found => {
                    let handle = keys::handle(&sighting.record);
                    keys::forget_handle(&mut over, &self.prefix, name, user, &handle);
                    match (found, told.life) {
                        (Found::Nothing, None) => keys::forget(&mut over, &self.prefix, &sighting),
                        // The record stands: it may be another user's login, and stays with its device.
                        _ => self.done.note_again(&sighting.record),
                    }
                }
            }
        }
        if !over.is_empty() {
            link.send(over);
        }
        Ok(standing)
    }

    /// What is known of the session of this handle.
    async fn named(&self, link: &Link, handle: &str) -> Result<Sighting, Trouble> {
        if !is_handle(handle) {
            return Err(Trouble::Wrong(
                "a handle is 32 hexadecimal digits, as `sidegate sessions list` shows it".into(),
            ));
        }
        let mut pipeline = Pipeline::new();
        keys::ask_session(&mut pipeline, &self.prefix, handle);
        let told = query(link, &pipeline).await?;
        let sighting = told.first().and_then(keys::sighting);
        let sighting = sighting.filter(|sighting| keys::handle(&sighting.record) == *handle);
        sighting.ok_or_else(|| over(handle))
    }

    /// Marks the session for `revoked_for`, removes the app's record, and then what is kept of it; not what it is bound to. `false`:
    /// there was no record.
    async fn end(&self, link: &Link, sighting: &Sighting, revoked_for: Duration) -> Result<bool, Trouble> {
        let mut pipeline = Pipeline::new();
        keys::mark_revoked(&mut pipeline, &self.prefix, &keys::handle(&sighting.record), revoked_for);
        // In a cluster the two lie apart: nobody is to find the record without the mark.
        if let Some(error) = query(link, &pipeline).await?.iter().find_map(as_error) {
            return Err(Trouble::Unavailable(format!("Redis refuses ({error}) to note it; it was not revoked")));
        }
        let mut pipeline = Pipeline::new();
        pipeline.cmd("DEL").arg(&sighting.record);
        if let Some(other) = self.beside(sighting) {
            pipeline.cmd("DEL").arg(other);
        }
        let answers = self.remembered.change(link, &self.prefix, &[&sighting.record], pipeline).await;
        self.done.forget(&sighting.record);
        let answers = all_told(answers)?;
        if let Some(error) = answers.iter().find_map(as_error) {
            let needs = "revoking needs the right to remove the app's sessions";
            return Err(Trouble::Unavailable(format!("Redis refuses ({error}): {needs}; it was not revoked")));
        }
        let mut pipeline = Pipeline::new();
        keys::forget_seen(&mut pipeline, &self.prefix, sighting);
        link.send(pipeline);
        Ok(matches!(answers.first(), Some(Said::Int(1..))))
    }

    /// Spring's indexed repository keeps a second key, whose end makes it clean up after the session.
    fn beside(&self, sighting: &Sighting) -> Option<Vec<u8>> {
        let reading = self.readings.iter().find(|reading| *reading.definition().name == *sighting.session)?;
        let definition = reading.definition();
        let Format::Spring { .. } = definition.format else { return None };
        let identifier = sighting.record.strip_prefix(definition.prefix.as_bytes())?;
        Some([definition.prefix.as_bytes(), b"expires:", identifier].concat())
    }
}

fn over(handle: &str) -> Trouble {
    Trouble::Unknown(format!("no session {handle} has been seen, or it is over"))
}

/// Several definitions may read one record: the longest time of theirs.
fn longest_mark(indexed: &[&Arc<Reading>]) -> Duration {
    let marks = indexed.iter().filter_map(|reading| reading.definition().index.as_ref());
    marks.map(|index| index.revoked_for).max().unwrap_or_default()
}

fn as_error(answer: &Said) -> Option<String> {
    if let Said::ServerError(error) = answer { Some(error.code().to_owned()) } else { None }
}

/// The answers to all of `pipeline`.
async fn query(link: &Link, pipeline: &Pipeline) -> Result<Vec<Said>, Trouble> {
    all_told(link.query(pipeline).await)
}

/// The answers, if there is one to each command.
fn all_told(answers: Result<Vec<Said>, &'static str>) -> Result<Vec<Said>, Trouble> {
    let answers = answers.map_err(unavailable)?;
    match answers.iter().find_map(why_unanswered) {
        Some(why) => Err(unavailable(why)),
        None => Ok(answers),
    }
}

fn unavailable(why: &str) -> Trouble {
    Trouble::Unavailable(format!("Redis does not tell of the sessions: {why}"))
}

/// A session for an answer.
fn shown(Standing { sighting, life }: &Standing) -> Value {
    let time = |millis: u64| {
        let time = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
        time.map(|time| time.to_string())
    };
    let left = life.and_then(|life| life.left_after(Duration::ZERO));
    json!({
        "handle": keys::handle(&sighting.record),
        "session": sighting.session,
        "first_seen": time(sighting.first),
        "last_seen": time(sighting.last),
        "address": sighting.address,
        "agent": sighting.agent,
        "ends_in": left.map(|left| left.as_secs()),
    })
}
