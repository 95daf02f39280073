//! Logins whose record has changed, nobody knows how: Redis is asked again, off every request's path.
//!
//! 1. That a key has changed is told; what has changed is not. A login that is believed while Redis is away is forgotten at
//!    once, and doubted: many apps touch a record with every request, to prolong it.
//! 2. Ten times a second Redis is asked about what is doubted, all in one trip; whoever is logged in still is believed
//!    again. A change that comes in between counts (rule 2 of `grace`). A session that was revoked is none, whatever is there, nor is
//!    one of which Redis does not tell that.
//! 3. Doubts are bounded, and so is a trip. What is beyond, or asked while Redis does not answer, stays forgotten until
//!    the login's next request.
//!
//! # Why
//! Without it an app that touches its records would leave nobody to be believed: each request's own end would take back what
//! its beginning has confirmed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Pipeline, Value};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::known::{Known, Logins, Reading};
use super::redis::{Told, ask, told};
use super::remembered::Remembered;
use super::sightings::{ask_revoked, handle};
use crate::clock::{Clock, instant};
use crate::exchange::{Answer, Principal};
use crate::redis_pool::Link;
use crate::session::format::Record;
use crate::session::verdict::Found;

/// Keys doubted at a time.
const MOST: usize = 4096;
/// Logins asked about in one trip.
const AT_ONCE: usize = 256;
/// How often Redis is asked.
const EVERY: Duration = Duration::from_millis(100);

/// Logins to ask about again, by key.
#[derive(Debug, Default)]
pub struct Doubts(Mutex<ByKey>);

type ByKey = HashMap<Box<[u8]>, Logins>;

impl Doubts {
    /// Also about these.
    pub fn add(&self, key: &[u8], logins: Logins) {
        let mut doubts = self.0.lock();
        if doubts.len() < MOST || doubts.contains_key(key) {
            doubts.insert(key.into(), logins);
        }
    }

    /// Some of them, about which somebody asks now.
    fn take(&self) -> Vec<(Box<[u8]>, Arc<Known>)> {
        let mut doubts = self.0.lock();
        let mut taken = Vec::new();
        while taken.len() < AT_ONCE {
            let Some(key) = doubts.keys().next().cloned() else { break };
            let logins = doubts.remove(&key);
            taken.extend(logins.iter().flat_map(|logins| logins.iter()).map(|known| (key.clone(), known.clone())));
        }
        taken
    }
}

/// Asks again, as long as it lives.
#[derive(Debug)]
pub struct Asking(AbortHandle);

impl Asking {
    /// Asks `link`, where our keys have this `prefix`, about what `remembered` doubts. To be called inside a `LocalRuntime`.
    pub fn start(remembered: Arc<Remembered>, link: Link, prefix: &str, clock: Clock) -> Self {
        let prefix = prefix.to_owned();
        let asking = async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                settle(&remembered, &link, &prefix, &clock).await;
            }
        };
        Self(tokio::task::spawn_local(asking).abort_handle())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn settle(remembered: &Remembered, link: &Link, prefix: &str, clock: &Clock) {
    let (doubted, asked) = (remembered.doubts().take(), instant());
    if doubted.is_empty() {
        return;
    }
    let mut pipeline = Pipeline::new();
    let counts: Vec<_> = doubted.iter().map(|(key, known)| ask_about(known, key, prefix, &mut pipeline)).collect();
    // Redis is away: nobody is confirmed.
    let Ok(values) = link.query(&pipeline).await else { return };
    let (mut values, now) = (values.into_iter(), clock.unix_micros() / 1000);
    for ((key, known), count) in doubted.iter().zip(counts) {
        let answer: Vec<_> = values.by_ref().take(count).collect();
        if let Some(confirmed) = confirmed(known, answer, now) {
            remembered.keep_for_grace(key, Known { asked, ..confirmed });
        }
    }
}

