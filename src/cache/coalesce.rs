//! One fetch for all who ask for the same at a time (*request coalescing*).
//!
//! 1. Who asks first is the *driver*: its request goes to the app. Who asks meanwhile is a *waiter*.
//! 2. A driver that is dropped before its answer's head (its client left, its worker ended) hands over to the waiter that
//!    has waited longest and may drive; the others go on waiting.
//! 3. An answer that may be shared is read by a task of its own, as fast as it comes and into memory, where it is needed for
//!    the store anyway. Everybody streams from there, those who come later and the driver's own client as well. When the
//!    last of them has left the fetch is let go of.
//! 4. An answer that may not be shared sends all waiters their own way at once, in parallel. That is remembered for a while
//!    (*hit for miss*): until an answer may be shared again nobody waits for it. One that others may have of the store only is
//!    waited for until it is there.
//! 5. What grows beyond the bounds of the store is passed on to those who read it (`content`), and nobody can join. What is
//!    held of it for a reader that lags counts as `[memory] filling`; where there is no room, who lags is cut off.
//! 6. What is cut short is cut for everybody.
//! 7. Each flight has at most `max_waiters` waiters and readers; who finds it full goes its own way.
//! 8. A flight that has landed is remembered for a moment: who looked the store up before, and asks after, is told to
//!    look again.
//!
//! # Why a flight goes by the generation
//! A waiter reuses what was fetched before it came, so it must not be given what a write has invalidated meanwhile. The key of
//! a flight is therefore the primary key *and* the generation that its driver read. A waiter has looked the store up itself,
//! and joins by the generation that it has read. The proof of `store` holds word for word: that generation stood at its
//! look-up, and the fetch began after it was put there. After a write nobody finds the old flight.
//!
//! # Why the wait is a channel that carries the role
//! Cancellation is the whole problem: any future may be dropped at any point, on any thread. Whoever is the driver holds a
//! [`Driver`], one value; to hand over is to send it. If the receiver is gone it comes back, and goes to the next; if the
//! receiver goes with the value in its hands, the value is dropped with it and hands over again. No state says who drives.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use ahash::{HashMap, RandomState};
use parking_lot::Mutex;

use super::UnderWay;
use super::rules::vary::Digest;
use super::store::Generation;

mod content;
mod flight;
mod pilot;
mod reader;
mod recollection;
#[cfg(test)]
mod tests;

pub use flight::{Driver, Leave, Told, Waiter};
pub use pilot::{Ahead, Bounds, Landed, Pilot};
pub use reader::{BrokenOff, Reader};
pub use recollection::{Recalled, Recollection};

use flight::{Boarding, Flight};

/// Locks among which the flights of a process are spread.
const SHARDS: usize = 64;

/// Flights that have just landed, by shard: more of them are forgotten early, which costs a fetch.
const LANDED: usize = 64;

/// What a flight is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlightKey {
    /// Of the primary key.
    pub digest: Digest,
    /// The generation of its place, as it was looked up.
    pub generation: Generation,
    /// Of the request's selecting fields, where they are known.
    pub variant: Option<Digest>,
    /// Whether the request carries credentials: what is answered to them is not what is answered to nobody in particular.
    pub credentials: bool,
}

/// Who asks to join.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// For what.
    pub key: FlightKey,
    /// Whether its answer could be for others, too: it asks for the whole of a response, and without conditions.
    pub may_drive: bool,
    /// When its request came, before the store was looked up.
    pub since: Instant,
    /// Waiters and readers of one flight, at most.
    pub max_waiters: usize,
}

/// What becomes of one who asks.
#[derive(Debug)]
pub enum Joined<H> {
    /// It asks the app, for all. `landed`: such a flight has landed since the request came, the store has it probably.
    Drive {
        /// The role.
        driver: Driver<H>,
        /// Look the store up once more.
        landed: bool,
    },
    /// It waits.
    Wait(Waiter<H>),
    /// The head of the answer is there already; the content is read from the flight.
    Stream(H, Reader<H>),
    /// It asks the app for itself.
    Alone(Alone),
}

/// Why a request is not coalesced with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// The flight has as many waiters as it may.
    Crowded,
    /// The content in flight is too much to be held.
    Passing,
    /// Nobody is asking, and its own answer would not be for others.
    Unfit,
}