/// Asks for the record, and whether the session was revoked where one can be; says how many commands that is.
fn ask_about(known: &Known, key: &[u8], prefix: &str, pipeline: &mut Pipeline) -> usize {
    let asked = ask(&known.reading, key, true, pipeline);
    if !is_revocable(known) {
        return asked;
    }
    ask_revoked(pipeline, prefix, &handle(key));
    asked + 1
}

fn is_revocable(known: &Known) -> bool {
    known.reading.definition().index.is_some()
}

/// The login as Redis tells of it at `now`, if it is one (rule 2).
fn confirmed(known: &Known, mut answer: Vec<Value>, now: u64) -> Option<Known> {
    let reading: &Arc<Reading> = &known.reading;
    if is_revocable(known) && answer.pop() != Some(Value::Nil) {
        return None;
    }
    let told = told(reading, Answer::Values(answer), now);
    let Told { found: Found::Record(Record { user: Some(user), attributes, .. }), life: Some(life), most } = told
    else {
        return None;
    };
    let principal = Principal { user, attributes, ..Principal::clone(&known.principal) };
    Some(Known { principal: Arc::new(principal), life, most, ..known.clone() })
}

#[cfg(test)]
mod tests {
    use super::super::known::Life;
    use super::super::known::tests::{known, reading};
    use super::*;
    use crate::session::Definition;
    use crate::session::settings::Index;

    #[test]
    fn doubts_are_bounded_and_taken_once() {
        let doubts = Doubts::default();
        let web = reading("web", "plan");
        let login = || Arc::from([Arc::new(known(&web, "5", instant()))]);
        (0..2 * MOST).for_each(|number| doubts.add(&number.to_be_bytes(), login()));
        doubts.add(&0_usize.to_be_bytes(), login());
        let taken: Vec<_> = std::iter::from_fn(|| Some(doubts.take()).filter(|taken| !taken.is_empty())).collect();
        assert!(taken.iter().all(|taken| taken.len() == AT_ONCE));
        assert_eq!(taken.len() * AT_ONCE, MOST);
    }

    #[test]
    fn who_is_logged_in_still_is_confirmed_as_the_record_says_now_and_nobody_else() {
        let login = known(&reading("web", "plan"), "5", instant());
        let text = |json: &str| Value::BulkString(json.as_bytes().to_vec());
        let says = |record, life| confirmed(&login, vec![record, Value::Int(life)], 0);
        let now = says(text(r#"{"id":"5","plan":"pro"}"#), 1500).expect("a login");
        assert_eq!((now.life, now.principal.attribute("plan")), (Life::Left(Duration::from_millis(1500)), Some("pro")));
        assert_eq!(now.principal.session_key, login.principal.session_key);
        assert!(says(Value::Nil, -2).is_none() && says(text(r#"{"plan":"pro"}"#), -1).is_none());
        assert!(says(text(r#"{"id":"5"}"#), -2).is_none(), "it ended between the two answers");
    }

    #[test]
    fn a_session_that_was_revoked_is_not_confirmed_nor_one_of_which_that_is_not_told() {
        let index = Some(Index { interval: EVERY, most: 1, ttl: EVERY, revoked_for: EVERY });
        let definition = Definition { index, ..Definition::clone(reading("web", "plan").definition()) };
        let login = known(&Reading::of(&Arc::new(definition)).unwrap(), "5", instant());
        let record = || Value::BulkString(br#"{"id":"5"}"#.to_vec());
        let says = |mark: Value| confirmed(&login, vec![record(), Value::Int(1500), mark], 0).is_some();
        assert!(says(Value::Nil) && !says(Value::BulkString(b"1".to_vec())) && !says(Value::Int(0)));
        assert!(confirmed(&login, vec![record(), Value::Int(1500)], 0).is_none());
        let mut pipeline = Pipeline::new();
        assert_eq!((ask_about(&login, b"session:k", "sidegate:", &mut pipeline), pipeline.len()), (3, 3));
    }
}