/// Why content cannot be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crowd {
    Full,
    Passing,
}

/// The fetches under way in this process, shared by its workers. `H` is the head of an answer, as waiters are given it.
pub struct Flights<H> {
    shards: Box<[Mutex<Shard<H>>]>,
    hasher: RandomState,
    under_way: Arc<UnderWay>,
    recollection: Recollection,
}

/// Some of the flights.
struct Shard<H> {
    flying: HashMap<FlightKey, Arc<Flight<H>>>,
    landed: VecDeque<(FlightKey, Instant)>,
}

impl<H> Flights<H> {
    /// None yet. Content on its way takes its room from `under_way`; what is remembered takes at most `max_remembered`
    /// bytes.
    pub fn new(under_way: Arc<UnderWay>, max_remembered: u64) -> Arc<Self> {
        let shard = |_| Mutex::new(Shard { flying: HashMap::default(), landed: VecDeque::new() });
        Arc::new(Self {
            shards: (0..SHARDS).map(shard).collect(),
            hasher: RandomState::new(),
            under_way,
            recollection: Recollection::new(max_remembered),
        })
    }

    /// What was learnt of keys whose answers could not be shared with everybody.
    pub fn recollection(&self) -> &Recollection {
        &self.recollection
    }

    /// Joins the flight of a key, or begins one.
    pub fn join(self: &Arc<Self>, asking: Asking) -> Joined<H>
    where
        H: Clone,
    {
        let mut shard = self.shard(&asking.key).lock();
        let landed = shard.has_landed(&asking);
        match shard.flying.entry(asking.key) {
            Entry::Occupied(mut entry) => match Flight::board(entry.get(), asking) {
                Boarding::Waits(waiter) => Joined::Wait(waiter),
                Boarding::Streams(head, reader) => Joined::Stream(head, reader),
                Boarding::Refused(crowd) => Joined::Alone(crowd.into()),
                Boarding::Over if asking.may_drive => {
                    let (flight, driver) = Flight::new(self.clone(), asking.key);
                    entry.insert(flight);
                    Joined::Drive { driver, landed }
                }
                Boarding::Over => Joined::Alone(Alone::Unfit),
            },
            Entry::Vacant(entry) if asking.may_drive => {
                let (flight, driver) = Flight::new(self.clone(), asking.key);
                entry.insert(flight);
                Joined::Drive { driver, landed }
            }
            Entry::Vacant(_) => Joined::Alone(Alone::Unfit),
        }
    }

    /// Fetches under way.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().flying.len()).sum()
    }

    fn shard(&self, key: &FlightKey) -> &Mutex<Shard<H>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// Nobody can join `flight` from here on. `landed`: its answer is in the store.
    fn remove(&self, flight: &Arc<Flight<H>>, landed: Option<Instant>) {
        let key = *flight.key();
        let mut shard = self.shard(&key).lock();
        if shard.flying.get(&key).is_some_and(|flying| Arc::ptr_eq(flying, flight)) {
            shard.flying.remove(&key);
        }
        if let Some(at) = landed {
            if shard.landed.len() >= LANDED {
                shard.landed.pop_front();
            }
            shard.landed.push_back((key, at));
        }
    }
}

impl FlightKey {
    /// What is remembered of it goes by this, whatever the generation and the variant.
    pub fn remembered_by(&self) -> Digest {
        let mut digest = self.digest;
        digest[0] ^= u8::from(self.credentials);
        digest
    }

    /// What the fleet knows the fetch by, whatever the generation: it is another for credentials, and for another variant.
    pub fn fetched_by(&self) -> Digest {
        let mut digest = self.remembered_by();
        let variant = self.variant.iter().flatten();
        digest.iter_mut().zip(variant).for_each(|(byte, of)| *byte ^= of);
        digest
    }
}

impl<H> Shard<H> {
    /// Whether such a flight has landed since the request came.
    fn has_landed(&self, asking: &Asking) -> bool {
        self.landed.iter().rev().any(|(key, at)| *key == asking.key && *at >= asking.since)
    }
}

impl From<Crowd> for Alone {
    fn from(crowd: Crowd) -> Self {
        match crowd {
            Crowd::Full => Self::Crowded,
            Crowd::Passing => Self::Passing,
        }
    }
}
